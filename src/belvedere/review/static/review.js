// The keys and buttons of the review. A decision counts when the server says that it is on disk; until then it is sent
// again with the same id, which counts once. Nothing else is kept here but this tab's name and what it may undo.
"use strict";

const RETRY_MILLISECONDS = 1000;
const main = document.getElementById("main");
const statusLine = document.getElementById("status");
const choice = document.getElementById("choice");
const who = document.getElementById("who");
const shortcuts = document.getElementById("shortcuts");

const doneHere = `done:${main.dataset.journal}`; // other journals may have been decided on at this address
let tab = sessionStorage.getItem("tab") || randomId();
let done = JSON.parse(sessionStorage.getItem(doneHere) || "[]"); // ids of this tab's decisions, the last at the end
let busy = false;
let tags = null; // the secondary labels while tagging
let added = []; // classes that were named here and are none yet
let lookedUp = ""; // the doubt whose picture did not load
let heat = 0; // 0: the picture; n: the n-th heat-map

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A duplicated tab starts with the same name: whoever comes second takes another.
function claimTab() {
  sessionStorage.setItem("tab", tab);
  if (!navigator.locks) return Promise.resolve();
  return new Promise((resolve) => {
    navigator.locks.request(`tab-${tab}`, { ifAvailable: true }, (lock) => {
      if (!lock) {
        tab = randomId();
        done = [];
        resolve(claimTab());
        return undefined;
      }
      resolve();
      return new Promise(() => {});
    });
  });
}

function say(text, trouble = false) {
  statusLine.textContent = text;
  statusLine.classList.toggle("trouble", trouble);
}

