"""Guard, factory part: calls a factory as the server does, and catches every pool or client it would open.

The server calls a factory on every run attempt and again to read state, history and schemas, so what it opens
is opened again each time. Nothing is connected here: the constructors raise as soon as they are called.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import re
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, get_args, get_origin

from langchain_core.runnables.config import ensure_config
from langgraph.store.memory import InMemoryStore
from langgraph_sdk import runtime as sdk_runtime

FACTORY_TIMEOUT_SECONDS: Final = 10.0

# Watched where they are installed. By name, because graphs may not import a database driver, guard included.
WATCHED: Final = (
    ("psycopg_pool.base", "BasePool.__init__"),
    ("psycopg", "Connection.connect"),
    ("psycopg", "AsyncConnection.connect"),
    ("asyncpg.pool", "Pool.__init__"),
    ("asyncpg", "connect"),
    ("sqlalchemy.engine.base", "Engine.__init__"),
    ("redis.connection", "ConnectionPool.__init__"),
    ("redis.asyncio.connection", "ConnectionPool.__init__"),
    ("valkey.connection", "ConnectionPool.__init__"),
    ("valkey.asyncio.connection", "ConnectionPool.__init__"),
)


# How the environment variables of secrets are named in the errors of those who miss them.
SECRET: Final = re.compile(r"\b[A-Z][A-Z0-9_]*_(?:KEY|TOKEN|SECRET)\b")
STAND_IN: Final = "none-the-guard-has-no-secrets"
MOST_SECRETS: Final = 5


class OpenedError(BaseException):
    """A watched constructor was called. No `except Exception` of the factory may hide it, hence the base."""


class FactoryError(Exception):
    """The factory cannot be called as the server calls it; the message says why."""


@contextmanager
def watch_connections() -> Iterator[list[str]]:
    """Make every watched constructor raise OpenedError; yields the list of those that were called."""
    opened: list[str] = []
    with ExitStack() as restore:
        for module_name, attribute_path in WATCHED:
            try:
                owner: Any = importlib.import_module(module_name)
            except ImportError:  # not installed, so no graph can open it
                continue
            *parents, attribute = attribute_path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            restore.callback(setattr, owner, attribute, vars(owner)[attribute])
            setattr(owner, attribute, _refuse(f"{module_name}.{attribute_path}", opened))
        yield opened


def _refuse(name: str, opened: list[str]) -> Callable[..., Any]:
    def refuse(*args: Any, **_: Any) -> None:
        opened.append(type(args[0]).__name__ if name.endswith("__init__") else name)
        raise OpenedError(opened[-1])

    return refuse


def build(factory: Callable[..., Any], *, for_execution: bool) -> Any:
    """Return the graph that a factory makes, called with the arguments that the server gives it.

    A secret that it misses, by the name of its variable, is made up: the guard has none, the server does.

    Args:
        factory: Takes nothing, a config, a `ServerRuntime`, or both; returns a graph, a coroutine or a
            context manager of one.
        for_execution: Whether to call it as for a run, rather than as for reading schemas.

    Raises:
        FactoryError: It takes other parameters, raises, or takes longer than FACTORY_TIMEOUT_SECONDS.
        OpenedError: It opened something, under `watch_connections`.
    """
    arguments = _arguments(factory, for_execution=for_execution)
    made_up: list[str] = []
    try:
        while True:
            try:
                return _call(factory, arguments)
            except FactoryError as error:
                missing = missing_secret(error)
                if missing is None or len(made_up) == MOST_SECRETS:
                    raise
                made_up.append(missing)
                os.environ[missing] = STAND_IN
    finally:
        for name in made_up:
            os.environ.pop(name, None)


def missing_secret(error: BaseException) -> str | None:
    """The first variable that an error names, that looks like a secret and is not set."""
    return next((name for name in SECRET.findall(str(error)) if not os.environ.get(name)), None)


def _call(factory: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    results: list[Any] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(asyncio.run(_enter(factory, arguments)))
        except BaseException as error:  # it is raised again below, in the caller's thread
            errors.append(error)

    # A thread of its own: the caller may have a running loop, and a factory may block without end.
    thread = threading.Thread(target=call, daemon=True, name="guard-factory")
    thread.start()
    thread.join(FACTORY_TIMEOUT_SECONDS)
    if thread.is_alive():
        raise FactoryError(f"the factory did not return within {FACTORY_TIMEOUT_SECONDS:.0f} seconds")
    if not errors:
        return results[0]
    if isinstance(errors[0], Exception | SystemExit):
        raise FactoryError(f"the factory raised {describe(errors[0])}") from errors[0]
    raise errors[0]


async def _enter(factory: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    made = factory(**arguments)
    if hasattr(made, "__aenter__"):
        async with made as graph:
            return graph
    if hasattr(made, "__enter__"):
        with made as graph:
            return graph
    return await made if inspect.isawaitable(made) else made


def _arguments(factory: Callable[..., Any], *, for_execution: bool) -> dict[str, Any]:
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # a builtin, which says nothing about its parameters
        return {}
    try:
        hints = typing.get_type_hints(factory, localns={"ServerRuntime": sdk_runtime.ServerRuntime})
    except Exception:  # annotations may be anything; the server, too, then takes them as written
        hints = {}
    runtimes = [each.name for each in parameters if _is_runtime(hints.get(each.name, each.annotation))]
    if len(parameters) > 2 or (len(parameters) == 2 and len(runtimes) != 1):
        names = ", ".join(each.name for each in parameters)
        raise FactoryError(
            f"the factory takes ({names}); the server can give it a config and a ServerRuntime"
        )
    config = ensure_config({"configurable": {"__is_for_execution__": for_execution}})
    return {each.name: _runtime(for_execution) if each.name in runtimes else config for each in parameters}


def _is_runtime(annotation: Any) -> bool:
    if annotation is sdk_runtime.ServerRuntime or get_origin(annotation) is sdk_runtime.ServerRuntime:
        return True
    if isinstance(annotation, type):
        return issubclass(annotation, sdk_runtime._ServerRuntimeBase)
    arguments = get_args(annotation)
    return bool(arguments) and _is_runtime(arguments[0])


def _runtime(for_execution: bool) -> Any:
    if for_execution:
        return sdk_runtime._ExecutionRuntime(access_context="threads.create_run", store=InMemoryStore())
    return sdk_runtime._ReadRuntime(access_context="assistants.read", store=InMemoryStore())


def describe(error: BaseException) -> str:
    """One line for an exception: its class and what it says."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__
