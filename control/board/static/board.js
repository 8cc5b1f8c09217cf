// Keeps the sections of the first page as the board has them, and says how old each figure is.
"use strict";

const STALE_S = 5;
let ahead_s = 0; // of the board's clock before ours
let paused = false;
let lost = null;
const waiting = new Map();

function show(name, html) {
  const section = document.getElementById(name);
  if (section === null) return;
  const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
  const scrolled = [...section.querySelectorAll(".wide")].map((each) => each.scrollLeft);
  const selection = document.getSelection();
  if (selection !== null && !selection.isCollapsed && section.contains(selection.anchorNode)) {
    waiting.set(name, html); // somebody copies from it
    return;
  }
  section.innerHTML = html;
  section.querySelectorAll(".wide").forEach((each, at) => { each.scrollLeft = scrolled[at] || 0; });
  if (focused !== "") document.getElementById(focused)?.focus({ preventScroll: true });
}

function showWaiting() {
  const ready = [...waiting];
  waiting.clear();
  for (const [name, html] of ready) show(name, html);
  speak();
}

function showAges() {
  const now_s = Date.now() / 1000 + ahead_s;
  for (const each of document.querySelectorAll(".age")) {
    const taken_s = Number(each.dataset.taken);
    if (!(taken_s > 0)) continue;
    const age_s = Math.max(0, now_s - taken_s);
    each.title = new Date(taken_s * 1000).toISOString();
    each.textContent = age_s < 120 ? `${Math.round(age_s)} s ago` : `${Math.round(age_s / 60)} min ago`;
    each.classList.toggle("stale", age_s > STALE_S);
  }
}

function speak() { // for who hears the page: the state and how many are stuck, when that changes
  const words = [document.querySelector("#headline .state"), document.querySelector("#stuck h2")];
  const said = words.map((each) => each?.textContent.trim().replace(/\s+/g, " ") ?? "").join(". ");
  const place = document.getElementById("spoken");
  if (place.textContent !== said) place.textContent = said;
}

function setOffline(since) {
  const place = document.getElementById("offline");
  if ((since === null) === place.hidden) return;
  document.getElementById("offline-since").textContent = since === null ? "" : since.toLocaleTimeString();
  place.hidden = since === null;
}

const RETRY_MS = [2000, 60000]; // at first, at most
let retry_ms = RETRY_MS[0];

function follow() {
  const source = new EventSource("/live" + location.search);
  source.onmessage = (message) => {
    const said = JSON.parse(message.data);
    ahead_s = said.now_s - Date.now() / 1000;
    lost = null;
    retry_ms = RETRY_MS[0];
    setOffline(null);
    for (const [name, html] of Object.entries(said.sections)) waiting.set(name, html);
    if (!paused) showWaiting();
    showAges();
  };
  source.onerror = () => { // after any status but 200 a browser never tries again by itself
    source.close();
    lost ??= new Date();
    setOffline(lost);
    setTimeout(follow, retry_ms * (0.5 + Math.random() / 2)); // not all pages at once
    retry_ms = Math.min(2 * retry_ms, RETRY_MS[1]);
  };
}
follow();

const button = document.getElementById("pause");
button.hidden = false;
button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Go on" : "Pause";
  document.getElementById("paused").textContent = paused ? "Paused; the figures are as old as they say." : "";
  if (!paused) showWaiting();
});
setInterval(showAges, 1000);
