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

async function pausedSupport() {
  const { thread_id: threadId } = await client.threads.create();
  await client.runs.wait(threadId, "support", { input: await example("support") });
  const paused = await client.threads.get(threadId);
  assert.equal(paused.status, "interrupted");
  const [interrupt] = Object.values(paused.interrupts).flat();
  return { threadId, interrupt };
}

// What a chat interface does: LangChain's answer, beside an empty input.
async function answerAnApproval() {
  const { threadId, interrupt } = await pausedSupport();
  const [action] = interrupt.value.action_requests;
  const [config] = interrupt.value.review_configs;
  assert.equal(config.action_name, action.name);
  assert.ok(config.allowed_decisions.includes("approve"));
  let values;
  const stream = client.runs.stream(threadId, "support", {
    input: {},
    command: { resume: { decisions: [{ type: "approve" }] } },
    streamMode: ["values"],
  });
  for await (const chunk of stream) {
    assert.notEqual(chunk.event, "error");
    if (chunk.event === "values") values = chunk.data;
  }
  assert.equal((await client.threads.get(threadId)).status, "idle");
  assert.equal(values.messages.at(-1).content, action.args.reply);
  return { asked: action.name, answer: values.messages.at(-1).content };
}

// What an agent inbox does: the answer from before, whose edited fields are texts.
async function answerAsAnInbox() {
  const { threadId, interrupt } = await pausedSupport();
  const { action, args } = interrupt.value.action_request;
  assert.equal(interrupt.value.config.allow_edit, true);
  const edited = { action, args: { ...args, reply: "We look into it. [REF-1]" } };
  const stream = client.runs.stream(threadId, "support", {
    command: { resume: [{ type: "edit", args: edited }] },
    streamMode: "events",
  });
  for await (const chunk of stream) assert.notEqual(chunk.event, "error");
  const { status, values } = await client.threads.get(threadId);
  assert.equal(status, "idle");
  return { asked: action, answer: values.messages.at(-1).content };
}

const [streamed, approved, edited] = [await streamARun(), await answerAnApproval(), await answerAsAnInbox()];
console.log(JSON.stringify({ streamed, approved, edited }));
