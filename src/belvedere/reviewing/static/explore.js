// The map of a dataset: colors, selection by click, color or lasso, examples, copies as lines, and a table.
"use strict";

const PALETTE = ["#1f77b4", "#e8702a", "#2a9d5c", "#c93c5c", "#8a63d2", "#8c6239", "#d64fb1", "#7f8c1f", "#17a2b8", "#5b6fd8", "#b5446e", "#3f8f8f"];
const OTHER = "#98a2ac"; // of further values, and of images without one
const GRID_IMAGES = 120; // of a selection that are shown
const MOVE_PIXELS = 4; // less is a click
const UNKNOWN = ["not predicted", "none"];

const $ = (id) => document.getElementById(id);
const map = $("map");
const overlay = $("overlay");
let scatter = null;
let points = null; // of the server, with arrays
let names = null; // {names, numbers}
let selection = []; // rows
let shown = 0; // position of the enlarged image
let lasso = null; // corners while it is drawn
const pointers = new Map(); // fingers and the mouse

function decode(text, type) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return new type(bytes.buffer);
}

async function fetchJson(url, options = {}) {
  return JSON.parse(await request(url, options));
}

// Runs a step, and shows its error on the page.
async function attempt(step) {
  try {
    await step();
  } catch (error) {
    showStatus(error.message, true);
  }
}

async function start() {
  points = await fetchJson("/points");
  points.positions = decode(points.positions, Float32Array);
  points.confidence = points.confidence && decode(points.confidence, Float32Array);
  for (const column of points.columns) column.codes = decode(column.codes, Uint32Array);
  names = await fetchJson("/names");
  for (const column of points.columns) $("color").add(new Option(column.name, column.name));
  if (points.confidence) $("color").add(new Option("confidence", "confidence"));
  try {
    scatter = new Scatter($("points"), map, points.positions);
    window.scatter = scatter;
  } catch (error) {
    showStatus(error.message, true);
  }
  recolor();
  if (scatter) showStatus("");
  if (points.selected.length) select(points.selected, "Selected");
  document.documentElement.dataset.ready = "true";
  await loadPairs();
}

async function loadPairs() {
  const found = await fetchJson("/pairs");
  const leaks = found.leaks.filter(Boolean).length;
  $("num-pairs").textContent = `(${found.pairs.length}${leaks ? `, ${leaks} across splits` : ""}${found.done ? "" : ", searching"})`;
  scatter?.setRows("pairs", found.pairs.flat());
  if (!found.done) setTimeout(() => attempt(loadPairs), 1500);
}

