// Sends every example of every GitHub webhook with the CloudEvents SDK for
// JavaScript: once in binary, once in structured and once in batched mode. Each
// event is sent until the broker answers 202, and is then told on standard
// output, one line of JSON each:
//
//   id, sha256 of the data as it was sent, its attributes, and which of
//   the Triggers of triggers.yaml want it
//
//   node send.js http://127.0.0.1:8080/default/default

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { gzipSync } from "node:zlib";
import { CloudEvent, HTTP, Mode, V03, V1, emitterFor } from "cloudevents";

const webhooks = createRequire(import.meta.url)("@octokit/webhooks-examples");
const target = process.argv[2];
const CONCURRENCY = 8;
const BATCH = 20;

// post sends one message until it is accepted.
async function post({ headers, body }) {
  for (;;) {
    let status, text;
    try {
      const answer = await fetch(target, { method: "POST", headers, body, signal: AbortSignal.timeout(20_000) });
      status = answer.status;
      text = await answer.text();
    } catch {
      status = 0; // nobody listens, or the connection broke
    }
    if (status === 202) return;
    if (status >= 400 && status < 500 && status !== 429) {
      throw new Error(`refused for good: ${status} ${text}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const emitBinary = emitterFor(post, { mode: Mode.BINARY });
const emitStructured = emitterFor(post, { mode: Mode.STRUCTURED });

// The SDK reads batches but has no function to write one: this is the array
// of what its own serialiser makes of each event.
const emitBatch = (events) =>
  post({
    headers: { "content-type": "application/cloudevents-batch+json; charset=utf-8" },
    body: `[${events.map((e) => HTTP.structured(e).body).join(",")}]`,
  });

function wants({ type, source, githubaction }) {
  const out = [];
  if (type.startsWith("com.github.pull_request") || githubaction === "created") out.push("reviews");
  if (githubaction !== undefined && githubaction !== "opened" && source.endsWith("/Hello-World")) out.push("hello-world");
  return out;
}

// make is one event and its line. Some carry their data compressed, so that
// there are bytes that are no text; some are of the older version.
function make(mode, name, i, payload) {
  const compressed = i % 5 === 3;
  const data = compressed ? gzipSync(JSON.stringify(payload)) : payload;
  const attributes = {
    id: `js-${mode}-${name}-${i}`,
    type: `com.github.${name}` + (payload.action ? `.${payload.action}` : ""),
    source: `/github/${payload.repository?.full_name ?? payload.organization?.login ?? "app"}`,
    subject: `${name}/${i}`,
    time: new Date(Date.UTC(2024, 0, 1, 0, 0, i, 123)).toISOString(),
    datacontenttype: compressed ? "application/gzip" : "application/json",
    specversion: i % 7 === 5 && !compressed && mode !== "batch" ? V03 : V1,
    ...(payload.action && { githubaction: payload.action }),
  };
  const event = new CloudEvent({ ...attributes, data });
  const sent = compressed ? data : JSON.stringify(payload);
  const line = { ...attributes, sha256: createHash("sha256").update(sent).digest("hex"), wants: wants(attributes) };
  return { event, line };
}

function* messages() {
  const all = webhooks.flatMap(({ name, examples }) => examples.map((payload, i) => [name, i, payload]));
  for (const [mode, emit] of [["binary", emitBinary], ["structured", emitStructured]]) {
    for (const args of all) {
      const { event, line } = make(mode, ...args);
      yield { lines: [line], send: () => emit(event) };
    }
  }
  for (let at = 0; at < all.length; at += BATCH) {
    const batch = all.slice(at, at + BATCH).map((args) => make("batch", ...args));
    yield { lines: batch.map((b) => b.line), send: () => emitBatch(batch.map((b) => b.event)) };
  }
}

const queue = messages();
async function work() {
  for (const { lines, send } of queue) {
    await send();
    process.stdout.write(lines.map((line) => JSON.stringify(line) + "\n").join(""));
  }
}
await Promise.all(Array.from({ length: CONCURRENCY }, work));
