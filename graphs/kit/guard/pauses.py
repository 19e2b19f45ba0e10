"""Guard, pause part: what a node does before its `interrupt`, and would do again with the answer.

A resumed node runs again from its top. Read from the source, statement by statement, into the project's own
functions that are called by name. An effect is what is awaited and does not only read, a call that is named
like a write, or a change of something outside the function. `once` of kit/effects.py makes it none.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any, Final

from langgraph.types import interrupt

from ..effects import once
from .source import closed_over, is_own_code, named_globals, names_in

# First words of names, without the `a` of an async twin. `insert` is not among the writes: lists have one.
READS: Final = re.compile(
    r"_*a?(get|search|list|read|fetch|load|find|look|query|select|count|exists|check|validate|compute|sleep|wait"
    r"|gather|shield|to_thread|in_thread|in_process)(_|$)"
)
WRITES: Final = re.compile(
    r"_*a?(put|post|patch|delete|send|write|execute|commit|publish|notify|upload|submit|charge|pay|unlink"
    r"|mkdir|rename)(_|$)"
)
WAITS: Final = frozenset({"gather", "wait_for", "shield"})
CHANGES: Final = frozenset(
    {"append", "extend", "insert", "add", "update", "setdefault", "pop", "remove", "clear"}
)

Effects = frozenset[str]
_NONE: Final[Effects] = frozenset()


def effects_before_pause(function: Callable[..., Any]) -> Iterator[str]:
    """Yield one line for each `interrupt` that a function comes to after an effect."""
    if not _reaches_pause(function):
        return
    found: dict[str, None] = {}
    _Walk(found, {}, ()).function(function, _NONE)
    yield from found


def _reaches_pause(function: Any) -> bool:
    """Whether an `interrupt` is in a function, or in what it gets at of ours; yes rather too often."""
    waiting, seen = [function], set[int]()
    while waiting:
        thing = waiting.pop()
        if thing is interrupt:
            return True
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        thing = _own(thing)
        if thing is not None:
            if interrupt.__name__ in names_in(thing.__code__):  # imported inside it
                return True
            waiting += [*named_globals(thing).values(), *closed_over(thing).values()]
    return False


def _own(function: Any) -> FunctionType | None:
    if not is_own_code(function) and callable(function):
        function = inspect.unwrap(function)  # a library's decorator; one of ours may have effects itself
    return function if is_own_code(function) else None


class _Walk:
    """One pass through a function: what may have been done by then is carried from statement to statement."""

    def __init__(
        self, found: dict[str, None], ends: dict[tuple[Any, Effects], Effects], callers: tuple[Any, ...]
    ) -> None:
        self._found = found
        self._ends = ends  # of functions that were walked, by what was done before them
        self._callers = callers  # so that recursion ends
        self._names: dict[str, Any] = {}
        self._file = ""
        self._line = 0
        self._left: list[Effects] = []  # by `break` and `continue`, for the loop around them
        self._returned = _NONE

    def function(self, function: Any, before: Effects) -> Effects:
        """Walk a function and return what was done at its end, whichever way it ended."""
        function = _own(function)
        if function is None or function in self._callers:
            return before
        if (function, before) not in self._ends:
            self._ends[function, before] = self._walked(function, before)
        return self._ends[function, before]

    def _walked(self, function: FunctionType, before: Effects) -> Effects:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function.__code__))).body[0]
        except (OSError, SyntaxError):  # no source, or half an expression (a lambda)
            return before
        if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
            return before
        inner = _Walk(self._found, self._ends, (*self._callers, function))
        inner._names = _names(function) | _local_imports(tree)
        inner._file = function.__code__.co_filename.rpartition("/")[2]
        inner._line = function.__code__.co_firstlineno - 1
        end = inner._block(tree.body, before)
        return before | inner._returned | (end or _NONE)

    def _block(self, statements: Iterable[ast.stmt], done: Effects | None) -> Effects | None:
        """Walk statements; None if their end is never reached."""
        for statement in statements:
            if done is None:
                return None
            done = self._statement(statement, done)
        return done

    def _statement(self, node: ast.stmt, done: Effects) -> Effects | None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return done
            case ast.Return() | ast.Raise():
                self._returned |= self._expressions(node, done)
                return None
            case ast.Break() | ast.Continue():
                self._left.append(done)
                return None
            case ast.If():
                done = self._expression(node.test, done)
                return _either(self._block(node.body, done), self._block(node.orelse, done))
            case ast.Match():
                done = self._expression(node.subject, done)
                return _either(done, *(self._block(case.body, done) for case in node.cases))
            case ast.While() | ast.For() | ast.AsyncFor():
                return self._loop(node, done)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    done = self._expression(item.context_expr, done)
                return self._block(node.body, done)
            case ast.Try() | ast.TryStar():
                return self._attempt(node, done)
        return self._expressions(node, done)

    def _loop(self, node: ast.While | ast.For | ast.AsyncFor, done: Effects) -> Effects:
        head = node.test if isinstance(node, ast.While) else node.iter
        outer, self._left = self._left, []
        done = self._expression(head, done)
        for _ in range(2):  # the second round comes to an `interrupt` with what the first one did
            done = _either(done, self._block(node.body, done), *self._left) or done
        self._left = outer
        return self._block(node.orelse, done) or done

    def _attempt(self, node: ast.Try | ast.TryStar, done: Effects) -> Effects | None:
        returned, self._returned = self._returned, _NONE
        body = self._block(node.body, done)
        failed = (done if body is None else body) | self._returned  # it may fail as late as in its `return`
        self._returned |= returned
        ends = [self._block(handler.body, failed) for handler in node.handlers]
        ends.append(self._block(node.orelse, body))
        end = _either(*ends)
        if not node.finalbody:
            return end
        final = self._block(node.finalbody, end if end is not None else failed)
        return final if end is not None else None

    def _expressions(self, node: ast.stmt, done: Effects) -> Effects:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                done = self._expression(child, done)
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Subscript | ast.Attribute) and (outside := self._outside(target)):
                done |= {self._at(f"a change of {outside}", target)}
        return done

    def _expression(self, node: ast.expr, done: Effects, *, awaited: bool = False) -> Effects:
        """Walk an expression, what is evaluated first coming first."""
        if isinstance(node, ast.Lambda):
            return done
        if isinstance(node, ast.IfExp):
            done = self._expression(node.test, done)
            return self._expression(node.body, done) | self._expression(node.orelse, done)
        if isinstance(node, ast.Await):
            return self._expression(node.value, done, awaited=True)
        # What is handed to gather, wait_for and the like is awaited by them.
        inside = awaited and isinstance(node, ast.Call) and _last_name(node.func) in WAITS
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                done = self._expression(child, done, awaited=inside)
            elif isinstance(child, ast.comprehension):
                done = self._expression(child.iter, done)
            elif isinstance(child, ast.keyword):
                done = self._expression(child.value, done)
        return self._call(node, done, awaited) if isinstance(node, ast.Call) else done

    def _call(self, node: ast.Call, done: Effects, awaited: bool) -> Effects:
        called = self._value(node.func)
        if called is interrupt:
            for effect in sorted(done):
                self._found[f"{effect} comes before {self._at('interrupt', node)}"] = None
            return done
        if called is once:
            return done
        if is_own_code(called):
            return self.function(called, done)
        name = _last_name(node.func)
        has_effect = not READS.match(name) if awaited else bool(WRITES.match(name))
        if name in CHANGES and isinstance(node.func, ast.Attribute) and self._outside(node.func):
            has_effect = True
        return done | {self._at(f"{ast.unparse(node.func)}(...)", node)} if has_effect else done

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value)
            return getattr(owner, node.attr, None) if inspect.ismodule(owner) else None
        return self._names.get(node.id) if isinstance(node, ast.Name) else None

    def _outside(self, node: ast.expr) -> str:
        """The variable outside the function that an attribute or item belongs to."""
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        if not isinstance(node, ast.Name) or inspect.ismodule(self._names.get(node.id)):
            return ""
        return node.id if node.id in self._names else ""

    def _at(self, what: str, node: ast.expr) -> str:
        return f"{what} at {self._file}:{self._line + node.lineno}"


def _either(*ends: Effects | None) -> Effects | None:
    reached = [end for end in ends if end is not None]
    return frozenset().union(*reached) if reached else None


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _names(function: FunctionType) -> dict[str, Any]:
    reached = named_globals(function) | closed_over(function)
    own = {*function.__code__.co_varnames, *function.__code__.co_cellvars}
    return {name: value for name, value in reached.items() if name not in own}


def _local_imports(tree: ast.AST) -> dict[str, Any]:
    names = [
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "langgraph.types"
        for alias in node.names
        if alias.name == "interrupt"
    ]
    return dict.fromkeys(names, interrupt)
