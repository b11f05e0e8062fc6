// Keys and buttons of the assessment page. The session storage holds the answers that this tab may undo.
"use strict";

const doneKey = `answers:${main.dataset.corrections}`; // this address may have served other assessments
let done = JSON.parse(session.getItem(doneKey) || "[]"); // ids of this tab's answers, latest last

function forgetSteps() {
  done = [];
}

function saveDone() {
  session.setItem(doneKey, JSON.stringify(done.slice(-500)));
}

async function show(image = "next", focus = true) {
  const query = new URLSearchParams({ tab, annotator: annotator.value.trim() });
  main.innerHTML = await request(`/questions/${image}?${query}`, {}, "No connection to the server. Trying again.");
  if (focus) document.getElementById("question").focus();
}

function record(answer, className = null) {
  return runExclusively(async () => {
    const here = main.querySelector("article[data-image]");
    if (!here) return;
    const response = await send("/answers", { image: here.dataset.image, answer, class_name: className });
    done.push(response.id);
    saveDone();
    showStatus(response.message);
    await show();
  });
}

function undo(id) {
  return runExclusively(async () => {
    const step = id || done.at(-1);
    if (!step) {
      showStatus("This page has nothing to undo. Use the buttons below.");
      return;
    }
    done = done.filter((each) => each !== step); // also on an error, which would recur
    saveDone();
    const response = await send("/undo", { step });
    showStatus(response.message);
    await show(response.image || "next");
  });
}

main.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || busy) return;
  if (button.dataset.class !== undefined) record("class", button.dataset.class);
  else if (button.dataset.answer) record(button.dataset.answer);
  else if (button.dataset.undo) undo(button.dataset.undo);
  else if (button.dataset.action === "undo") undo();
  else if (button.dataset.action === "next") runExclusively(() => show());
});

// Shows the classes whose name contains the text of the field.
main.addEventListener("input", (event) => {
  if (event.target.id !== "find") return;
  const text = event.target.value.trim().toLowerCase();
  for (const each of main.querySelectorAll(".classes li")) each.hidden = !each.textContent.toLowerCase().includes(text);
});

document.addEventListener("keydown", (event) => {
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.matches("input:not([type=checkbox])")) {
    if (event.key === "Enter" && target.id === "find") main.querySelector(".classes li:not([hidden]) button")?.click();
    else if (event.key === "Escape" || event.key === "Enter") document.getElementById("question")?.focus();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || busy || !shortcuts.checked) return;
  const find = event.key === "/" && document.getElementById("find");
  if (find) {
    find.focus();
    event.preventDefault();
    return;
  }
  const key = shortcutOf(event);
  const buttons = [...main.querySelectorAll("[aria-keyshortcuts]")];
  const button = key && buttons.find((each) => each.getAttribute("aria-keyshortcuts") === key);
  if (!button) return;
  button.click();
  event.preventDefault();
});

claimTab().then(() => runExclusively(() => show("next", false)));
