// Keys and buttons of the label page: single images, or a grid of similar images of which several are selected.
// The session storage holds the steps of this tab, which it may undo.
"use strict";

const WAITING = "No connection to the server. Trying again.";
const PANEL_MILLISECONDS = 2000;
const DRAG_PIXELS = 6; // from which a press is a lasso
const grid = document.getElementById("grid");
const doneKey = `done:${main.dataset.corrections}`; // this address may have served other folders
let done = JSON.parse(session.getItem(doneKey) || "[]"); // ids of this tab's steps, latest last
let tags = null; // further classes while tagging
let last = null; // tile that was pressed last, where a range starts
let lasso = null; // start of a drag, and the tiles that were selected before it
let shown = ""; // query of the view with labeled images; empty: questions

function forgetSteps() {
  done = [];
}

function saveDone() {
  session.setItem(doneKey, JSON.stringify(done.slice(-500)));
}

async function show(path = "/questions/next", more = {}, focus = true) {
  const search = new URLSearchParams({ tab, grid: grid.checked, ...more });
  main.innerHTML = await request(`${path}?${search}`, {}, WAITING);
  shown = path === "/labeled" ? more.class_name : "";
  tags = null;
  last = null;
  showSelection();
  if (focus) document.getElementById("question").focus();
}

function kind() {
  return main.querySelector("article")?.dataset.kind;
}

function tiles() {
  return [...main.querySelectorAll("button.tile")];
}

function selectedTiles() {
  return tiles().filter((each) => each.getAttribute("aria-pressed") === "true");
}

// Returns the rows that a key labels: the selected ones of a grid, or the single image.
function selectedRows() {
  const chosen = kind() === "single" ? [...main.querySelectorAll("figure.tile")] : selectedTiles();
  return chosen.map((each) => Number(each.dataset.row));
}

function select(tile, isSelected) {
  tile.setAttribute("aria-pressed", String(isSelected));
}

function showSelection() {
  const line = document.getElementById("selection");
  if (!line) return;
  const number = selectedTiles().length;
  line.textContent = number ? `${number} of ${tiles().length} selected. A class labels these.` : "Select images, then choose their class.";
}

function pressTile(tile, isRange) {
  const all = tiles();
  if (isRange && last && all.includes(last)) {
    const [from, to] = [all.indexOf(last), all.indexOf(tile)].sort((one, other) => one - other);
    for (const each of all.slice(from, to + 1)) select(each, last.getAttribute("aria-pressed") === "true");
  } else {
    select(tile, tile.getAttribute("aria-pressed") !== "true");
    last = tile;
  }
  showSelection();
}

function selectAll() {
  const isSelected = selectedTiles().length < tiles().length;
  for (const tile of tiles()) select(tile, isSelected);
  showSelection();
}

function record(url, content) {
  return runExclusively(async () => {
    const rows = selectedRows();
    if (!rows.length) {
      showStatus("Select an image first.", true);
      return;
    }
    const response = await send(url, { rows, ...content });
    done.push(response.step);
    saveDone();
    await showAgain(url === "/tags" ? rows : []);
    showStatus(response.message);
  });
}

// Shows the next question; after tags the same image, and in the view of a class that view.
function showAgain(rows = []) {
  if (shown) return show("/labeled", { class_name: shown });
  return rows.length === 1 ? show(`/questions/${rows[0]}`) : show();
}

function undo(id) {
  return runExclusively(async () => {
    const step = id || done.at(-1);
    if (!step) {
      showStatus("This page has nothing to undo. Use the buttons beside the latest labels.");
      return;
    }
    done = done.filter((each) => each !== step); // also on an error, which would recur
    saveDone();
    const response = await send("/undo", { step });
    if (shown) await showAgain();
    else await (response.row === null ? show() : show(`/questions/${response.row}`));
    showStatus(response.message);
  });
}

function skip() {
  return runExclusively(async () => {
    const rows = [...main.querySelectorAll(".tile")].map((each) => Number(each.dataset.row));
    const response = await send("/skip", { rows });
    await show();
    showStatus(response.message);
  });
}

function unskip() {
  return runExclusively(async () => {
    const response = await send("/skip", {});
    await show();
    showStatus(response.message);
  });
}

// Ends the server, for the training.
function end() {
  return runExclusively(async () => {
    const response = await send("/end", {});
    main.querySelector(".actions").remove();
    showStatus(response.message);
  });
}

// Shows unlabeled images like the pressed or first selected one.
function showSimilar() {
  const tile = (kind() === "single" ? null : last || selectedTiles()[0]) || main.querySelector(".tile");
  return runExclusively(() => show(`/questions/${tile.dataset.row}`, { similar: true }));
}

