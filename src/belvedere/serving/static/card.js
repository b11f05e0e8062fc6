// One photograph and what is said of it, as elements. Knows the shape of an answer; does not know how it was asked for.

import { drawHeatmap } from "./heatmap.js";

const MOST_ROWS = 8; // classes shown at first
const OPACITY = 70; // percent, of the heat-map of a class that was chosen
let cards = 0; // made so far: what is labeled needs a name of its own

/** Makes an element with properties and children; text never becomes markup. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child != null));
  return element;
}

export const percent = (value) => {
  const hundred = value * 100;
  if (hundred > 0 && hundred < 0.1) return "<\u00a00.1%";
  return `${hundred < 10 || (hundred > 99 && hundred < 100) ? hundred.toFixed(1) : Math.round(hundred)}%`;
};

/** The card of a photograph: shown at once, filled by `tell` or `fail`. */
export class Card {
  constructor(file, again) {
    this.file = file;
    this.name = file.name || "pasted picture";
    this.again = again;
    this.answer = null;
    this.number = cards += 1;
    this.address = URL.createObjectURL(file);
    this.image = make("img", { src: this.address, alt: `Photograph ${this.name}` });
    this.shown = make("div", { className: "shown" }, this.image);
    this.image.addEventListener("error", () => this.image.replaceWith(
      make("p", { className: "quiet no-view", textContent: "This browser can't show pictures of this kind." })));
    this.photo = make("figure", { className: "photo" }, this.shown, make("figcaption", { textContent: this.name }));
    this.says = make("div", { className: "says" });
    this.element = make("li", { className: "card" }, this.photo, this.says);
    this.wait();
  }

  wait() {
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.remove("failed");
    this.says.replaceChildren(make("p", { className: "verdict pulse", textContent: "Looking …" }));
  }

  /** Shows an answer, and returns it in a sentence. */
  tell(answer) {
    const said = answer.predictions[0];
    if (said.error) return this.fail(`It can't be read: ${said.error}.`, false);
    this.answer = answer;
    this.element.setAttribute("aria-busy", "false");
    const ranked = Object.entries(said.probabilities).sort((one, other) => other[1] - one[1]);
    this.element.classList.toggle("unlike", said.none_of_these === true);
    this.says.replaceChildren(...[
      verdict(said),
      this.rows(ranked, said),
      tags(said),
      doubts(said),
      ...said.notes.map((note) => make("p", { className: "quiet", textContent: `In reading: ${note}.` })),
      make("p", { className: "below" }, this.json()),
    ].filter(Boolean));
    if (said.heatmap) this.lay(said.heatmap, answer);
    return said.none_of_these ? `${this.name}: none of these.` : `${this.name}: ${said.predicted_label}, ${percent(said.confidence)}.`;
  }

  /** Shows why there is no answer, and returns it in a sentence. */
  fail(reason, mayRetry) {
    this.element.setAttribute("aria-busy", "false");
    this.element.classList.add("failed");
    const retry = make("button", { type: "button", textContent: "Try again" });
    retry.addEventListener("click", () => { this.wait(); this.again(this); });
    this.says.replaceChildren(...[
      make("h3", { className: "verdict", textContent: "No answer" }),
      make("p", { textContent: reason }),
      mayRetry ? make("p", {}, retry) : null,
    ].filter(Boolean));
    return `${this.name}: ${reason}`;
  }

  /** Frees what the browser holds for the card. */
  forget() {
    URL.revokeObjectURL(this.address);
    if (this.link) URL.revokeObjectURL(this.link);
  }

  json() {
    this.link = URL.createObjectURL(new Blob([JSON.stringify(this.answer, null, 2)], { type: "application/json" }));
    return make("a", { href: this.link, download: `${this.name}.json`, textContent: "This answer as JSON" });
  }

  rows(ranked, said) {
    const legend = said.heatmap ? "Probability; choose a class to see where it is" : "Probability";
    const rows = ranked.map(([name, value], place) => this.row(name, value, place, Boolean(said.heatmap)));
    const list = make("fieldset", { className: "rows" }, make("legend", { textContent: legend }), ...rows);
    if (rows.length > MOST_ROWS + 1) {
      for (const row of rows.slice(MOST_ROWS)) row.hidden = true;
      const more = make("button", { type: "button", className: "plain", textContent: `All ${rows.length} classes` });
      more.addEventListener("click", () => {
        for (const row of rows) row.hidden = false;
        more.remove();
      });
      list.append(more);
    }
    return list;
  }

  row(name, value, place, canChoose) {
    const bar = make("i");
    bar.style.width = `${(value * 100).toFixed(2)}%`;
    const track = make("span", { className: "track" }, bar);
    track.setAttribute("aria-hidden", "true");
    const cells = [
      make("span", { className: "name", textContent: name }), track,
      make("span", { className: "value", textContent: percent(value) }),
    ];
    const choice = canChoose ? make("input", { type: "radio", name: `class-${this.number}`, value: name, checked: place === 0 }) : null;
    choice?.addEventListener("click", () => this.reveal(name)); // of the keyboard too, and of the class chosen at first
    return make(canChoose ? "label" : "div", { className: place === 0 ? "row first" : "row" }, choice, ...cells);
  }

  /** Puts a canvas over the picture, and a slider that shows it. */
  lay(heatmap, answer) {
    const canvas = make("canvas");
    canvas.setAttribute("aria-hidden", "true");
    canvas.style.opacity = "0";
    const id = `heat-${this.number}`;
    const slider = make("input", { type: "range", id, min: 0, max: 100, step: 5, value: 0 });
    const fade = () => { canvas.style.opacity = String(slider.value / 100); };
    slider.addEventListener("input", fade);
    const draw = (name) => {
      if (!this.image.naturalWidth) return;
      drawHeatmap(canvas, this.image, heatmap[answer.classes.indexOf(name)], answer.input);
    };
    this.reveal = (name) => {
      draw(name);
      if (slider.value === "0") slider.value = OPACITY;
      fade();
    };
    const chosen = () => draw(this.says.querySelector("input[type=radio]:checked").value);
    const begin = () => {
      this.shown.append(canvas);
      this.photo.append(make("div", { className: "slider" }, make("label", { htmlFor: id, textContent: "Heat-map" }), slider));
      chosen();
    };
    if (this.image.complete && this.image.naturalWidth) begin();
    else this.image.addEventListener("load", begin, { once: true });
  }
}

function verdict(said) {
  if (said.none_of_these) {
    return make("div", {}, make("h3", { className: "verdict", textContent: "None of these" }),
      make("p", { className: "caution", textContent: `This photograph is unlike everything the model has learnt. Of its classes, ${said.predicted_label} comes nearest.` }));
  }
  return make("h3", { className: "verdict" }, said.predicted_label, " ", make("span", { className: "sure", textContent: percent(said.confidence) }));
}

function tags(said) {
  if (!said.tags.length) return null;
  const items = said.tags.map((tag) => make("li", { className: "tag" }, make("b", { textContent: tag.name }), ` ${percent(tag.share)}`));
  return make("ul", { className: "tags" }, make("li", { className: "title", textContent: "In the picture" }), ...items);
}

function doubts(said) {
  if (said.none_of_these || said.prediction_set.length < 2) return null;
  return make("p", { className: "quiet", textContent: `Can't be told apart for sure: ${said.prediction_set.join(", ")}.` });
}
