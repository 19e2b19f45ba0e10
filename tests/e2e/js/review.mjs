// What an interface for LangChain's own review does, with the stock SDK from npm: one action, and two at once.
// Environment: HOLDFAST_URL. Prints one JSON line; any failed check ends it with code 1.
import assert from "node:assert/strict";
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.env.HOLDFAST_URL, apiKey: null });

async function review(calls, decide) {
  const { thread_id: threadId } = await client.threads.create();
  const said = { messages: [{ role: "user", content: JSON.stringify(calls) }] };
  const paused = await client.runs.wait(threadId, "reviewed", { input: said });
  const [{ id, value }] = paused.__interrupt__;
  assert.deepEqual(
    value.action_requests.map((action) => [action.name, action.args]),
    calls,
  );
  assert.equal(value.review_configs.length, calls.length);
  const resume = { [id]: { decisions: value.action_requests.map(decide) } };
  const values = await client.runs.wait(threadId, "reviewed", { command: { resume } });
  assert.equal((await client.threads.get(threadId)).status, "idle");
  return JSON.parse(values.messages.at(-1).content);
}

const refund = ["refund", { order: 7, amount: 2.5 }];
const close = ["close_account", { name: "kim" }];
const edited = (action) => ({
  type: "edit",
  edited_action: { name: action.name, args: { ...action.args, amount: 1.5 } },
});
const decisions = [() => ({ type: "approve" }), () => ({ type: "reject", message: "keep it" })];
const [one, two] = await Promise.all([
  review([refund], edited),
  review([refund, close], (action, index) => decisions[index](action)),
]);
console.log(JSON.stringify({ one, two }));