function toBytes(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// Returns the color of each value of a column: the most frequent ones have their own.
function valueColors(column) {
  const order = column.values.map((_, code) => code).sort((a, b) => column.counts[b] - column.counts[a]);
  const known = order.filter((code) => !UNKNOWN.includes(column.values[code]));
  const colors = column.values.map(() => OTHER);
  known.slice(0, PALETTE.length).forEach((code, index) => { colors[code] = PALETTE[index]; });
  return { order, colors };
}

function recolor() {
  const column = points.columns.find((each) => each.name === $("color").value);
  const bytes = new Uint8Array(4 * points.count).fill(205); // slightly transparent
  const rows = Uint32Array.from({ length: points.count }, (_, row) => row); // in the order drawn, rare values on top
  if (column) {
    const { order, colors } = valueColors(column);
    const shades = colors.map(toBytes);
    for (let row = 0; row < points.count; row += 1) bytes.set(shades[column.codes[row]], 4 * row);
    rows.sort((a, b) => column.counts[column.codes[b]] - column.counts[column.codes[a]] || a - b);
    fillLegend(order.map((code) => ({ text: column.values[code], color: colors[code], number: column.counts[code], rows: () => rowsWith((row) => column.codes[row] === code) })));
  } else {
    colorByConfidence(bytes);
    const confidence = points.confidence.map((value) => (Number.isNaN(value) ? 2 : value));
    rows.sort((a, b) => confidence[b] - confidence[a]);
  }
  scatter?.setColors(bytes, rows);
  $("legend-title").textContent = `Color: ${$("color").value}`;
}

function confidenceColor(confidence) {
  const fraction = Math.min(1, Math.max(0, 1 - confidence) / 0.7); // full color at a confidence of 0.3 and less
  const [low, high] = [toBytes("#3f8fd2"), toBytes("#c22d1c")];
  return low.map((value, k) => Math.round(value + fraction * (high[k] - value)));
}

function colorByConfidence(bytes) {
  const gray = toBytes(OTHER);
  for (let row = 0; row < points.count; row += 1) {
    const confidence = points.confidence[row];
    bytes.set(Number.isNaN(confidence) ? gray : confidenceColor(confidence), 4 * row);
  }
  const limits = [[0, 0.5], [0.5, 0.7], [0.7, 0.9], [0.9, 1.01]];
  const entries = limits.map(([low, high]) => {
    const isWithin = (row) => points.confidence[row] >= low && points.confidence[row] < high;
    const [red, green, blue] = confidenceColor((low + Math.min(high, 1)) / 2);
    const rows = () => rowsWith(isWithin).sort((a, b) => points.confidence[a] - points.confidence[b]);
    return { text: `confidence ${100 * low}% to ${100 * Math.min(high, 1)}%`, color: `rgb(${red}, ${green}, ${blue})`, number: rows().length, rows };
  });
  const unknown = () => rowsWith((row) => Number.isNaN(points.confidence[row]));
  if (unknown().length) entries.push({ text: UNKNOWN[0], color: OTHER, number: unknown().length, rows: unknown });
  fillLegend(entries);
}

function rowsWith(test) {
  const rows = [];
  for (let row = 0; row < points.count; row += 1) if (test(row)) rows.push(row);
  return rows;
}

function fillLegend(entries) {
  $("legend").replaceChildren(...entries.map((entry) => {
    const [item, button, swatch, number] = ["li", "button", "span", "span"].map((tag) => document.createElement(tag));
    swatch.className = "swatch";
    swatch.style.backgroundColor = entry.color;
    number.className = "number";
    number.textContent = entry.number.toLocaleString("en");
    button.append(swatch, entry.text, number);
    button.addEventListener("click", () => select(entry.rows(), entry.text));
    item.append(button);
    return item;
  }));
}

function select(rows, title) {
  selection = rows;
  scatter?.setRows("selected", rows);
  const number = `${rows.length.toLocaleString("en")} ${rows.length === 1 ? "image" : "images"}`;
  const more = rows.length > GRID_IMAGES ? `, the first ${GRID_IMAGES} shown` : "";
  $("chosen").textContent = rows.length ? `${title}: ${number}${more}` : "No image selected";
  $("label").disabled = $("table").disabled = $("clear").disabled = !rows.length;
  $("command").hidden = true;
  $("hint").hidden = rows.length > 0;
  $("grid").replaceChildren(...rows.slice(0, GRID_IMAGES).map(makeTile));
  showStatus(rows.length ? `${title}: ${number} selected.` : "");
}

function makeTile(row, index) {
  const [item, button, image] = ["li", "button", "img"].map((tag) => document.createElement(tag));
  image.loading = "lazy";
  image.alt = `Enlarge: ${describe(row)}`;
  image.src = imageUrl(row, "small");
  button.append(image);
  button.addEventListener("click", () => enlarge(index));
  item.append(button);
  return item;
}

function imageUrl(row, size) {
  return `/images/${names.numbers[row]}/${size}`;
}

function describe(row) {
  const values = points.columns.filter((column) => column.values[column.codes[row]] !== "none").map((column) => `${column.name} ${column.values[column.codes[row]]}`);
  const confidence = points.confidence?.[row];
  if (confidence >= 0) values.push(`confidence ${(100 * confidence).toFixed(1)}%`);
  return values.join(", ");
}

function enlarge(index) {
  shown = (index + selection.length) % selection.length;
  const row = selection[shown];
  $("large").src = imageUrl(row, "large");
  $("large").alt = describe(row);
  $("facts").textContent = `${shown + 1} of ${selection.length}: ${describe(row)}`;
  $("path").textContent = names.names[row];
  if (!$("enlarged").open) $("enlarged").showModal();
}

async function findNeighbors(row) {
  const found = await fetchJson(`/neighbors/${row}`);
  select(found.rows, "Most like it");
}

async function searchExample() {
  const [file] = $("example").files;
  if (!file) return;
  showStatus("Searching.");
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("The file cannot be read.")));
    reader.readAsDataURL(file);
  });
  const found = await postJson("/search", { image: url.slice(url.indexOf(",") + 1) });
  $("example").value = ""; // the same file can be chosen again
  select(found.rows, `Most like ${file.name}`);
}

