// The page: images are dropped, pasted, chosen or taken with the camera, and each gets a card.

import * as api from "./api.js";
import { Card } from "./card.js";

const byId = (id) => document.getElementById(id);
const cards = [];
let maxBytes = Infinity; // of a request
let isModelShown = false;
let allJson = null; // object URL

for (const [button, input] of [["choose", "files"], ["camera", "shot"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", () => {
    addFiles(byId(input).files);
    byId(input).value = "";
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) {
    event.preventDefault();
    addFiles(event.clipboardData.files);
  }
});
let dragDepth = 0; // nested elements under a dragged file
const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (!hasFiles(event)) return;
  dragDepth += 1;
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => {
  dragDepth = Math.max(0, dragDepth - 1);
  document.body.classList.toggle("dragging", dragDepth > 0);
});
document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  dragDepth = 0;
  document.body.classList.remove("dragging");
  if (!hasFiles(event)) return;
  event.preventDefault();
  addFiles(event.dataTransfer.files);
});
byId("clear").addEventListener("click", () => {
  for (const card of cards.splice(0)) card.dispose();
  byId("cards").replaceChildren();
  refresh();
  byId("choose").focus();
});
byId("token")?.addEventListener("submit", (event) => { // only servers have tokens
  event.preventDefault();
  api.setToken(byId("secret").value.trim());
  byId("token").hidden = true;
  showModel();
  for (const card of cards.filter((each) => each.needsToken)) {
    card.needsToken = false;
    card.showPending();
    requestPrediction(card);
  }
});

/** Adds a card for each file above the older ones, and requests the predictions. */
function addFiles(files) {
  const added = [...files].map((file) => new Card(file, requestPrediction));
  cards.unshift(...added);
  byId("cards").prepend(...added.map((card) => card.element));
  refresh();
  for (const card of added) requestPrediction(card);
}

async function requestPrediction(card) {
  let message;
  if (card.file.size > maxBytes) {
    message = card.showError(`The file has ${Math.ceil(card.file.size / 1e6)} MB; the limit is ${Math.floor(maxBytes / 1e6)} MB.`, false);
  } else {
    try {
      const response = await api.predict(card.file, card.signal);
      if (card.signal.aborted) return; // cleared in the meantime
      message = card.showResponse(response);
      if (!isModelShown) showModel(); // the first attempt failed
    } catch (error) {
      if (card.signal.aborted) return;
      if (error.status === 401) {
        card.needsToken = true;
        showTokenForm(error);
      }
      message = card.showError(error.message, error.status === 0 || error.status >= 500 || error.status === 408);
    }
  }
  byId("status").textContent = message;
  refresh();
}

function refresh() {
  const predicted = cards.filter((card) => card.response);
  document.body.classList.toggle("has-cards", cards.length > 0);
  byId("predictions").hidden = cards.length === 0;
  byId("count").textContent = cards.length === 1 ? "1 image" : `${cards.length} images`;
  if (allJson) URL.revokeObjectURL(allJson);
  allJson = null;
  byId("all-json").hidden = predicted.length < 2;
  if (predicted.length > 1) {
    const parts = predicted.flatMap((card, index) => [index ? ",\n" : "[\n", card.json]); // which are not copied
    allJson = URL.createObjectURL(new Blob([...parts, "\n]\n"], { type: "application/json" }));
    byId("all-json").href = allJson;
  }
}

function showTokenForm(error) {
  byId("token-error").textContent = error.message.startsWith("The token") ? "The token is wrong." : "";
  if (!byId("token").hidden) return;
  byId("token").hidden = false;
  byId("secret").focus();
}

/** Shows the classes and the name of the model. */
async function showModel() {
  try {
    const model = await api.fetchModel();
    maxBytes = model.limits.max_body_bytes;
    const names = model.card.class_names;
    const listed = names.length > 12 ? `${names.slice(0, 10).join(", ")} and ${names.length - 10} more` : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
    byId("about").textContent = `Classes of this model: ${listed}.`;
    byId("model").textContent = `${model.name}, ${model.sha256.slice(0, 12)}`;
    isModelShown = true;
    if (model.reload_error) byId("model").textContent += ` (the present model file is not in use: ${model.reload_error})`;
  } catch (error) {
    if (error.status === 401) showTokenForm(error);
  }
}

showModel();
