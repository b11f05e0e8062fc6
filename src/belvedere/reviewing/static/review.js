// Keys and buttons of the review page. A request is repeated with the same id until the server responds, and counts once.
// The session storage holds the id of this tab and the decisions that it may undo.
"use strict";

const filter = document.getElementById("filter");
const doneKey = `done:${main.dataset.corrections}`; // this address may have served other reviews
let done = JSON.parse(session.getItem(doneKey) || "[]"); // ids of this tab's decisions, latest last
let tags = null; // extra labels while tagging
let added = []; // new classes that no decision has yet
let retried = ""; // item whose image did not load
let heatmap = 0; // 0: the image; n: the n-th heatmap

function query() {
  return new URLSearchParams({ tab, filter: filter.value });
}

async function show(item = "next", focus = true) {
  main.innerHTML = await request(`/doubts/${item}?${query()}`, {}, "No connection to the server. Trying again.");
  tags = null;
  added = [];
  heatmap = 0;
  if (focus) document.getElementById("question").focus();
  await fillFilters();
}

async function fillFilters() {
  const text = await request("/filters", {}, "No connection to the server. Trying again.");
  const chosen = filter.value;
  const label = filter.selectedOptions[0].dataset.text;
  const options = JSON.parse(text).map((each) => makeOption(each.value, each.text, each.left));
  const all = new Option("All", "");
  if (chosen && !options.some((each) => each.value === chosen)) options.push(makeOption(chosen, label, 0));
  filter.replaceChildren(all, ...options);
  filter.value = chosen;
}

function makeOption(value, label, left) {
  const option = new Option(`${label} (${left})`, value);
  option.dataset.text = label;
  return option;
}

function forgetSteps() {
  done = [];
}

function saveDone() {
  session.setItem(doneKey, JSON.stringify(done.slice(-500)));
}

function article() {
  return main.querySelector("article[data-doubt]");
}

function decide(action, to = []) {
  return runExclusively(async () => {
    const here = article();
    if (!here) return;
    const comment = document.getElementById("comment").value;
    const fresh = to.filter((name) => added.includes(name));
    const response = await sendDecision({ doubt: here.dataset.doubt, action, to, new: fresh, comment });
    done.push(response.id);
    saveDone();
    showStatus(response.previous ? `${response.message} ${response.previous}` : response.message);
    await (action === "tag" ? show(here.dataset.doubt) : show());
  });
}

// After a conflict, such as a missing image, shows the current state of the item.
async function sendDecision(content) {
  try {
    return await send("/decisions", content);
  } catch (error) {
    if (error.status === 409) await show(content.doubt);
    throw error;
  }
}

function skip() {
  return runExclusively(async () => {
    const here = article();
    if (!here) return;
    showStatus((await send("/skip", { doubt: here.dataset.doubt })).message);
    await show();
  });
}

function unskip() {
  return runExclusively(async () => {
    showStatus((await send("/skip", {})).message);
    await show();
  });
}

function undo(id) {
  return runExclusively(async () => {
    const decision = id || done.at(-1);
    if (!decision) {
      showStatus("This page has nothing to undo. Use the buttons below.");
      return;
    }
    done = done.filter((each) => each !== decision); // also on an error, which would recur
    saveDone();
    const response = await send("/undo", { decision });
    showStatus(response.message);
    await show(response.doubt || "next");
  });
}

function startTagging() {
  tags = new Set([...main.querySelectorAll('.class[aria-pressed="true"]')].map((each) => each.dataset.class));
  showTags();
  showStatus("Tagging: choose other classes in the image, then Enter. Escape cancels.");
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
    const keys = [...button.querySelectorAll("kbd")]; // the last is Enter, which records the tags while tagging
    keys.at(-1).hidden = tags !== null;
    button.setAttribute("aria-keyshortcuts", keys.filter((key) => !key.hidden).map((key) => key.textContent).join(" "));
  }
}

function cancelTagging() {
  return runExclusively(() => show(article().dataset.doubt));
}

function choose(name) {
  if (tags === null) return decide("relabel", [name]);
  if (!tags.delete(name)) tags.add(name);
  showTags();
  showStatus(tags.size ? `Also: ${[...tags].join(", ")}. Enter records the tags.` : "No extra labels. Enter records that.");
  return undefined;
}