function choose(name, isNew = false) {
  if (tags === null) return record("/labels", { label: name, is_new: isNew });
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

function showTags() {
  document.getElementById("tagging").hidden = tags === null;
  main.querySelector('[data-action="tag"]').setAttribute("aria-pressed", String(tags !== null));
  for (const button of main.querySelectorAll(".class[data-class]")) {
    const isTagged = tags !== null && tags.has(button.dataset.class);
    button.setAttribute("aria-pressed", String(isTagged));
    button.querySelector(".tagged").hidden = !isTagged;
  }
}

function showNaming(isOpen) {
  document.getElementById("naming").hidden = !isOpen;
  main.querySelector('[data-action="name"]').setAttribute("aria-expanded", String(isOpen));
  document.getElementById(isOpen ? "new-name" : "question").focus();
  if (isOpen) document.getElementById("new-name").select();
}

// A new class exists once a label uses it.
async function nameClass() {
  let name = "";
  await runExclusively(async () => {
    const search = new URLSearchParams({ name: document.getElementById("new-name").value });
    name = JSON.parse(await request(`/classes/new?${search}`, {}, WAITING)).name;
  });
  if (!name) return;
  tags = null;
  await choose(name, true);
}

function act(action) {
  if (action === "none") return tags === null ? record("/labels", { label: null }) : undefined;
  if (action === "all") return selectAll();
  if (action === "like") return showSimilar();
  if (action === "tag") return tags === null ? startTagging() : record("/tags", { tags: [...tags] });
  if (action === "tag-done") return record("/tags", { tags: [...tags] });
  if (action === "tag-cancel") return runExclusively(() => showAgain(selectedRows()));
  if (action === "name") return showNaming(document.getElementById("naming").hidden);
  if (action === "name-cancel") return showNaming(false);
  if (action === "name-done") return nameClass();
  if (action === "skip") return skip();
  if (action === "unskip") return unskip();
  if (action === "back") return runExclusively(() => show());
  if (action === "end") return end();
  if (action === "finish") return runExclusively(() => show("/end"));
  return undo();
}

main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || busy) return;
  if (button.matches(".tile")) pressTile(button, event.shiftKey);
  else if (button.dataset.undo) undo(button.dataset.undo);
  else if (button.dataset.labeled) runExclusively(() => show("/labeled", { class_name: button.dataset.labeled }));
  else if (button.dataset.class !== undefined) choose(button.dataset.class);
  else if (button.dataset.action) act(button.dataset.action);
});

// A lasso: tiles that a dragged rectangle touches are selected; with Shift, they are added.
main.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "touch" || event.button || !event.target.closest("#tiles")) return;
  lasso = { x: event.pageX, y: event.pageY, before: event.shiftKey ? selectedTiles() : [], isDragged: false };
});

document.addEventListener("pointermove", (event) => {
  if (!lasso) return;
  const [left, right] = [lasso.x, event.pageX].sort((one, other) => one - other);
  const [top, bottom] = [lasso.y, event.pageY].sort((one, other) => one - other);
  if (!lasso.isDragged && right - left < DRAG_PIXELS && bottom - top < DRAG_PIXELS) return;
  lasso.isDragged = true;
  for (const tile of tiles()) {
    const box = tile.getBoundingClientRect();
    const [x, y] = [box.left + window.scrollX, box.top + window.scrollY];
    const isInside = x < right && x + box.width > left && y < bottom && y + box.height > top;
    select(tile, isInside || lasso.before.includes(tile));
  }
  showSelection();
});

document.addEventListener("pointerup", () => {
  const isDragged = lasso?.isDragged;
  lasso = null;
  if (isDragged) document.addEventListener("click", (event) => event.stopPropagation(), { capture: true, once: true });
});

document.addEventListener("keydown", (event) => {
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.matches("input:not([type=checkbox]), select, textarea")) {
    if (handleFieldKey(event.key, target)) event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || busy) return;
  if (event.key.startsWith("Arrow") && moveFocus(event.key, target)) return event.preventDefault();
  const isTile = target.matches("button.tile");
  if (event.key === "Enter" && !isTile && target.closest("button, a, input, summary")) return undefined; // handles it itself
  if (tags !== null && event.key === "Escape") act("tag-cancel");
  else if (tags !== null && event.key === "Enter") act("tag-done");
  else if (!(shortcuts.checked || isTile) || !handleShortcut(shortcutOf(event))) return undefined;
  return event.preventDefault();
});

// Moves the focus between tiles; up and down go to the nearest tile of the next row.
function moveFocus(key, target) {
  const all = tiles();
  const index = all.indexOf(target);
  if (index < 0) return false;
  const columns = all.filter((each) => each.offsetTop === all[0].offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  all[index + steps[key]]?.focus();
  return true;
}

function handleFieldKey(key, field) {
  if (key === "Enter" && field.id === "new-name") nameClass();
  else if (key === "Escape" && field.id === "new-name") showNaming(false);
  else if (key === "Escape") document.getElementById("question")?.focus();
  else return false;
  return true;
}

function handleShortcut(key) {
  if (!key) return false;
  if (key === "g") {
    grid.click();
    return true;
  }
  const buttons = [...main.querySelectorAll("[aria-keyshortcuts]")];
  const button = buttons.find((each) => each.getAttribute("aria-keyshortcuts").split(" ").includes(key));
  button?.click();
  return Boolean(button);
}

// Estimates change while the page is open, and suggestions with the next question.
async function refreshPanel() {
  if (busy || document.hidden || !document.getElementById("panel")) return;
  try {
    const response = await fetch("/panel");
    const text = await response.text();
    const panel = document.getElementById("panel");
    if (response.ok && panel && !busy && panel.dataset.text !== text && !panel.contains(document.activeElement)) {
      panel.innerHTML = text;
      panel.dataset.text = text;
    }
  } catch {
    // The next change reports a server that does not respond.
  }
}

grid.checked = local.getItem("grid") === "on";
grid.addEventListener("change", () => {
  local.setItem("grid", grid.checked ? "on" : "off");
  runExclusively(() => show());
});
setInterval(refreshPanel, PANEL_MILLISECONDS);
claimTab().then(() => runExclusively(() => show("/questions/next", {}, false)));
