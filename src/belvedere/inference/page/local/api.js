// Predicts on this device: a worker decodes the images and runs the model, one image at a time. Has the functions of
// the server's api.js.

const NOT_STARTED = "The model cannot be started. Check the connection, or use a newer browser: Chrome or Edge 91, Firefox 114, Safari 16.4 or later.";
let worker = null;
let last = Promise.resolve(); // call

/** An error without an HTTP status, after which the page offers another attempt. */
class WorkerError extends Error {
  status = 0;
}

/** Returns the description of the model. */
export async function fetchModel() {
  const model = await call({ task: "describe" });
  openModel();
  return model;
}

/** Returns the response for one file: {model, preprocess, class_names, predictions: [one]}; `signal` cancels it. */
export const predict = (file, signal) => call({ task: "predict", file }, signal);

/** Loads the model while the user chooses images. The service worker then finds its files in the browser's cache. */
function openModel() {
  call({ task: "open" }).then(() => navigator.serviceWorker?.register("service_worker.js")).catch(() => {});
}

/** Sends a message to the worker after the calls before it. */
function call(message, signal) {
  const result = last.then(() => {
    if (signal?.aborted) throw new WorkerError("canceled");
    return send(message);
  });
  last = result.catch(() => {});
  return result;
}

function send(message) {
  worker ??= new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    const fail = (reason) => {
      worker.terminate();
      worker = null; // the next call starts another, since onnxruntime-web does not recover from a failed start
      reject(new WorkerError(reason));
    };
    worker.onmessage = ({ data: { result, error } }) => (error ? fail(error) : resolve(result));
    worker.onerror = () => fail(NOT_STARTED); // its scripts cannot be loaded
    worker.postMessage(message);
  });
}