function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// Asks until a whole answer is here, and returns its text; a refusal is thrown.
async function ask(url, options, waiting) {
  for (let waited = false; ; waited = true) {
    let response;
    let text;
    try {
      response = await fetch(url, options);
      text = await response.text();
    } catch {
      say(waiting, true);
      await wait(RETRY_MILLISECONDS);
      continue;
    }
    if (waited) say("The server is back.");
    if (response.ok) return text;
    const error = new Error(readError(text) || `The server answered ${response.status}.`);
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

async function send(url, content) {
  const body = JSON.stringify({ id: randomId(), tab, who: who.value.trim(), ...content });
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  const text = await ask(url, options, "Not recorded yet: the server does not answer. Trying again.");
  return { ...JSON.parse(text), id: JSON.parse(body).id };
}

// Does one thing at a time; what is pressed meanwhile is not taken for a decision on the next picture.
async function alone(work) {
  if (busy) return;
  busy = true;
  if (statusLine.classList.contains("trouble")) say("");
  main.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = false;
    main.setAttribute("aria-busy", "false");
  }
}

function whose() {
  return new URLSearchParams({ tab, choice: choice.value });
}

async function show(place = "next", focus = true) {
  main.innerHTML = await ask(`/doubts/${place}?${whose()}`, {}, "The server does not answer. Trying again.");
  tags = null;
  added = [];
  heat = 0;
  if (focus) document.getElementById("question").focus();
  await fillChoices();
}

async function fillChoices() {
  const text = await ask("/choices", {}, "The server does not answer. Trying again.");
  const chosen = choice.value;
  const words = choice.selectedOptions[0].dataset.words;
  const options = JSON.parse(text).map((each) => makeOption(each.value, each.text, each.left));
  const all = new Option("Everything", "");
  if (chosen && !options.some((each) => each.value === chosen)) options.push(makeOption(chosen, words, 0));
  choice.replaceChildren(all, ...options);
  choice.value = chosen;
}

function makeOption(value, words, left) {
  const option = new Option(`${words} (${left})`, value);
  option.dataset.words = words;
  return option;
}

function remember() {
  sessionStorage.setItem(doneHere, JSON.stringify(done.slice(-500)));
}

function article() {
  return main.querySelector("article[data-doubt]");
}

function decide(action, to = []) {
  return alone(async () => {
    const here = article();
    if (!here) return;
    const why = document.getElementById("why").value;
    const fresh = to.filter((name) => added.includes(name));
    const answer = await sendDecision({ doubt: here.dataset.doubt, action, to, new: fresh, why });
    done.push(answer.id);
    remember();
    say(answer.before ? `${answer.said} ${answer.before} The last word counts.` : answer.said);
    await (action === "tag" ? show(here.dataset.doubt) : show());
  });
}

// What is refused because of what is there now, such as a photograph that has gone, is shown as it is now.
async function sendDecision(content) {
  try {
    return await send("/decisions", content);
  } catch (error) {
    if (error.status === 409) await show(content.doubt);
    throw error;
  }
}

function skip() {
  return alone(async () => {
    const here = article();
    if (!here) return;
    say((await send("/skip", { doubt: here.dataset.doubt })).said);
    await show();
  });
}

function unskip() {
  return alone(async () => {
    say((await send("/skip", {})).said);
    await show();
  });
}

function undo(id) {
  return alone(async () => {
    const undoes = id || done.at(-1);
    if (!undoes) {
      say("Nothing of this page's to undo; use the buttons below.");
      return;
    }
    done = done.filter((each) => each !== undoes); // even if it is refused: it would be refused again
    remember();
    const answer = await send("/undo", { undoes });
    say(answer.said);
    await show(answer.doubt || "next");
  });
}

function startTagging() {
  tags = new Set([...main.querySelectorAll('.class[aria-pressed="true"]')].map((each) => each.dataset.class));
  showTags();
  say("Tagging: choose what else is in the picture, then Enter. Escape leaves.");
}

function showTags() {
  document.getElementById("tagging").hidden = tags === null;
  main.querySelector('[data-action="tag"]').setAttribute("aria-pressed", String(tags !== null));
  for (const button of main.querySelectorAll(".class")) {
    const isTagged = tags !== null && tags.has(button.dataset.class);
    button.setAttribute("aria-pressed", String(isTagged));
    button.querySelector(".tagged").hidden = !isTagged;
  }
  for (const button of main.querySelectorAll(".suggested .class")) {
    const keys = [...button.querySelectorAll("kbd")]; // the last is Enter, which records while tagging
    keys.at(-1).hidden = tags !== null;
    button.setAttribute("aria-keyshortcuts", keys.filter((key) => !key.hidden).map((key) => key.textContent).join(" "));
  }
}

function leaveTagging() {
  return alone(() => show(article().dataset.doubt));
}

function choose(name) {
  if (tags === null) return decide("relabel", [name]);
  if (!tags.delete(name)) tags.add(name);
  showTags();
  say(tags.size ? `Also: ${[...tags].join(", ")}. Enter records it.` : "No secondary label. Enter records it.");
  return undefined;
}

function showNaming(isOpen) {
  document.getElementById("naming").hidden = !isOpen;
  main.querySelector('[data-action="name"]').setAttribute("aria-expanded", String(isOpen));
  document.getElementById(isOpen ? "new-name" : "question").focus();
  if (isOpen) document.getElementById("new-name").select();
}

// A class that is none yet: it is one as soon as a decision gives it.
async function nameClass() {
  let name = "";
  await alone(async () => {
    const query = new URLSearchParams({ name: document.getElementById("new-name").value });
    name = JSON.parse(await ask(`/classes/new?${query}`, {}, "The server does not answer. Trying again.")).name;
  });
  if (!name) return;
  added.push(name);
  if (tags !== null) showNaming(false);
  await choose(name);
}

function turnHeat() {
  const button = document.getElementById("heat");
  if (!button) return say(main.querySelector(".look .quiet")?.textContent || "There is no heat-map.");
  const classes = JSON.parse(button.dataset.classes);
  heat = (heat + 1) % (classes.length + 1);
  const name = classes[heat - 1];
  const picture = document.getElementById("picture");
  picture.src = name ? `${button.dataset.source}?of=${encodeURIComponent(name)}` : article().dataset.picture;
  button.setAttribute("aria-pressed", String(Boolean(name)));
  document.getElementById("heat-caption").textContent = name ? `Heat-map: where the model sees ${name}` : "";
  return say(name ? `Heat-map for ${name}.` : "The picture as it is.");
}

function act(action) {
  if (action === "keep" || action === "exclude") return decide(action);
  if (action === "tag") return tags === null ? startTagging() : decide("tag", [...tags]);
  if (action === "tag-done") return decide("tag", [...tags]);
  if (action === "tag-leave") return leaveTagging();
  if (action === "name") return showNaming(document.getElementById("naming").hidden);
  if (action === "name-leave") return showNaming(false);
  if (action === "name-done") return nameClass();
  if (action === "skip") return skip();
  if (action === "unskip") return unskip();
  return undo();
}

main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || busy) return;
  if (button.id === "heat") turnHeat();
  else if (button.dataset.undo) undo(button.dataset.undo);
  else if (button.dataset.class !== undefined) choose(button.dataset.class);
  else if (button.dataset.action) act(button.dataset.action);
});

