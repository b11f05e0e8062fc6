// The card of one image and its prediction.

import { drawHeatmap } from "./heatmap.js";

const MAX_ROWS = 8; // classes shown at first
const OPACITY = 70; // percent, of the heatmap when a class is chosen
let numCards = 0; // for unique ids

/** Creates an element with properties and children; text never becomes markup. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child != null));
  return element;
}

export const percent = (value) => (value > 0 && value < 0.001 ? "<\u00a00.1%" : `${(value * 100).toFixed(1)}%`);

/** The card of an image: shown at once, filled by `showResponse` or `showError`. */
export class Card {
  constructor(file, onRetry) {
    this.file = file;
    this.name = file.name || "pasted image";
    this.onRetry = onRetry;
    this.controller = new AbortController(); // of its request
    this.signal = this.controller.signal;
    this.response = null;
    this.number = numCards += 1;
    this.address = URL.createObjectURL(file);
    this.image = make("img", { src: this.address, alt: `Image ${this.name}` });
    this.shown = make("div", { className: "shown" }, this.image);
    this.image.addEventListener("error", () => this.image.replaceWith(
      make("p", { className: "quiet no-view", textContent: "This browser cannot show images of this format." })));
    this.figure = make("figure", { className: "figure" }, this.shown, make("figcaption", { textContent: this.name }));
    this.result = make("div", { className: "result" });
    this.element = make("li", { className: "card" }, this.figure, this.result);
    this.showPending();
  }

  showPending() {
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.remove("failed");
    this.result.replaceChildren(make("p", { className: "verdict pulse", textContent: "Predicting …" }));
  }

  /** Shows a response, and returns it as a sentence for screen readers. */
  showResponse(response) {
    const prediction = response.predictions[0];
    if (prediction.error) return this.showError(`The image cannot be read: ${prediction.error}.`, false);
    this.response = response;
    this.element.setAttribute("aria-busy", "false");
    const ranked = Object.entries(prediction.probabilities).sort((one, other) => other[1] - one[1]);
    this.element.classList.toggle("none-of-these", prediction.none_of_these === true);
    this.result.replaceChildren(...[
      verdict(prediction),
      this.rows(ranked, prediction),
      tags(prediction),
      predictionSet(prediction),
      ...prediction.warnings.map((warning) => make("p", { className: "quiet", textContent: `Warning: ${warning}.` })),
      make("p", { className: "below" }, this.jsonLink()),
    ].filter(Boolean));
    if (prediction.heatmap) this.addHeatmap(prediction.heatmap, response);
    return prediction.none_of_these ? `${this.name}: none of these.` : `${this.name}: ${prediction.predicted_label}, ${percent(prediction.confidence)}.`;
  }

  /** Shows why there is no prediction, and returns it as a sentence for screen readers. */
  showError(reason, canRetry) {
    this.element.setAttribute("aria-busy", "false");
    this.element.classList.add("failed");
    const retry = make("button", { type: "button", textContent: "Try again" });
    retry.addEventListener("click", () => { this.showPending(); this.onRetry(this); });
    this.result.replaceChildren(...[
      make("h3", { className: "verdict", textContent: "No prediction" }),
      make("p", { textContent: reason }),
      canRetry ? make("p", {}, retry) : null,
    ].filter(Boolean));
    return `${this.name}: ${reason}`;
  }

  /** Cancels the request of the card, and frees its object URLs. */
  dispose() {
    this.controller.abort();
    URL.revokeObjectURL(this.address);
    if (this.link) URL.revokeObjectURL(this.link);
  }

  jsonLink() {
    this.json = new Blob([JSON.stringify(this.response, null, 2)], { type: "application/json" });
    this.link = URL.createObjectURL(this.json);
    return make("a", { href: this.link, download: `${this.name}.json`, textContent: "Response as JSON" });
  }

  rows(ranked, prediction) {
    const legend = prediction.heatmap ? "Probability; choose a class to see where it is" : "Probability";
    const rows = ranked.map(([name, value], rank) => this.row(name, value, rank, Boolean(prediction.heatmap)));
    const list = make("fieldset", { className: "rows" }, make("legend", { textContent: legend }), ...rows);
    if (rows.length > MAX_ROWS + 1) {
      for (const row of rows.slice(MAX_ROWS)) row.hidden = true;
      const more = make("button", { type: "button", className: "plain", textContent: `All ${rows.length} classes` });
      more.addEventListener("click", () => {
        for (const row of rows) row.hidden = false;
        more.remove();
      });
      list.append(more);
    }
    return list;
  }

  row(name, value, rank, canChoose) {
    const bar = make("i");
    bar.style.width = `${(value * 100).toFixed(2)}%`;
    const track = make("span", { className: "track" }, bar);
    track.setAttribute("aria-hidden", "true");
    const cells = [
      make("span", { className: "name", textContent: name }), track,
      make("span", { className: "value", textContent: percent(value) }),
    ];
    const choice = canChoose ? make("input", { type: "radio", name: `class-${this.number}`, value: name, checked: rank === 0 }) : null;
    choice?.addEventListener("click", () => this.showHeatmap(name)); // also sent for the keyboard, and for the class chosen at first
    return make(canChoose ? "label" : "div", { className: rank === 0 ? "row first" : "row" }, choice, ...cells);
  }

  /** Adds a canvas over the image, and a slider for its opacity. */
  addHeatmap(heatmap, response) {
    const canvas = make("canvas");
    canvas.setAttribute("aria-hidden", "true");
    canvas.style.opacity = "0";
    const id = `heat-${this.number}`;
    const slider = make("input", { type: "range", id, min: 0, max: 100, step: 5, value: 0 });
    const fade = () => { canvas.style.opacity = String(slider.value / 100); };
    slider.addEventListener("input", fade);
    const draw = (name) => {
      if (!this.image.naturalWidth) return;
      drawHeatmap(canvas, this.image, heatmap[response.class_names.indexOf(name)], response.preprocess);
    };
    this.showHeatmap = (name) => {
      draw(name);
      if (slider.value === "0") slider.value = OPACITY;
      fade();
    };
    const drawChosen = () => draw(this.result.querySelector("input[type=radio]:checked").value);
    const show = () => {
      this.shown.append(canvas);
      this.figure.append(make("div", { className: "slider" }, make("label", { htmlFor: id, textContent: "Heatmap" }), slider));
      drawChosen();
    };
    if (this.image.complete && this.image.naturalWidth) show();
    else this.image.addEventListener("load", show, { once: true });
  }
}

function verdict(prediction) {
  if (prediction.none_of_these) {
    return make("div", {}, make("h3", { className: "verdict", textContent: "None of these" }),
      make("p", { className: "caution", textContent: `This image is none of the classes of the model (out of distribution). The most probable class is ${prediction.predicted_label}.` }));
  }
  return make("h3", { className: "verdict" }, prediction.predicted_label, " ", make("span", { className: "confidence", textContent: percent(prediction.confidence) }));
}

function tags(prediction) {
  if (!prediction.tags.length) return null;
  const items = prediction.tags.map((tag) => make("li", { className: "tag" }, make("b", { textContent: tag.name }), ` ${(tag.area_fraction * 100).toFixed(0)}%`));
  return make("ul", { className: "tags" }, make("li", { className: "title", textContent: "In the image" }), ...items);
}

function predictionSet(prediction) {
  if (prediction.none_of_these || prediction.prediction_set.length < 2) return null;
  return make("p", { className: "quiet", textContent: `Prediction set: ${prediction.prediction_set.join(", ")}.` });
}
