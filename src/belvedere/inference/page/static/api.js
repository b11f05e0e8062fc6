// Client of the server's API: token, retries, and a limit on parallel requests.

const MAX_ATTEMPTS = 6; // while the server is at capacity
const MAX_PARALLEL = 3; // requests

let token = "";
let numRunning = 0;
const waiting = []; // resolve functions of requests that wait for their turn

/** An error response, or status 0 if the server cannot be reached. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function setToken(value) {
  token = value;
}

/** Returns the description of the model in use. */
export async function fetchModel() {
  return (await request("model", {})).json();
}

/** Returns the response for one file: {model, preprocess, class_names, predictions: [one]}; `signal` cancels it. */
export async function predict(file, signal) {
  await waitForTurn();
  try {
    const form = new FormData();
    form.append("files", file, file.name || "image");
    return await (await request("predict?heatmaps=true", { method: "POST", body: form, signal })).json();
  } finally {
    numRunning -= 1;
    waiting.shift()?.();
  }
}

async function waitForTurn() {
  while (numRunning >= MAX_PARALLEL) await new Promise((resolve) => waiting.push(resolve));
  numRunning += 1;
}

async function request(address, options) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(address, { ...options, headers });
    } catch {
      throw new ApiError(0, "unreachable", "The server cannot be reached. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 503 && attempt < MAX_ATTEMPTS) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000 * (0.5 + Math.random())));
      continue;
    }
    const { error } = await response.json().catch(() => ({ error: null }));
    throw new ApiError(response.status, error?.code ?? "error", error?.message ?? `The server responded with status ${response.status}.`);
  }
}
