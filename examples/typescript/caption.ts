// Captions an image file, and lists the captions of the same project. With a gateway on port 8000:
//   npm install && npm run generate && npm run build
//   node out/caption.js http://127.0.0.1:8000 "$KEY" cat.jpg
import { readFile } from "node:fs/promises";
import { createClient } from "./blipline/client";
import { caption, listJobs } from "./blipline/sdk.gen";

async function main(url: string, key: string, path: string): Promise<void> {
  const gateway = { client: createClient({ baseUrl: url, auth: key }), throwOnError: true } as const;
  const image = (await readFile(path)).toString("base64");
  const metadata = { project: "example" };
  const { data: job } = await caption({ ...gateway, body: { image, metadata } });
  if (job.task === "caption") console.log(job.error?.message ?? job.output?.text ?? job.status);
  const query = { status: "done" as const, metadata: ["project=example"] };
  const { data: page } = await listJobs({ ...gateway, query });
  for (const { id, status } of page.data) console.log(id, status);
}

const [, , url, key, path] = process.argv as [string, string, string, string, string];
main(url, key, path).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
