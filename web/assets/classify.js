// Sends chosen or dropped pictures a few at a time and puts the answers into this page as they come, in order. Without
// this script the form works as a form.
"use strict";

const form = document.getElementById("classify");
const drop = form.querySelector(".drop");
const input = form.querySelector("input");
const button = form.querySelector("button");
const words = form.querySelector("[role=status]");
const results = document.getElementById("results");
const mostFiles = 8;
const mostBytes = 16e6;

const over = (on) => (event) => { event.preventDefault(); drop.classList.toggle("over", on); };
drop.addEventListener("dragover", over(true));
drop.addEventListener("dragleave", over(false));
drop.addEventListener("drop", (event) => {
  over(false)(event);
  if (!event.dataTransfer.files.length) return;
  input.files = event.dataTransfer.files;
  form.requestSubmit();
});
input.addEventListener("change", () => { if (input.files.length) form.requestSubmit(); });

function groups(files) {
  const found = [];
  let bytes = 0;
  for (const file of files) {
    const last = found.at(-1);
    if (last && last.length < mostFiles && bytes + file.size <= mostBytes) {
      last.push(file);
      bytes += file.size;
    } else {
      found.push([file]);
      bytes = file.size;
    }
  }
  return found;
}

async function classify(files) {
  const body = new FormData();
  for (const file of files) body.append(input.name, file);
  const answer = await fetch(form.action, { method: "POST", body });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const shown = results.querySelector(".answers");
  const fresh = page.querySelector(".answers");
  if (shown && fresh) shown.append(...fresh.children);
  else results.append(fresh ?? page.querySelector(".alert"));
  return Boolean(fresh);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  results.replaceChildren();
  const files = [...input.files];
  let done = 0;
  try {
    for (const group of groups(files)) {
      words.textContent = `Classifying ${done + 1} of ${files.length}…`;
      if (!(await classify(group))) break;
      done += group.length;
    }
    words.textContent = done ? `${done} of ${files.length} classified.` : "";
  } catch {
    words.textContent = "The service cannot be reached.";
  }
  button.disabled = false;
});
