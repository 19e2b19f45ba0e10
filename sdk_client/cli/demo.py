"""`holdfast demo`: every agent once, one of them approved by a human, and a callback for every run.

It uses the client as an application would, and believes nothing but what it reads back: the runs from the
server, the callbacks from the receiver's inbox after the receiver has verified them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sdk_client.cli.demo_table import Board, Row, fit
from sdk_client.cli.examples import DEFAULT_FOLDER, load_examples
from sdk_client.cli.execute import AsJson, execute
from sdk_client.cli.output import ExitCode, Interrupted, Output, command, describe_error
from sdk_client.cli.receiver import NoCallbackError, Receiver, ReceiverSettings
from sdk_client.cli.render import final_text
from sdk_client.client import Client
from sdk_client.errors import AlreadyDecidedError, ApprovalNeededError, HoldfastError, RunFailedError
from sdk_client.models import RunHandle, RunResult
from sdk_client.pauses import Approval

READY_SECONDS = 10.0
APPROVER = "demo"
SECOND_APPROVER = "a second person"
ENDED_WELL = ("success", "paused")
NEEDS_HUMAN = "support"
"""The agent whose example must pause; the others may."""


def demo(
    context: typer.Context,
    examples: Annotated[Path, typer.Option(help="The folder with <agent>.json.")] = DEFAULT_FOLDER,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How long each run may take.")
    ] = 120.0,
    callback_deadline: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How long after its end its callback may take.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Run every agent on its example, approve the one that asks, and wait for every callback."""

    async def work(client: Client, output: Output) -> ExitCode:
        inputs = load_examples(examples)
        async with Receiver(ReceiverSettings.from_env()) as receiver:
            # What would fail for every agent alike is told once.
            await client.wait_until_ready(timeout_seconds=READY_SECONDS)
            await client.approvals.list_waiting(limit=1)
            await receiver.check()
            show = Demo(client, receiver, output, deadline, callback_deadline)
            return await show.perform(inputs)

    execute(context, as_json, work)


