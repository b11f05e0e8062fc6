// Asks the server. Knows addresses, the token and when to try again; does not know the page.

const TRIES = 6; // while the server is busy
const TOGETHER = 3; // requests at one time

let token = "";
let running = 0;
const waiting = [];

/** A refusal of the server's, or that it can't be reached. */
export class Refusal extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function setToken(value) {
  token = value;
}

/** The card of the model that answers. */
export async function askModel() {
  return (await ask("model", {})).json();
}

/** The answer for one file: {model, input, classes, predictions: [one]}. */
export async function askAbout(file) {
  await turn();
  try {
    const form = new FormData();
    form.append("files", file, file.name || "picture");
    return await (await ask("predict?heatmaps=true", { method: "POST", body: form })).json();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

async function turn() {
  while (running >= TOGETHER) await new Promise((resolve) => waiting.push(resolve));
  running += 1;
}

async function ask(address, options) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  for (let tries = 1; ; tries += 1) {
    let response;
    try {
      response = await fetch(address, { ...options, headers });
    } catch {
      throw new Refusal(0, "unreachable", "The server can't be reached. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 503 && tries < TRIES) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000 * (0.5 + Math.random())));
      continue;
    }
    const { error } = await response.json().catch(() => ({ error: null }));
    throw new Refusal(response.status, error?.code ?? "error", error?.message ?? `The server answered ${response.status}.`);
  }
}
