// Opens the images of a report enlarged, with path and command, and the cells of a confusion matrix.
"use strict";

const dialog = document.getElementById("enlarged");
const part = (name) => dialog.querySelector(`.${name}`);
let opened = []; // buttons of the list that is shown
let position = 0;

function show(index) {
  position = (index + opened.length) % opened.length;
  const button = opened[position];
  const image = button.querySelector("img");
  part("shown").src = image.src;
  part("shown").alt = image.alt;
  part("caption").textContent = Array.from(button.parentElement.querySelectorAll(".line"), (line) => line.textContent).join(", ");
  part("place").textContent = `${position + 1} of ${opened.length}`;
  fill("path", button.dataset.path);
  fill("command", button.dataset.command);
}

function fill(name, text) {
  part(name).textContent = text || "";
  part(name).parentElement.hidden = !text;
}

function open(button) {
  opened = Array.from(button.closest("ul").querySelectorAll("button.enlarge"));
  show(opened.indexOf(button));
  if (!dialog.open) dialog.showModal();
}

function copy(button) {
  const text = part(button.dataset.copies).textContent;
  const done = () => { part("status").textContent = "Copied."; };
  const select = () => getSelection().selectAllChildren(part(button.dataset.copies)); // a browser may deny the clipboard
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, select);
  else select();
}

function openCell(cell) {
  cell.open = true;
  cell.scrollIntoView({ block: "center" });
  cell.querySelector("summary").focus();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("enlarge")) open(button);
  else if (button?.classList.contains("previous")) show(position - 1);
  else if (button?.classList.contains("next")) show(position + 1);
  else if (button?.classList.contains("close") || event.target === dialog) dialog.close();
  else if (button?.dataset.copies) copy(button);
});

dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") show(position - 1);
  else if (event.key === "ArrowRight") show(position + 1);
  else return;
  event.preventDefault();
});

dialog.addEventListener("close", () => { part("status").textContent = ""; opened[position]?.focus(); });

for (const drawn of document.querySelectorAll(".chart g[id*='cell-']")) {
  const cell = document.getElementById(drawn.id.slice(drawn.id.lastIndexOf("cell-")));
  if (!cell || cell === drawn) continue;
  drawn.classList.add("has-images");
  drawn.addEventListener("click", () => openCell(cell));
}
