// Decodes images and runs the model in a thread of its own. After an error, api.js starts another worker.

import { decodeImage, ImageError } from "./decode.js";
import * as ort from "./onnxruntime-web.js";
import { toFailure, toPrediction } from "./postprocess.js";
import { resizeImage } from "./resize.js";

ort.env.wasm.numThreads = 1; // several need HTTP headers that most static hosts do not send
ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime-web.wasm", import.meta.url).href };

const OUTPUTS = ["probabilities", "class_activation_maps", "ood_score"];
const TASKS = { describe: loadModel, open: () => openSession().then(() => null), predict };
let model = null; // promises
let session = null;

self.addEventListener("message", async ({ data: { task, file } }) => {
  try {
    self.postMessage({ result: await TASKS[task](file) });
  } catch (error) {
    const reason = error?.message ?? String(error);
    self.postMessage({ error: `The model cannot be run in this browser (${reason}). Check the connection, or use a newer browser.` });
  }
});

async function predict(file) {
  const { name, sha256, accept_rate, card } = await loadModel();
  const { height, width, resize } = card.preprocess;
  const image = file.name || "image";
  let prediction;
  try {
    const pixels = await readInput(file, card.preprocess);
    prediction = toPrediction(image, await run(pixels, [1, height, width, 3]), { card, accept_rate });
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    prediction = toFailure(image, error.message);
  }
  return { model: { name, sha256 }, preprocess: { height, width, resize }, class_names: card.class_names, predictions: [prediction] };
}

async function readInput(file, preprocess) {
  const image = await decodeImage(file);
  try {
    return resizeImage(image, preprocess);
  } finally {
    image.close();
  }
}

async function run(pixels, sizes) {
  const opened = await openSession();
  const wanted = OUTPUTS.filter((name) => opened.outputNames.includes(name));
  const outputs = await opened.run({ images: new ort.Tensor("uint8", pixels, sizes) }, wanted);
  return {
    probabilities: Array.from(outputs.probabilities.data),
    maps: outputs.class_activation_maps,
    oodScore: outputs.ood_score?.data[0],
  };
}

function loadModel() {
  model ??= request("model.json").then((response) => response.json());
  return model;
}

function openSession() {
  session ??= loadModel().then(fetchContent).then((content) => ort.InferenceSession.create(content, { executionProviders: ["wasm"] }));
  return session;
}

/** Returns the bytes of the model file that belongs to the classes of this page. */
async function fetchContent({ name, sha256 }) {
  for (const cache of ["default", "reload"]) { // a cache may have received it while the host was updated
    const content = await (await request(`../${name}?${sha256}`, { cache })).arrayBuffer();
    if (!self.crypto.subtle || await hash(content) === sha256) return new Uint8Array(content); // absent over plain HTTP
  }
  throw new Error(`${name} is of another version; load the page again`);
}

async function hash(content) {
  const digest = new Uint8Array(await self.crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(address, options) {
  const url = new URL(address, import.meta.url);
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(`${url.pathname.split("/").pop()}: HTTP status ${response.status}`);
  return response;
}
