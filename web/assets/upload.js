// Uploads with a progress bar, dropping of files, and further class rows. Without this script the forms work as forms.
"use strict";

for (const drop of document.querySelectorAll(".drop")) {
  const input = drop.querySelector("input");
  const over = (on) => (event) => { event.preventDefault(); drop.classList.toggle("over", on); };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) input.files = event.dataTransfer.files;
  });
}

const addClass = document.querySelector(".add-class");
addClass.hidden = false;
addClass.addEventListener("click", () => {
  const rows = document.querySelector(".classes");
  const row = rows.lastElementChild.cloneNode(true);
  for (const input of row.querySelectorAll("input")) input.value = "";
  row.querySelector("legend").textContent = `Class ${rows.children.length + 1}`;
  rows.append(row);
  row.querySelector("input").focus();
});

for (const form of document.querySelectorAll("form.upload")) {
  const state = form.querySelector(".upload-state");
  const bar = state.querySelector("progress");
  const words = state.querySelector("[role=status]");
  const alert = form.querySelector(".alert");
  const button = form.querySelector("button[type=submit]");
  const failed = (message) => {
    state.hidden = true;
    alert.hidden = false;
    alert.textContent = message;
    button.disabled = false;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    alert.hidden = true;
    state.hidden = false;
    button.disabled = true;
    const request = new XMLHttpRequest();
    request.responseType = "json";
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      bar.value = total ? (100 * loaded) / total : 0;
      words.textContent = `${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
    });
    request.addEventListener("load", () => {
      if (request.status === 202) location.assign(request.response.links.page);
      else failed(request.response?.error?.message ?? `The service answered ${request.status}.`);
    });
    request.addEventListener("error", () => failed("The upload broke off. Is the service still there, and the upload within its limit?"));
    request.open("POST", "/api/datasets");
    request.send(new FormData(form));
  });
}
