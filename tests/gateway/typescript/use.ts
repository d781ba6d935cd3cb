// Uses the client of @hey-api/openapi-ts and the types of openapi-typescript against a gateway.
// Usage: node use.js URL KEY; prints a line of JSON for each step.
import { createClient } from "./hey/client";
import * as api from "./hey/sdk.gen";
import type { CaptionRequest, EmbedRequest, JobBody, ResultLine } from "./hey/types.gen";
import type { components } from "./types";

const [, , url, key] = process.argv as [string, string, string, string];
const gateway = { client: createClient({ baseUrl: url, auth: key }), throwOnError: true } as const;
const image = "https://images.example.com/cat.jpg";

// Defaults are optional, every option is known, and a task has the fields of its own alone.
const caption: CaptionRequest = { task: "caption", image };
const sampled: CaptionRequest = { task: "caption", image, options: { temperature: 0.5, top_k: 3 } };
const embed: EmbedRequest = { task: "embed", text: "a cat" };
const typed: components["schemas"]["CaptionRequest"] = { task: "caption", image };
const options: components["schemas"]["JobOptions"] = { temperature: 0.5 };
// @ts-expect-error: a caption has no question.
const wrong: CaptionRequest = { task: "caption", image, question: "how many?" };

function print(value: unknown): void {
  console.log(JSON.stringify(value));
}

/** Return the output of a job; the task narrows its type. */
function outputOf(job: JobBody): number | string | undefined {
  switch (job.task) {
    case "match":
      return job.output?.matches[0]?.probability;
    case "embed":
      return job.output?.embedding[0];
    default:
      return job.output?.text;
  }
}

function typedOutputOf(job: components["schemas"]["JobBody"]): number | undefined {
  return job.task === "match" ? job.output?.matches[0]?.cosine : undefined;
}

async function ended(id: string): Promise<JobBody> {
  for (;;) {
    const { data } = await api.getJob({ ...gateway, path: { id }, headers: { Prefer: "wait=5" } });
    if (data.status !== "queued" && data.status !== "running") return data;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<ResultLine> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const piece of stream as unknown as AsyncIterable<Uint8Array>) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line) as ResultLine;
  }
}

async function main(): Promise<void> {
  const question = "how many?";
  const history = [{ question: "what is it?", answer: "a cat" }];
  const texts = ["a cat", "a dog"];
  for (const body of [
    caption,
    sampled,
    embed,
    { task: "vqa" as const, image, question },
    { task: "chat" as const, image, question, history },
    { task: "match" as const, image, texts },
  ]) {
    const { data } = await api.createJob({ ...gateway, body });
    const job = await ended(data.id);
    print({ task: job.task, output: outputOf(job), typed: typedOutputOf(job) });
  }
  const lines = texts.map((text) => JSON.stringify({ custom_id: text, image, question }));
  const { data: batch } = await api.createBatch({
    ...gateway,
    body: new Blob([lines.join("\n")]),
    query: { id: "typescript", task: "vqa", temperature: 0.5 },
  });
  print({ batch: batch.id, total: batch.request_counts.total });
  const { data: stream } = await api.getResults({
    ...gateway,
    path: { id: "typescript" },
    query: { wait: true },
    parseAs: "stream",
  });
  for await (const line of linesOf(stream as unknown as ReadableStream<Uint8Array>)) {
    print({ custom_id: line.custom_id, text: line.text });
  }
  const { data: whole } = await api.getResults({ ...gateway, path: { id: "typescript" } });
  print({ lines: (await whole.text()).trim().split("\n").length });
}

void [typed, options, wrong];
main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});

