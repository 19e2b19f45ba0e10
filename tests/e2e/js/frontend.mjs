// What a frontend does, with the stock SDK from npm: stream a run, then answer an approval.
// Environment: HOLDFAST_URL, HOLDFAST_API_KEY. Prints one JSON line; any failed check ends it with code 1.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.env.HOLDFAST_URL, apiKey: process.env.HOLDFAST_API_KEY });
const examples = process.argv[2];
const example = async (agent) => JSON.parse(await readFile(`${examples}/${agent}.json`, "utf8"));

async function streamARun() {
  const thread = await client.threads.create();
  const events = {};
  let values;
  let tokens = "";
  const stream = client.runs.stream(thread.thread_id, "analytics", {
    input: await example("analytics"),
    streamMode: ["values", "messages-tuple"],
  });
  for await (const chunk of stream) {
    events[chunk.event] = (events[chunk.event] ?? 0) + 1;
    if (chunk.event === "values") values = chunk.data;
    if (chunk.event === "messages") tokens += chunk.data[0].content;
  }
  assert.equal(values.problem, null);
  assert.ok(Object.keys(values.result).length > 0, "the run left no result");
  assert.ok(events.messages > 1, "the answer did not arrive in tokens");
  const answer = values.messages.at(-1).content;
  assert.ok(tokens.includes(answer), "the tokens do not add up to the answer");
  return { events, answer };
}

async function answerAnApproval() {
  const thread = await client.threads.create();
  await client.runs.wait(thread.thread_id, "support", { input: await example("support") });
  const paused = await client.threads.get(thread.thread_id);
  assert.equal(paused.status, "interrupted");
  const [interrupt] = Object.values(paused.interrupts).flat();
  const [request] = [interrupt.value].flat();
  assert.equal(request.config.allow_accept, true);
  const values = await client.runs.wait(thread.thread_id, "support", {
    command: { resume: { [interrupt.id]: [{ type: "accept", args: null }] } },
  });
  const resumed = await client.threads.get(thread.thread_id);
  assert.equal(resumed.status, "idle");
  assert.equal(values.messages.at(-1).content, request.action_request.args.reply);
  return { asked: request.action_request.action, answer: values.messages.at(-1).content };
}

console.log(JSON.stringify({ streamed: await streamARun(), approved: await answerAnApproval() }));
