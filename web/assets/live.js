// Follows something by its server-sent events: each event renews the fragment (at most a few times a second), the end
// opens the page that tells how it ended.
"use strict";

const live = document.getElementById("live");
const { events, fragment, then } = live.dataset;
const source = new EventSource(events);
const pause = 400;
let asked = false;

async function renew() {
  if (asked) return;
  asked = true;
  await new Promise((resume) => setTimeout(resume, pause));
  asked = false;
  const answer = await fetch(fragment).catch(() => null);
  if (answer?.ok) live.innerHTML = await answer.text();
}

source.addEventListener("message", ({ data }) => {
  const { event, state } = JSON.parse(data);
  if (event === "end" || state === "succeeded" || state === "failed") {
    source.close();
    location.replace(then);
  } else {
    renew();
  }
});