class Demo:
    """One performance of the demo."""

    def __init__(
        self,
        client: Client,
        receiver: Receiver,
        output: Output,
        deadline_seconds: float,
        callback_deadline_seconds: float,
    ) -> None:
        """Prepare; nothing is sent yet."""
        self._client = client
        self._receiver = receiver
        self._output = output
        self._deadline_seconds = deadline_seconds
        self._callback_deadline_seconds = callback_deadline_seconds
        self._board = Board(output)
        self._refusals: list[AlreadyDecidedError] = []
        # Conversations of their own, so that a second demo does not talk on in the threads of the first.
        self._name = f"demo-{uuid.uuid4().hex[:8]}"

    async def perform(self, inputs: Mapping[str, Mapping[str, Any]]) -> ExitCode:
        """Do all of it at once and print what came out."""
        self._output.note(f"{self._name}: {len(inputs)} agents at once")
        rows = [self._board.add(Row(agent, f"{self._name}-{agent}")) for agent in inputs]
        try:
            with self._board.live():
                await asyncio.gather(*(self._drive(row, inputs[row.agent]) for row in rows))
        except asyncio.CancelledError:
            raise Interrupted(
                f"{self._name}: you stopped watching; runs that were submitted go on. "
                f"`{command()} approvals list` shows those that wait"
            ) from None
        return self._conclude()

    async def _drive(self, row: Row, values: Mapping[str, Any]) -> None:
        """One agent from its submission to its last callback."""
        try:
            handle = await self._client.submit(
                row.agent, values, conversation_id=row.conversation_id, webhook=self._receiver.webhook_url
            )
        except HoldfastError as error:
            row.end("not started", f"not started: {error}")
            return
        approval = await self._follow(row, handle)
        if approval is None and row.agent == NEEDS_HUMAN and not row.failures:
            row.failures.append("it answered without asking a human, which its example is there to show")
        resumed = self._decide(row, approval) if approval else _nothing()
        await asyncio.gather(self._await_callback(row), resumed)

    async def _follow(self, row: Row, handle: RunHandle) -> Approval | None:
        """Wait for a run and write its end into its row; what it waits for, if it paused."""
        row.thread_id, row.run_id, row.status = handle.thread_id, handle.run_id, "running"
        self._board.changed(row)
        try:
            result = await self._client.join(handle, deadline_seconds=self._deadline_seconds)
        except ApprovalNeededError as pause:
            row.answer = f"waits for a human: {pause.approvals[0].action}" if pause.approvals else "paused"
            row.end("paused")
            row.completed = True
            self._board.changed(row)
            return pause.approvals[0] if pause.approvals else None
        except HoldfastError as error:
            row.completed = isinstance(error, RunFailedError)
            row.end("failed", f"{error.message}. Look at: {command()} threads inspect {handle.thread_id}")
        else:
            _end_with(row, result)
        self._board.changed(row)
        return None

    async def _decide(self, row: Row, approval: Approval) -> None:
        """Find the pause as a person would, approve it, try to approve it again, and wait for the answer."""
        resumed = self._board.add(
            Row(f"{row.agent} (approved)", row.conversation_id, thread_id=row.thread_id)
        )
        resumed.status = "approving"
        try:
            waiting = await self._client.approvals.list_waiting(assistant_id=row.agent)
            listed = next((one for one in waiting if one.pause_id == approval.pause_id), None)
            if listed is None:
                resumed.end(
                    "not listed", f"it waits for a human and `{command()} approvals list` does not show it"
                )
                return
            decision = await self._client.approvals.approve(listed, decided_by=APPROVER)
            await self._try_second_approval(resumed, listed)
        except HoldfastError as error:
            resumed.end("not approved", f"the approval failed: {error}")
            return
        if decision.run is None:
            resumed.end("not resumed", "the approval made no run")
            return
        again = await self._follow(resumed, decision.run)
        if again is not None:
            resumed.failures.append(
                f"it waits for a human again: {command()} approvals show {again.thread_id}"
            )
        await self._await_callback(resumed)

    async def _try_second_approval(self, row: Row, approval: Approval) -> None:
        try:
            await self._client.approvals.approve(approval, decided_by=SECOND_APPROVER)
        except AlreadyDecidedError as refusal:
            self._refusals.append(refusal)
        else:
            row.failures.append("a second approval of the same pause was accepted; it must be refused")

    async def _await_callback(self, row: Row) -> None:
        if not row.completed or row.run_id is None:
            return
        try:
            row.callback = await self._receiver.wait_for(
                row.run_id, deadline_seconds=self._callback_deadline_seconds
            )
        except NoCallbackError as error:
            row.callback_missing = True
            row.failures.append(
                f"no callback of run {row.run_id}: {error}. Look at the logs of receiver and server"
            )
            return
        if row.status in ENDED_WELL and row.callback.get("status") != "success":
            row.failures.append(
                f"its callback says {row.callback.get('status')!r}, though it ended with success"
            )

    def _conclude(self) -> ExitCode:
        rows = self._board.rows
        failures = [f"{row.agent}: {failure}" for row in rows for failure in row.failures]
        self._output.document(
            {
                "ok": not failures,
                "demo": self._name,
                "runs": [row.as_json() for row in rows],
                "second_approvals_refused": [describe_error(refusal) for refusal in self._refusals],
                "failures": failures,
            }
        )
        if not self._output.as_json:
            self._summarise(rows, failures)
        return ExitCode.RUN_FAILED if failures else ExitCode.OK

    def _summarise(self, rows: Sequence[Row], failures: Sequence[str]) -> None:
        output = self._output
        output.say()
        output.answers.print(fit(rows, output.answers))
        output.say()
        answered = [row for row in rows if row.answer]
        for row in answered:
            output.say(_one_line(f"{row.agent}: {row.answer}", output.answers.width))
        if answered:
            output.say()
        for refusal in self._refusals:
            output.say(f"second approval refused: {refusal.message}")
        arrived = sum(row.callback is not None for row in rows)
        ended_well = sum(row.status in ENDED_WELL for row in rows)
        output.say(f"{ended_well} of {len(rows)} runs succeeded; {arrived} callbacks received and verified.")
        for failure in failures:
            output.say(f"FAILED {failure}")


def _end_with(row: Row, result: RunResult) -> None:
    problem = result.values.get("problem")
    row.answer = final_text(result.values) or f"{len(result.values)} values"
    row.end(result.status)
    row.completed = True
    if isinstance(problem, Mapping):
        row.failures.append(f"the agent could not work with its example: {problem.get('message')}")


def _one_line(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


async def _nothing() -> None:
    return None
