"""The middleware that every agent has, in its order: `standard()`.

Summarize      sums up the older part of a long conversation for the model; the transcript stays whole
Redact         keeps e-mail addresses and card numbers from the provider, where that is wanted
ChooseModel    the assistant's model, temperature and prompt, or the deployment's
Budget         counts calls and tokens into `usage`, and ends a run that has spent too many
RetryModel     tries a failed call again, and tells callers what a lasting failure means
AnswerProblems gives a tool's problem back to the model, and keeps in `problem` what stays unsolved
ToolRetry      LangChain's own, for transient faults only
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from langchain.agents.middleware import (
    AgentMiddleware,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    ToolCallRequest,
    ToolRetryMiddleware,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import Command

from .answers import Flaw, cut_of, flaw_of, give_ids, refusal_of, whole
from .context import Context, context_of
from .failures import patiently
from .history import acceptable
from .model import OFFLINE, model_name, settings_of, with_fallback
from .offline import this_turn
from .offload import OffloadTimeoutError
from .policies import is_transient
from .privacy import Redact
from .problems import InputProblem, Problem
from .spending import overspent, usage_of
from .state import ToolAgentState, Usage, add_usage
from .summary import Summarize

USELESS_ANSWERS: Final = 3

Middleware = AgentMiddleware[Any, Context, Any]
Request = ModelRequest[Context]
Ask = Callable[[Request], Awaitable[ModelResponse[Any]]]


def standard(*, redact_pii: bool = False) -> list[Middleware]:
    """The middleware of an agent or sub-agent; an agent's own goes before it.

    Args:
        redact_pii: Whether personal data is kept from the provider where the assistant says nothing of it.
    """
    redact = Redact(wanted=redact_pii)
    return [
        Summarize(redact),
        redact,
        ChooseModel(),
        Budget(),
        RetryModel(),
        AnswerProblems(),
        ToolRetryMiddleware(max_retries=2, retry_on=is_transient, on_failure="error"),
    ]


class ChooseModel(Middleware):
    """Puts in the place of the offline model what the assistant or the deployment names.

    MODEL_FALLBACK names a model for when that one fails.
    """

    async def awrap_model_call(self, request: Request, handler: Ask) -> ModelResponse[Any]:
        """Call the first model that answers."""
        wanted = context_of(request.runtime)
        if wanted.prompt:
            request = _with_instructions(request, wanted.prompt)
        name = wanted.model or model_name()
        if name == OFFLINE:
            return await handler(request)
        request = request.override(messages=acceptable(request.messages), model_settings=settings_of(wanted))
        return await with_fallback(name, lambda model: handler(request.override(model=model)))


class RetryModel(Middleware):
    """Tries again what may succeed, as soon as the provider says that it may."""

    async def awrap_model_call(self, request: Request, handler: Ask) -> ModelResponse[Any]:
        """Call until it answers, or raise ModelFailedError."""

        async def call() -> ModelResponse[Any]:
            response = await handler(request)
            whole(_answer_of(response))
            return response

        return await patiently(call)


class Budget(Middleware):
    """Counts what the run spends, and ends it with a problem when that is too much or leads nowhere."""

    async def awrap_model_call(self, request: Request, handler: Ask) -> ExtendedModelResponse[Any]:
        """Call the model if the budget allows, and count it."""
        limits = context_of(request.runtime)
        state: Mapping[str, Any] = request.state
        spent = add_usage(state.get("usage"), Usage())
        used = Usage()
        original = request
        flaw: Flaw | None = None
        for _ in range(USELESS_ANSWERS):
            # Before the call: it must fit. After it: an answer is kept whatever it cost, calls are not.
            if problem := overspent(add_usage(add_usage(spent, used), Usage(model_calls=1)), limits):
                return _end(problem, used)
            response = await handler(request)
            answer = _answer_of(response)
            used = add_usage(used, usage_of(answer))
            if refusal := refusal_of(answer):
                return _end(refusal, used)
            if flaw := flaw_of(answer):
                # Nothing of it is done or kept: no provider takes back what it cannot read itself.
                request = _with_instructions(original, flaw.complaint)
                continue
            give_ids(answer)
            used = add_usage(used, Usage(tool_calls=_tool_calls(request, answer)))
            problem = overspent(add_usage(spent, used), limits)
            if answer.tool_calls and problem and response.structured_response is None:
                return _end(problem, used)
            cut = {"problem": cut} if (cut := cut_of(answer)) else {}
            return ExtendedModelResponse(response, Command(update={"usage": used, **cut}))
        assert flaw is not None
        return _end(flaw.problem, used)


class AnswerProblems(Middleware):
    """A tool's problem is the model's to correct; what it leaves unsolved becomes the run's `problem`."""

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Answer the call with the problem, if there is one."""
        try:
            return await handler(request)
        except InputProblem as problem:
            said = problem
        except OffloadTimeoutError as error:
            said = InputProblem("too_much_work", f"{error}.", "Send less data, or ask for something smaller.")
        call = request.tool_call
        return problem_message(said.problem, name=call["name"], tool_call_id=call["id"] or "")

    async def aafter_agent(self, state: ToolAgentState, runtime: Runtime[Context]) -> dict[str, Any] | None:
        """Name the first problem that no later call of the same tool has solved."""
        if state.get("problem"):
            return None
        unsolved = unsolved_problem(state["messages"])
        return {"problem": unsolved} if unsolved else None


def problem_message(problem: Problem, *, name: str, tool_call_id: str) -> ToolMessage:
    """A tool's answer that tells a problem."""
    text = f"{problem['message']} {problem['cure']}"
    return ToolMessage(text, name=name, tool_call_id=tool_call_id, status="error", artifact=problem)


def unsolved_problem(messages: Sequence[AnyMessage]) -> Problem | None:
    """The first problem of this turn that no later call of the same tool has solved.

    A call of what is no tool, or with arguments that fit none, is solved by any call that works.
    """
    last: dict[str | None, Problem | None] = {}
    misused: Problem | None = None
    for message in this_turn(messages):
        if not isinstance(message, ToolMessage):
            continue
        if message.status != "error":
            last[message.name] = misused = None
        elif message.artifact:
            last[message.name] = message.artifact
        else:
            misused = Problem(
                code="tool_misused",
                message=f"The model could not use its tools. {message.text[:300]}",
                cure="Ask again in other words, or use another model.",
            )
    return next((problem for problem in last.values() if problem), misused)


def _end(problem: Problem, used: Usage) -> ExtendedModelResponse[Any]:
    # An answer without tool calls ends the agent; those that were wanted are dropped with theirs.
    message = AIMessage(f"{problem['message']} {problem['cure']}")
    return ExtendedModelResponse(
        ModelResponse(result=[message]), Command(update={"usage": used, "problem": problem})
    )


def _answer_of(response: ModelResponse[Any]) -> AIMessage:
    return next(each for each in response.result if isinstance(each, AIMessage))


def _tool_calls(request: Request, answer: AIMessage) -> int:
    # An answer of a given shape comes as a call, but calls nothing.
    asked = request.response_format
    shapes = {spec.name for spec in asked.schema_specs} if isinstance(asked, ToolStrategy) else set()
    return sum(call["name"] not in shapes for call in answer.tool_calls)


def _with_instructions(request: Request, more: str) -> Request:
    prompt = f"{request.system_message.text if request.system_message else ''}\n\n{more}"
    return request.override(system_message=SystemMessage(prompt.strip()))
