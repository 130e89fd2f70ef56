// Requests to the server of this page. All paths are relative: the address of the page holds the token.

/** An error of the server, in words for people. */
export class RequestFailed extends Error {}

export const MOST_FILES = 4096; // of a folder

export const NO_ANSWER = "The server does not answer.";

async function check(response) {
  if (response.ok) return response;
  let text = response.statusText;
  try { text = (await response.json()).error ?? text; } catch { /* no JSON: the status says it */ }
  throw new RequestFailed(text);
}

/** Sends a request; the server may be gone. */
async function send(path, settings = {}) {
  const response = await fetch(`api/${path}`, settings).catch((error) => {
    throw error.name === "AbortError" ? error : new RequestFailed(NO_ANSWER);
  });
  return check(response);
}

/** @param {string} path */
export async function get(path) {
  return (await send(path)).json();
}

/** @param {string} path @param {object} value @param {AbortSignal} [signal] */
export async function post(path, value, signal) {
  const headers = { "Content-Type": "application/json" };
  return send(path, { method: "POST", headers, body: JSON.stringify(value), signal });
}

/** Sends a file, and returns its name in the folder and its kind. @param {Blob} file @param {string} name */
export const upload = (file, name, largest) => sendFile("upload", file, name, largest);

async function sendFile(path, file, name, largest) {
  if (file.size > largest) {
    throw new RequestFailed(`${name} is larger than ${Math.floor(largest / 2 ** 20)} MiB; put it into the folder`);
  }
  const headers = { "Content-Type": "application/octet-stream" };
  return (await send(withQuery(path, { name }), { method: "POST", headers, body: file })).json();
}

/** Sends the files of a folder as one: a line with their lengths, and the files. @param {File[]} files */
export async function uploadSeries(files, name, largest) {
  if (files.length > MOST_FILES) throw new RequestFailed(`${name} holds more than ${MOST_FILES} files; send the folder of one series`);
  const body = new Blob([`${JSON.stringify(files.map((file) => file.size))}\n`, ...files]);
  return sendFile("upload-series", body, name, largest);
}

/** The bytes of an answer. @param {string} path */
export async function bytes(path) {
  return (await send(path)).arrayBuffer();
}

/** A path with its query. @param {string} path @param {Record<string, any>} query */
export const withQuery = (path, query) => `${path}?${new URLSearchParams(query)}`;

/** @param {string} name @param {number} side @param {number} dim number of axes of a built-in input */
export const thumbnail = (name, side, dim = 2) => withQuery("api/thumbnail", { name, side, dim });

/** @param {string} name */
export const file = (name) => `api/file?name=${encodeURIComponent(name)}`;

/** The picture of a step of a job; `mark` makes the browser load it anew. */
export const step = (job, number, mark = 0) => `api/step?job=${job}&step=${number}&mark=${mark}`;

/** Calls `onJobs` with all jobs whenever they change. A lost connection comes back by itself. */
export function listen(onJobs, onConnection) {
  const source = new EventSource("api/events");
  source.onmessage = (event) => { onConnection(true); onJobs(JSON.parse(event.data).jobs); };
  source.onerror = () => onConnection(false);
}
