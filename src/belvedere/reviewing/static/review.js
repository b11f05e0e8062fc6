// Keys and buttons of the review page. A request is repeated with the same id until the server responds, and counts once.
"use strict";

const filter = document.getElementById("filter");
let added = []; // new classes that no decision has yet
let retried = ""; // item whose image did not load
let heatmap = 0; // 0: the image; n: the n-th heatmap

function query() {
  return new URLSearchParams({ tab, filter: filter.value });
}

async function show(item = "next", focus = true) {
  main.innerHTML = await request(`/items/${item}?${query()}`, {}, WAITING);
  tags = null;
  added = [];
  heatmap = 0;
  if (focus) document.getElementById("question").focus();
  await fillFilters();
}

async function fillFilters() {
  const text = await request("/filters", {}, WAITING);
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

function article() {
  return main.querySelector("article[data-item]");
}

function decide(action, to = []) {
  return runExclusively(async () => {
    const here = article();
    if (!here) return;
    const comment = document.getElementById("comment").value;
    const fresh = to.filter((name) => added.includes(name));
    const response = await sendDecision({ item: here.dataset.item, action, to, new: fresh, comment });
    keepStep(response.id);
    showStatus(response.previous ? `${response.message} ${response.previous}` : response.message);
    await (action === "tag" ? show(here.dataset.item) : show());
  });
}

// After a conflict, such as a missing image, shows the current state of the item.
async function sendDecision(content) {
  try {
    return await send("/decisions", content);
  } catch (error) {
    if (error.status === 409) await show(content.item);
    throw error;
  }
}

function recordClass(name) {
  return decide("relabel", [name]);
}

function recordTags(names) {
  return decide("tag", names);
}

function useNewClass(name) {
  added.push(name);
  if (tags !== null) showNaming(false);
  return choose(name);
}

function showUndone(response) {
  return show(response.item || "next");
}

function showSame() {
  return show(article().dataset.item);
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

Object.assign(ACTIONS, {
  keep: () => decide("keep"),
  exclude: () => decide("exclude"),
  skip: () => article() && sendSkip({ item: article().dataset.item }),
  heatmap: showHeatmap,
});
KEYS.h = showHeatmap;
KEYS.w = () => document.getElementById("comment")?.focus();

main.addEventListener("error", retryImage, true); // error events of images do not bubble

// Retries an image that did not load: its number is different after a restart of the server. Comments and tags are kept.
async function retryImage(event) {
  const image = event.target;
  if (image.id !== "image") return;
  const here = article();
  const fresh = heatmap || retried === here.dataset.item ? null : await fetchItem(here.dataset.item);
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
    const text = await request(`/items/${item}?${query()}`, {}, WAITING);
    return new DOMParser().parseFromString(text, "text/html").querySelector("article");
  } catch {
    return null;
  }
}

main.addEventListener("load", () => { retried = ""; }, true);

filter.addEventListener("change", () => runExclusively(() => show()));
claimTab().then(() => runExclusively(() => show("next", false)));