function postJson(url, content) {
  return fetchJson(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });
}

// Saves the selection on the server's disk, and shows the command that labels it.
async function labelSelection() {
  const rows = selection;
  const saved = await postJson("/selections", { rows });
  if (rows !== selection) return; // another selection meanwhile
  $("command").querySelector("pre").textContent = saved.command;
  $("command").hidden = false;
  $("copy").hidden = !navigator.clipboard; // only this machine's addresses have one
  showStatus(`Saved as ${saved.table}.`);
}

async function copyCommand() {
  await navigator.clipboard.writeText($("command").querySelector("pre").textContent);
  showStatus("Copied.");
}

// Quotes a cell, as some spreadsheets end others at a semicolon, and escapes what they would run as a formula.
function csvCell(value) {
  if (typeof value === "number") return String(value);
  const isFormula = /^'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])/.test(value); // full-width signs included
  return `"${isFormula ? "'" : ""}${value.replaceAll('"', '""')}"`;
}

function saveTable() {
  const header = ["image", ...points.columns.map((column) => column.name), ...(points.confidence ? ["confidence"] : [])];
  const lines = selection.map((row) => [
    names.names[row],
    ...points.columns.map((column) => column.values[column.codes[row]]),
    ...(points.confidence ? [Number.isNaN(points.confidence[row]) ? "" : points.confidence[row]] : []),
  ]);
  const text = [header, ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${text}\r\n`], { type: "text/csv" }));
  link.download = "selection.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function position(event) {
  const box = map.getBoundingClientRect();
  return [event.clientX - box.left - map.clientLeft, event.clientY - box.top - map.clientTop];
}

function drawLasso() {
  const pen = overlay.getContext("2d");
  overlay.hidden = !lasso; // shown, it takes time in each frame
  if (!lasso) return;
  [overlay.width, overlay.height] = [overlay.clientWidth, overlay.clientHeight];
  pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  pen.lineWidth = 2;
  pen.setLineDash([6, 4]);
  pen.beginPath();
  lasso.forEach(([x, y]) => pen.lineTo(x, y));
  pen.stroke();
}

function setLasso(on) {
  $("lasso").setAttribute("aria-pressed", String(on));
  map.classList.toggle("lassoing", on);
}

map.addEventListener("pointerdown", (event) => {
  if (!scatter) return;
  map.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { start: position(event), last: position(event) });
  if (pointers.size === 1 && (event.shiftKey || $("lasso").getAttribute("aria-pressed") === "true")) lasso = [position(event)];
});

map.addEventListener("pointermove", (event) => {
  const pointer = pointers.get(event.pointerId);
  const [x, y] = position(event);
  if (!pointer) {
    if (scatter) preview(x, y);
    return;
  }
  const [before] = [spread()];
  const [dx, dy] = [x - pointer.last[0], y - pointer.last[1]];
  pointer.last = [x, y];
  if (lasso && pointers.size === 1) {
    lasso.push([x, y]);
    drawLasso();
  } else if (pointers.size === 2) {
    const after = spread();
    scatter.pan(dx / 2, dy / 2);
    if (before.size > 0) scatter.zoomAt(after.size / before.size, ...after.middle);
  } else {
    scatter.pan(dx, dy);
  }
});

// Returns the distance of two fingers, and the point between them.
function spread() {
  const [one, two] = [...pointers.values()].map((pointer) => pointer.last);
  if (!two) return { size: 0, middle: one };
  return { size: Math.hypot(one[0] - two[0], one[1] - two[1]), middle: [(one[0] + two[0]) / 2, (one[1] + two[1]) / 2] };
}

function endPointer(event) {
  const pointer = pointers.get(event.pointerId);
  if (!pointer) return;
  const wasOne = pointers.size === 1;
  pointers.delete(event.pointerId);
  const [x, y] = pointer.last;
  const moved = Math.hypot(x - pointer.start[0], y - pointer.start[1]) > MOVE_PIXELS;
  if (lasso) {
    const corners = lasso;
    lasso = null;
    drawLasso();
    setLasso(false);
    if (corners.length > 2) select(scatter.inside(corners), "In the lasso");
  } else if (event.type === "pointerup" && wasOne && !moved) {
    const row = scatter.nearest(x, y);
    if (row >= 0) attempt(() => findNeighbors(row));
  }
}

map.addEventListener("pointerup", endPointer);
map.addEventListener("pointercancel", endPointer);
map.addEventListener("pointerleave", () => { $("preview").hidden = true; });

function preview(x, y) {
  const row = scatter.nearest(x, y);
  $("preview").hidden = row < 0;
  if (row >= 0 && $("preview").dataset.row !== String(row)) {
    $("preview").dataset.row = String(row);
    $("preview").src = imageUrl(row, "small");
  }
}

map.addEventListener("wheel", (event) => {
  event.preventDefault();
  scatter?.zoomAt(Math.exp(-event.deltaY * 0.0016), ...position(event));
}, { passive: false });

map.addEventListener("keydown", (event) => {
  const step = 60;
  const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  const middle = [map.clientWidth / 2, map.clientHeight / 2];
  if (moves[event.key]) scatter?.pan(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") scatter?.zoomAt(1.3, ...middle);
  else if (event.key === "-") scatter?.zoomAt(1 / 1.3, ...middle);
  else if (event.key === "0") scatter?.reset();
  else if (event.key === "Enter" && scatter) attempt(() => findNeighbors(Math.max(0, scatter.nearest(...middle, map.clientWidth))));
  else return;
  event.preventDefault();
});

$("color").addEventListener("change", recolor);
$("lines").addEventListener("change", () => { if (scatter) { scatter.showsLines = $("lines").checked; scatter.draw(); } });
$("lasso").addEventListener("click", () => setLasso($("lasso").getAttribute("aria-pressed") !== "true"));
$("reset").addEventListener("click", () => scatter?.reset());
$("clear").addEventListener("click", () => select([], ""));
$("table").addEventListener("click", saveTable);
$("label").addEventListener("click", () => attempt(labelSelection));
$("copy").addEventListener("click", () => attempt(copyCommand));
$("example").addEventListener("change", () => attempt(searchExample));
$("previous").addEventListener("click", () => enlarge(shown - 1));
$("next").addEventListener("click", () => enlarge(shown + 1));
$("close").addEventListener("click", () => $("enlarged").close());
$("similar").addEventListener("click", () => { $("enlarged").close(); attempt(() => findNeighbors(selection[shown])); });
$("enlarged").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") enlarge(shown - 1);
  else if (event.key === "ArrowRight") enlarge(shown + 1);
});
$("enlarged").addEventListener("close", () => $("grid").querySelectorAll("button")[shown]?.focus());

attempt(start);
