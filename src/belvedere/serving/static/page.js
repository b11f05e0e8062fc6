// The page: photographs come by dropping, pasting, choosing or the camera; each gets a card. Knows the page's places.

import { askAbout, askModel, setToken } from "./asking.js";
import { Card } from "./card.js";

const place = (id) => document.getElementById(id);
const cards = [];
let limit = Infinity; // bytes of a request
let allJson = null;

for (const [button, input] of [["choose", "files"], ["camera", "shot"]]) {
  place(button).addEventListener("click", () => place(input).click());
  place(input).addEventListener("change", () => {
    take(place(input).files);
    place(input).value = "";
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) {
    event.preventDefault();
    take(event.clipboardData.files);
  }
});
let inside = 0; // elements that a dragged file is over
const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (!hasFiles(event)) return;
  inside += 1;
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => {
  inside = Math.max(0, inside - 1);
  document.body.classList.toggle("dragging", inside > 0);
});
document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  inside = 0;
  document.body.classList.remove("dragging");
  if (!hasFiles(event)) return;
  event.preventDefault();
  take(event.dataTransfer.files);
});
place("clear").addEventListener("click", () => {
  for (const card of cards.splice(0)) card.forget();
  place("cards").replaceChildren();
  refresh();
  place("choose").focus();
});
place("token").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(place("secret").value.trim());
  place("token").hidden = true;
  introduce();
  for (const card of cards.filter((each) => each.refused)) {
    card.refused = false;
    card.wait();
    answer(card);
  }
});

/** Makes a card for each file, the newest above the older ones, and asks for their answers. */
function take(files) {
  const fresh = [...files].map((file) => new Card(file, answer));
  cards.unshift(...fresh);
  place("cards").prepend(...fresh.map((card) => card.element));
  refresh();
  for (const card of fresh) answer(card);
}

async function answer(card) {
  let said;
  if (card.file.size > limit) {
    said = card.fail(`It is ${Math.ceil(card.file.size / 1e6)} MB large; this server takes ${Math.floor(limit / 1e6)} MB.`, false);
  } else {
    try {
      said = card.tell(await askAbout(card.file));
    } catch (refusal) {
      if (refusal.status === 401) {
        card.refused = true;
        askForToken(refusal);
      }
      said = card.fail(refusal.message, refusal.status === 0 || refusal.status >= 500 || refusal.status === 408);
    }
  }
  if (!cards.includes(card)) card.forget(); // cleared in the meantime
  place("said").textContent = said;
  refresh();
}

function refresh() {
  const answered = cards.filter((card) => card.answer);
  document.body.classList.toggle("has-answers", cards.length > 0);
  place("answers").hidden = cards.length === 0;
  place("count").textContent = cards.length === 1 ? "One photograph" : `${cards.length} photographs`;
  if (allJson) URL.revokeObjectURL(allJson);
  allJson = null;
  place("all-json").hidden = answered.length < 2;
  if (answered.length > 1) {
    const whole = answered.map((card) => card.answer);
    allJson = URL.createObjectURL(new Blob([JSON.stringify(whole, null, 2)], { type: "application/json" }));
    place("all-json").href = allJson;
  }
}

function askForToken(refusal) {
  place("token-said").textContent = refusal.message.startsWith("The token") ? "That token was wrong." : "";
  if (!place("token").hidden) return;
  place("token").hidden = false;
  place("secret").focus();
}

/** Says which classes the model tells apart, and what it is. */
async function introduce() {
  try {
    const model = await askModel();
    limit = model.limits.body_bytes;
    const names = model.card.class_names;
    const listed = names.length > 12 ? `${names.slice(0, 10).join(", ")} and ${names.length - 10} more` : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
    place("about").textContent = `This model tells ${listed} apart.`;
    place("model").textContent = `${model.name}, ${model.sha256.slice(0, 12)}`;
    if (model.reload_error) place("model").textContent += ` (a newer file is not in use: ${model.reload_error})`;
  } catch (refusal) {
    if (refusal.status === 401) askForToken(refusal);
  }
}

introduce();
