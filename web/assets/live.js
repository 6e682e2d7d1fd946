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
  if (!answer?.ok) return;
  const fresh = live.cloneNode(false);
  fresh.innerHTML = await answer.text();
  becomeLike(live, fresh);
}

// Changes only what differs, so that focus, scrolled tables and opened details stay as they are.
function becomeLike(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  // What somebody may be filling in is left alone until it is about something else.
  if ("still" in old.dataset) {
    const isOpen = old.querySelector("details")?.open;
    if (old.dataset.still === fresh.dataset.still || old.contains(document.activeElement)) return;
    old.replaceWith(fresh);
    fresh.querySelector("details")?.toggleAttribute("open", isOpen);
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const present = [...old.childNodes];
  const coming = [...fresh.childNodes];
  coming.forEach((node, n) => (present[n] ? becomeLike(present[n], node) : old.append(node)));
  present.slice(coming.length).forEach((node) => node.remove());
}

source.addEventListener("message", ({ data }) => {
  // A run's events name what happened, and a candidate's state is not the run's. An upload's have nothing but its state.
  const { event, state } = JSON.parse(data);
  const isOver = event ? event === "end" : state === "succeeded" || state === "failed";
  if (isOver) {
    source.close();
    location.replace(then);
  } else {
    renew();
  }
});