function showNaming(isOpen) {
  document.getElementById("naming").hidden = !isOpen;
  main.querySelector('[data-action="name"]').setAttribute("aria-expanded", String(isOpen));
  document.getElementById(isOpen ? "new-name" : "question").focus();
  if (isOpen) document.getElementById("new-name").select();
}

// A new class exists once a decision uses it.
async function nameClass() {
  let name = "";
  await runExclusively(async () => {
    const search = new URLSearchParams({ name: document.getElementById("new-name").value });
    name = JSON.parse(await request(`/classes/new?${search}`, {}, "No connection to the server. Trying again.")).name;
  });
  if (!name) return;
  added.push(name);
  if (tags !== null) showNaming(false);
  await choose(name);
}

function showHeatmap() {
  const button = document.getElementById("heatmap");
  if (!button) return showStatus(main.querySelector(".look .quiet")?.textContent || "There is no heatmap.");
  const classes = JSON.parse(button.dataset.classes);
  heatmap = (heatmap + 1) % (classes.length + 1);
  const name = classes[heatmap - 1];
  const image = document.getElementById("image");
  image.src = name ? `${button.dataset.source}?class_name=${encodeURIComponent(name)}` : article().dataset.image;
  button.setAttribute("aria-pressed", String(Boolean(name)));
  document.getElementById("heatmap-caption").textContent = name ? `Heatmap of ${name}` : "";
  return showStatus(name ? `Heatmap of ${name}.` : "Original image.");
}

function act(action) {
  if (action === "keep" || action === "exclude") return decide(action);
  if (action === "tag") return tags === null ? startTagging() : decide("tag", [...tags]);
  if (action === "tag-done") return decide("tag", [...tags]);
  if (action === "tag-cancel") return cancelTagging();
  if (action === "name") return showNaming(document.getElementById("naming").hidden);
  if (action === "name-cancel") return showNaming(false);
  if (action === "name-done") return nameClass();
  if (action === "skip") return skip();
  if (action === "unskip") return unskip();
  return undo();
}

main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || busy) return;
  if (button.id === "heatmap") showHeatmap();
  else if (button.dataset.undo) undo(button.dataset.undo);
  else if (button.dataset.class !== undefined) choose(button.dataset.class);
  else if (button.dataset.action) act(button.dataset.action);
});

document.addEventListener("keydown", (event) => {
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.matches("input:not([type=checkbox]), select, textarea")) {
    if (handleFieldKey(event.key, target)) event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || busy) return;
  if (event.key === "Enter" && target.closest("button, a, input, summary")) return; // the focused element handles it
  if (tags !== null && event.key === "Escape") cancelTagging();
  else if (tags !== null && event.key === "Enter") act("tag-done");
  else if (!shortcuts.checked || !handleShortcut(shortcutOf(event))) return;
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
  else if (key === "h") showHeatmap();
  else if (key === "w" && document.getElementById("comment")) document.getElementById("comment").focus();
  else return false;
  return true;
}

main.addEventListener("error", retryImage, true); // error events of images do not bubble

// Retries an image that did not load: its number is different after a restart of the server. Comments and tags are kept.
async function retryImage(event) {
  const image = event.target;
  if (image.id !== "image") return;
  const here = article();
  const fresh = heatmap || retried === here.dataset.doubt ? null : await fetchItem(here.dataset.doubt);
  if (article() !== here) return; // the page shows another item by now
  if (fresh?.querySelector("#image")) {
    here.dataset.image = fresh.dataset.image;
    image.src = fresh.dataset.image;
    const button = document.getElementById("heatmap");
    if (button) button.dataset.source = fresh.querySelector("#heatmap")?.dataset.source ?? button.dataset.source;
  } else {
    showStatus(heatmap ? "The heatmap failed." : "The image failed to load. It may be missing: skip it, or reload the page.", true);
  }
}

// Returns the current state of an item; null on an error.
async function fetchItem(item) {
  retried = item;
  try {
    const text = await request(`/doubts/${item}?${query()}`, {}, "No connection to the server. Trying again.");
    return new DOMParser().parseFromString(text, "text/html").querySelector("article");
  } catch {
    return null;
  }
}

main.addEventListener("load", () => { retried = ""; }, true);

filter.addEventListener("change", () => runExclusively(() => show()));
claimTab().then(() => runExclusively(() => show("next", false)));
