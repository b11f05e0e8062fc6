// What the pages for labels and corrections share: steps that this tab may undo, tags, new classes, buttons and keys.
// Each page is a script beside this one. It defines `show`, what a class, tags and a new class send, and what an undo shows.
"use strict";

const WAITING = "No connection to the server. Trying again.";
const doneKey = `done:${main.dataset.corrections}`; // this address may have served others
let done = JSON.parse(session.getItem(doneKey) || "[]"); // ids of this tab's steps, latest last
let tags = null; // further classes while tagging

function forgetSteps() {
  done = [];
}

function saveDone() {
  session.setItem(doneKey, JSON.stringify(done.slice(-500)));
}

function keepStep(id) {
  done.push(id);
  saveDone();
}

function undo(id) {
  return runExclusively(async () => {
    const step = id || done.at(-1);
    if (!step) {
      showStatus("This page has nothing to undo. Use the undo buttons.");
      return;
    }
    done = done.filter((each) => each !== step); // also on an error, which would recur
    saveDone();
    const response = await send("/undo", { step });
    await showUndone(response);
    showStatus(response.message);
  });
}

function sendSkip(content) {
  return runExclusively(async () => {
    const response = await send("/skip", content);
    await show();
    showStatus(response.message);
  });
}

function choose(name) {
  if (tags === null) return recordClass(name);
  if (!tags.delete(name)) tags.add(name);
  showTags();
  showStatus(tags.size ? `Also: ${[...tags].join(", ")}. Enter records the tags.` : "No tags. Enter records that.");
  return undefined;
}

function startTagging() {
  tags = new Set([...main.querySelectorAll('.class[aria-pressed="true"]')].map((each) => each.dataset.class));
  showTags();
  showStatus("Tagging: choose further classes in the image, then Enter. Escape cancels.");
}

function cancelTagging() {
  return runExclusively(async () => {
    await showSame();
    showStatus("");
  });
}

function showTags() {
  document.getElementById("tagging").hidden = tags === null;
  main.querySelector('[data-action="tag"]').setAttribute("aria-pressed", String(tags !== null));
  for (const button of main.querySelectorAll(".class[data-class]")) {
    const isTagged = tags !== null && tags.has(button.dataset.class);
    button.setAttribute("aria-pressed", String(isTagged));
    button.querySelector(".tagged").hidden = !isTagged;
  }
  for (const button of main.querySelectorAll(".suggested .class")) {
    const keys = [...button.querySelectorAll("kbd")]; // the last is Enter, which records the tags while tagging
    keys.at(-1).hidden = tags !== null;
    button.setAttribute("aria-keyshortcuts", keys.filter((key) => !key.hidden).map((key) => key.textContent).join(" "));
  }
}

function showNaming(isOpen) {
  document.getElementById("naming").hidden = !isOpen;
  main.querySelector('[data-action="name"]').setAttribute("aria-expanded", String(isOpen));
  document.getElementById(isOpen ? "new-name" : "question").focus();
  if (isOpen) document.getElementById("new-name").select();
}

// A new class exists once a step uses it.
async function nameClass() {
  let name = "";
  await runExclusively(async () => {
    const search = new URLSearchParams({ name: document.getElementById("new-name").value });
    name = JSON.parse(await request(`/classes/new?${search}`, {}, WAITING)).name;
  });
  if (name) await useNewClass(name);
}

const ACTIONS = {
  tag: () => (tags === null ? startTagging() : recordTags([...tags])),
  "tag-done": () => recordTags([...tags]),
  "tag-cancel": cancelTagging,
  name: () => showNaming(document.getElementById("naming").hidden),
  "name-cancel": () => showNaming(false),
  "name-done": nameClass,
  unskip: () => sendSkip({}),
  undo: () => undo(),
};
const KEYS = {}; // more keys of a page

main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || busy) return;
  if (button.dataset.undo) undo(button.dataset.undo);
  else if (button.dataset.class !== undefined) {
    if (tags !== null && event.detail) button.blur(); // after a click with the mouse, Enter records the tags
    choose(button.dataset.class);
  } else ACTIONS[button.dataset.action]?.();
});

document.addEventListener("keydown", (event) => {
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.matches("input:not([type=checkbox]), select, textarea")) {
    if (handleFieldKey(event.key, target)) event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || busy) return;
  const isTile = target.matches("button.tile");
  if (event.key === "Enter" && !isTile && target.closest("button, a, input, summary")) return; // handles it itself
  if (tags !== null && event.key === "Escape") ACTIONS["tag-cancel"]();
  else if (tags !== null && event.key === "Enter") ACTIONS["tag-done"]();
  else if (!(shortcuts.checked || isTile) || !handleShortcut(shortcutOf(event))) return;
  event.preventDefault();
});

// Handles keys in an input field.
function handleFieldKey(key, field) {
  if (key === "Enter" && field.id === "new-name") nameClass();
  else if (key === "Escape" && field.id === "new-name") showNaming(false);
  else if (key === "Escape" || (key === "Enter" && field.id === "comment")) document.getElementById("question")?.focus();
  else return false;
  return true;
}

function handleShortcut(key) {
  if (!key) return false;
  const buttons = [...main.querySelectorAll("[aria-keyshortcuts]")];
  const button = buttons.find((each) => each.getAttribute("aria-keyshortcuts").split(" ").includes(key));
  if (button?.disabled) showStatus(main.querySelector(".caution").textContent, true);
  else if (button) button.click();
  else if (Object.hasOwn(KEYS, key)) KEYS[key]();
  else return false;
  return true;
}
