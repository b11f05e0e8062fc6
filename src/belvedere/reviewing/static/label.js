// Keys and buttons of the label page: single images, or a grid of similar images of which several are selected.
"use strict";

const PANEL_MILLISECONDS = 2000;
const DRAG_PIXELS = 6; // from which a press is a lasso
const grid = document.getElementById("grid");
let last = null; // tile that was pressed last, where a range starts
let lasso = null; // start of a drag, and the tiles that were selected before it
const declined = new Set(); // rows that were left out of a labeled grid: selected only by hand from then on
let shown = ""; // query of the view with labeled images; empty: questions

async function show(path = "/questions/next", more = {}, focus = true) {
  const search = new URLSearchParams({ tab, grid: grid.checked, ...more });
  main.innerHTML = await request(`${path}?${search}`, {}, WAITING);
  shown = path === "/labeled" ? more.class_name : "";
  tags = null;
  last = null;
  for (const tile of tiles()) if (declined.has(Number(tile.dataset.row))) select(tile, false);
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
    if (!shown) for (const tile of tiles()) if (!selectedTiles().includes(tile)) declined.add(Number(tile.dataset.row));
    keepStep(response.step);
    await (url === "/tags" ? showSame(rows) : showNext());
    showStatus(response.message);
  });
}

function recordClass(name, isNew = false) {
  return record("/labels", { label: name, is_new: isNew });
}

function recordTags(names) {
  return record("/tags", { tags: names });
}

function useNewClass(name) {
  tags = null;
  return recordClass(name, true);
}

// Shows the next question, or the view of a class again.
function showNext() {
  return shown ? show("/labeled", { class_name: shown }) : show();
}

// Shows a single image again.
function showSame(rows = selectedRows()) {
  return rows.length === 1 && !shown ? show(`/questions/${rows[0]}`) : showNext();
}

function showUndone(response) {
  return response.row === null ? showNext() : showSame([response.row]);
}

// Ends the server, for the training; repeated later, this would end the next one at this address.
function end() {
  return runExclusively(async () => {
    const response = await send("/end", {}, "");
    main.querySelector(".actions").remove();
    showStatus(response.message);
  });
}

// Shows unlabeled images like the pressed or first selected one.
function showSimilar() {
  const tile = (kind() === "single" ? null : last || selectedTiles()[0]) || main.querySelector(".tile");
  return runExclusively(() => show(`/questions/${tile.dataset.row}`, { similar: true }));
}

Object.assign(ACTIONS, {
  none: () => tags === null && record("/labels", { label: null }),
  all: selectAll,
  like: showSimilar,
  skip: () => sendSkip({ rows: [...main.querySelectorAll(".tile")].map((each) => Number(each.dataset.row)) }),
  back: () => runExclusively(() => show()),
  end,
  finish: () => runExclusively(() => show("/end")),
});
KEYS.g = () => grid.click();

main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || busy) return;
  if (button.matches(".tile")) pressTile(button, event.shiftKey);
  else if (button.dataset.labeled) runExclusively(() => show("/labeled", { class_name: button.dataset.labeled }));
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

// Moves the focus between tiles; up and down go to the nearest tile of the next row.
main.addEventListener("keydown", (event) => {
  const all = tiles();
  const index = all.indexOf(event.target);
  if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const columns = all.filter((each) => each.offsetTop === all[0].offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  if (!Object.hasOwn(steps, event.key)) return;
  all[index + steps[event.key]]?.focus();
  event.preventDefault();
});

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
