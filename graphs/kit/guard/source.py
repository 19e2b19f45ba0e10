"""Guard, source part: what a function reaches without being handed it, and what it opens there."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

FOREIGN_CODE: Final = ("<", *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")))

OPENS: Final = re.compile(
    r"(^|\.)(\w*ConnectionPool|create_pool|create_engine|create_async_engine|\w*Saver"
    r"|(Async)?(Postgres|Redis|Sqlite)Store|(Async)?(Redis|Valkey|MongoClient)|(Async)?Connection\.connect"
    r"|(psycopg|asyncpg|aiosqlite|redis|valkey)(\.\w+)*\.(connect|from_url))(\.|$)"
)


def opening_calls(function: Callable[..., Any]) -> Iterator[str]:
    """Yield each call that opens a pool, client or saver, in a function or in what it reaches of ours.

    Read from the source, so that branches count which a trial call does not take.
    """
    waiting: list[Any] = [function]
    seen: dict[int, Any] = {}  # with the things themselves: an id may come again once its thing is gone
    while waiting:
        thing = waiting.pop(0)
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if is_own_code(thing):
            names = named_globals(thing) | closed_over(thing)
            yield from _opening_calls_in(thing, names)
            waiting += names.values()
        waiting += _code_behind(thing)


def _code_behind(thing: Any) -> list[Any]:
    if inspect.isclass(thing):
        return list(vars(thing).values())
    if isinstance(thing, functools.partial):
        return [thing.func]
    names = ("__wrapped__", "__func__")  # a decorated function; a bound, class or static method
    return [getattr(thing, name, None) for name in names] + [vars(type(thing)).get("__call__")]


def _opening_calls_in(function: FunctionType, names: dict[str, Any]) -> Iterator[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (
        OSError,
        SyntaxError,
    ):  # no source, or half an expression (a lambda): the trial call decides alone
        return
    aliases = {name: getattr(value, "__name__", name) for name, value in names.items()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            aliases |= {alias.asname or alias.name: alias.name for alias in node.names}
    first_line = function.__code__.co_firstlineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and OPENS.search(called := _dotted_name(node.func, aliases)):
            file = Path(function.__code__.co_filename).name
            yield f"{called}(...) at {file}:{first_line + node.lineno - 1}"


def _dotted_name(node: ast.AST, aliases: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted_name(node.value, aliases)}.{node.attr}"
    return aliases.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def reached(function: Any) -> list[Any]:
    """The values that a callable gets at without being handed them."""
    if isinstance(function, functools.partial):
        return [function.func, function.args, function.keywords]
    if inspect.ismethod(function):
        return [function.__func__, getattr(function.__self__, "__dict__", {})]
    if not inspect.isfunction(function):
        return [vars(type(function)).get("__call__"), getattr(function, "__dict__", {})]
    values = [*closed_over(function).values(), *named_globals(function).values()]
    return [*values, getattr(function, "__wrapped__", None)]


def closed_over(function: FunctionType) -> dict[str, Any]:
    """The variables of enclosing functions that a function holds, by name."""
    held: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not bound yet: nothing is held
            held[name] = cell.cell_contents
    return held


def named_globals(function: FunctionType) -> dict[str, Any]:
    """The globals that a function and the functions inside it name, and their modules' attributes they name.

    Too many rather than too few: an attribute that has the name of a global counts as that global.
    """
    names = set(names_in(function.__code__))
    found = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
    for module in [value for value in found.values() if inspect.ismodule(value)]:
        found |= {f"{module.__name__}.{name}": vars(module)[name] for name in names & vars(module).keys()}
    return found


def names_in(code: CodeType) -> Iterator[str]:
    """The globals and attributes that code names, and the code inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def is_own_code(thing: Any) -> bool:
    """Say whether something is a function of this project, rather than installed or part of Python."""
    return inspect.isfunction(thing) and not thing.__code__.co_filename.startswith(FOREIGN_CODE)