document.addEventListener("keydown", (event) => {
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.matches("input:not([type=checkbox]), select, textarea")) {
    if (takeTyped(event.key, target)) event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || busy) return;
  if (event.key === "Enter" && target.closest("button, a, input, summary")) return; // what has the focus takes it
  if (tags !== null && event.key === "Escape") leaveTagging();
  else if (tags !== null && event.key === "Enter") act("tag-done");
  else if (!shortcuts.checked || !takeKey(shortcutOf(event))) return;
  event.preventDefault();
});

// The keys that mean something in a field.
function takeTyped(key, field) {
  if (key === "Enter" && field.id === "new-name") nameClass();
  else if (key === "Escape" && field.id === "new-name") showNaming(false);
  else if (key === "Escape" || (key === "Enter" && field.id === "why")) document.getElementById("question")?.focus();
  else return false;
  return true;
}

// The shortcut that is meant: the letter or digit of the key. Where it is none, as on a Greek or Cyrillic keyboard or for
// the digits of a French one, the key's place on a keyboard of English.
function shortcutOf(event) {
  const key = event.key === "Enter" ? event.key : event.key.toLowerCase();
  if (key === "Enter" || /^[a-z0-9]$/.test(key)) return key;
  const isSign = [...key].length === 1 || ["dead", "process", "unidentified"].includes(key);
  if (!isSign || event.shiftKey || event.getModifierState("AltGraph")) return "";
  const place = /^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code);
  return place ? place[1].toLowerCase() : "";
}

function takeKey(key) {
  if (!key) return false;
  const buttons = [...main.querySelectorAll("[aria-keyshortcuts]")];
  const button = buttons.find((each) => each.getAttribute("aria-keyshortcuts").split(" ").includes(key));
  if (button?.disabled) say(main.querySelector(".caution").textContent, true);
  else if (button) button.click();
  else if (key === "h") turnHeat();
  else if (key === "w" && document.getElementById("why")) document.getElementById("why").focus();
  else return false;
  return true;
}

main.addEventListener("error", tellBroken, true); // of pictures, which does not bubble

// A picture that did not load is looked up once more: a server that was started anew has another number for it. What is
// typed or tagged meanwhile stays.
async function tellBroken(event) {
  const picture = event.target;
  if (picture.id !== "picture") return;
  const here = article();
  const fresh = heat || lookedUp === here.dataset.doubt ? null : await lookUp(here.dataset.doubt);
  if (article() !== here) return; // another doubt is shown by now
  if (fresh?.querySelector("#picture")) {
    here.dataset.picture = fresh.dataset.picture;
    picture.src = fresh.dataset.picture;
    const button = document.getElementById("heat");
    if (button) button.dataset.source = fresh.querySelector("#heat")?.dataset.source ?? button.dataset.source;
  } else {
    say(heat ? "The heat-map can't be drawn." : "The photograph can't be shown: it may be gone. Skip it, or reload.", true);
  }
}

// The doubt as the server has it now; null where it refuses.
async function lookUp(doubt) {
  lookedUp = doubt;
  try {
    const text = await ask(`/doubts/${doubt}?${whose()}`, {}, "The server does not answer. Trying again.");
    return new DOMParser().parseFromString(text, "text/html").querySelector("article");
  } catch {
    return null;
  }
}

main.addEventListener("load", () => { lookedUp = ""; }, true);

choice.addEventListener("change", () => alone(() => show()));
who.value = localStorage.getItem("who") || "";
who.addEventListener("change", () => localStorage.setItem("who", who.value.trim()));
shortcuts.checked = localStorage.getItem("shortcuts") !== "off";
shortcuts.addEventListener("change", () => localStorage.setItem("shortcuts", shortcuts.checked ? "on" : "off"));
claimTab().then(() => alone(() => show("next", false)));
