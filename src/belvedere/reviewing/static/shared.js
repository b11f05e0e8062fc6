// What the pages share: requests that are repeated until the server responds, the id of the tab, and keys.
// Each page is a script beside this one, which defines what is recorded by the keys and buttons.
"use strict";

const RETRY_MILLISECONDS = 1000;
const main = document.getElementById("main");
const statusLine = document.getElementById("status");
const annotator = document.getElementById("annotator");
const shortcuts = document.getElementById("shortcuts");

const session = openStorage("sessionStorage");
const local = openStorage("localStorage");
let tab = session.getItem("tab") || randomId();
let busy = false;

// Returns a storage of the browser, or one that ends with the page where the browser denies it: in a notebook's frame.
function openStorage(name) {
  try {
    return window[name];
  } catch {
    const values = new Map();
    return { getItem: (key) => values.get(key) ?? null, setItem: (key, value) => values.set(key, value) };
  }
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A duplicated tab starts with the same id; the second one takes another.
function claimTab() {
  session.setItem("tab", tab);
  if (!navigator.locks) return Promise.resolve();
  return new Promise((resolve) => {
    const locked = navigator.locks.request(`tab-${tab}`, { ifAvailable: true }, (lock) => {
      if (!lock) {
        tab = randomId();
        forgetSteps();
        resolve(claimTab());
        return undefined;
      }
      resolve();
      return new Promise(() => {});
    });
    locked.catch(resolve); // denied like the storage; then no other tab has this id
  });
}

function showStatus(text, isError = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle("error", isError);
}

function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Repeats a request until there is a complete response, and returns its text; throws if the status is an error. Without a
// text to show meanwhile, nothing is repeated.
async function request(url, options, waiting) {
  for (let waited = false; ; waited = true) {
    let response;
    let text;
    try {
      response = await fetch(url, options);
      text = await response.text();
    } catch {
      if (!waiting) throw new Error("No connection to the server. It may have ended.");
      showStatus(waiting, true);
      await wait(RETRY_MILLISECONDS);
      continue;
    }
    if (waited) showStatus("Connected again.");
    if (response.ok) return text;
    const error = new Error(readError(text) || `Server error ${response.status}.`);
    throw Object.assign(error, { status: response.status });
  }
}

function readError(text) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return "";
  }
}

async function send(url, content, waiting = "Not recorded yet: no connection to the server. Trying again.") {
  const body = JSON.stringify({ id: randomId(), tab, annotator: annotator.value.trim(), ...content });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  const text = await request(url, options, waiting);
  return { ...JSON.parse(text), id: JSON.parse(body).id };
}

// Runs one action at a time. Keys pressed meanwhile are ignored, since they concern the previous item.
async function runExclusively(work) {
  if (busy) return;
  busy = true;
  if (statusLine.classList.contains("error")) showStatus("");
  main.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    showStatus(error.message, true);
  } finally {
    busy = false;
    main.setAttribute("aria-busy", "false");
  }
}

// Returns the letter or digit of a key. On keyboards without it, such as Greek or Cyrillic ones, or French ones for digits,
// returns what an English keyboard has at the same position.
function shortcutOf(event) {
  const key = event.key === "Enter" ? event.key : event.key.toLowerCase();
  if (key === "Enter" || /^[a-z0-9]$/.test(key)) return key;
  const isSign = [...key].length === 1 || ["dead", "process", "unidentified"].includes(key);
  if (!isSign || event.shiftKey || event.getModifierState("AltGraph")) return "";
  const position = /^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code);
  return position ? position[1].toLowerCase() : "";
}

if (annotator) { // not on the map
  annotator.value = local.getItem("annotator") || "";
  annotator.addEventListener("change", () => local.setItem("annotator", annotator.value.trim()));
  shortcuts.checked = local.getItem("shortcuts") !== "off";
  shortcuts.addEventListener("change", () => local.setItem("shortcuts", shortcuts.checked ? "on" : "off"));
}
