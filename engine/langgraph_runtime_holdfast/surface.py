"""The surface check: does this engine offer what the installed langgraph-api calls?

The stock server's source is read, not run: every name that it takes from `langgraph_runtime`, every attribute
it follows from there and every call it makes, with the number of positional arguments and the keywords. Each
is compared with what this package has. A difference stops the start and is named, before it can become an
AttributeError in the middle of somebody's run.

`python -m langgraph_runtime_holdfast.surface` prints the surface.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints

from langgraph_runtime_holdfast.errors import EngineError

SERVER: Final = "langgraph_api"
RUNTIME: Final = "langgraph_runtime"
# The closed engine's own client, and the entry points of processes that this engine does not have.
_NOT_CALLED: Final = frozenset({"grpc", "runner"})
# What event streaming calls the classes that it is handed.
_HANDED_ON: Final = {"self._runs": "ops.Runs", "self._threads": "ops.Threads"}
# What the server calls on a checkpointer, whichever runtime made it.
_SAVER_PROTOCOL: Final = Path("_checkpointer", "protocol.py")
_ANY_VALUE: Final = object()
_READ_IN_WORKER: Final = frozenset({"status", "exception"})


@dataclass(frozen=True, order=True)
class Use:
    """One thing that the server expects of a runtime."""

    name: str
    """`module.attribute…`, such as `ops.Runs.Stream.join`; `()` stands for what a function returns."""
    called: bool = False
    positional: int = 0
    keywords: tuple[str, ...] = ()
    open_ended: bool = False
    """The call also passes `*args` or `**kwargs`, so that it may hold more than is seen here."""
    place: str = ""
    """File and line of the first such use."""

    def __str__(self) -> str:
        """The use as it stands in the code, without values."""
        if not self.called:
            return self.name
        arguments = ["…"] * self.positional + [f"{keyword}=" for keyword in self.keywords]
        return f"{self.name}({', '.join(arguments + ['**'] * self.open_ended)})"


def server_folder() -> Path:
    """Where the installed langgraph-api is; found without importing it.

    Raises:
        EngineError: It is not installed.
    """
    spec = importlib.util.find_spec(SERVER)
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("langgraph-api is not installed. Run `make setup`.")
    return Path(spec.submodule_search_locations[0])


def read_surface(folder: Path) -> list[Use]:
    """Every use of a runtime in a langgraph-api, each kind once, in order.

    Args:
        folder: The package's folder.
    """
    found: dict[Use, Use] = {}
    for path in sorted(folder.rglob("*.py")):
        relative = path.relative_to(folder)
        if relative.parts[0] in _NOT_CALLED:
            continue
        source = path.read_text(encoding="utf-8")
        if relative == _SAVER_PROTOCOL:
            uses = _methods(ast.parse(source))
        elif RUNTIME in source:
            uses = _uses(ast.parse(source))
        else:
            continue
        for use, line in uses:
            found.setdefault(use, Use(**{**use.__dict__, "place": f"{relative}:{line}"}))
    return sorted(found.values())


def find_mismatches(uses: list[Use], package: str = __package__) -> list[str]:
    """Compare a surface with a runtime package; one line for each thing that does not fit."""
    mismatches = []
    for use in uses:
        try:
            _check(use, package)
        except (AttributeError, ImportError, TypeError) as error:
            mismatches.append(f"{use} ({use.place}): {error}")
    return mismatches


def check_surface(folder: Path | None = None, package: str = __package__) -> None:
    """Refuse a langgraph-api that calls what this engine does not have.

    Args:
        folder: A langgraph-api's folder instead of the installed one's.
        package: Another runtime to compare.

    Raises:
        EngineError: Something does not fit; names each.
    """
    folder = folder or server_folder()
    if mismatches := [*find_mismatches(read_surface(folder), package), *_missing_in_worker(folder)]:
        version = importlib.metadata.version("langgraph-api")
        raise EngineError(
            f"This engine does not fit langgraph-api {version}; install the version of requirements.lock "
            "(`make setup`). What differs: " + "; ".join(mismatches)
        )


def _missing_in_worker(folder: Path) -> Iterator[str]:
    """What `outbox.message.stateless_end` reads in the worker and would not find."""
    path = folder / "worker.py"
    if not path.exists():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "worker":
            assigned = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            for name in sorted(_READ_IN_WORKER - assigned):
                yield f"worker.worker has no variable `{name}` (worker.py:{node.lineno})"


def _uses(tree: ast.Module) -> Iterator[tuple[Use, int]]:
    names = _imported(tree)
    for imported in names.values():
        yield Use(imported), 0
    called: set[int] = set()
    for node in ast.walk(tree):
        # A call is visited before the attribute it calls, which is thus not counted again.
        if isinstance(node, ast.Call) and (name := _resolve(node.func, names)):
            called.add(id(node.func))
            keywords = sorted(keyword.arg for keyword in node.keywords if keyword.arg is not None)
            plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
            open_ended = len(plain) < len(node.args) or len(keywords) < len(node.keywords)
            yield Use(name, True, len(plain), tuple(keywords), open_ended), node.lineno
        elif isinstance(node, ast.Attribute) and id(node) not in called and (name := _resolve(node, names)):
            yield Use(name), node.lineno


def _methods(tree: ast.Module) -> Iterator[tuple[Use, int]]:
    for protocol in tree.body:
        for node in protocol.body if isinstance(protocol, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                keywords = tuple(argument.arg for argument in node.args.kwonlyargs)
                name = f"checkpoint.Checkpointer().{node.name}"
                yield Use(name, True, len(node.args.args), keywords), node.lineno


def _imported(tree: ast.Module) -> dict[str, str]:
    """What the file calls things that it takes from the runtime → what they are called there."""
    names = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module == RUNTIME:
            names.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif node.module.startswith(f"{RUNTIME}."):
            module = node.module.removeprefix(f"{RUNTIME}.")
            names.update({alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names})
    return names


def _resolve(node: ast.expr, names: dict[str, str]) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        if ast.unparse(node) in _HANDED_ON:
            return ".".join([_HANDED_ON[ast.unparse(node)], *reversed(parts)]) if parts else None
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return ".".join([names[node.id], *reversed(parts)])
    return None


def _check(use: Use, package: str) -> None:
    module, *path = use.name.split(".")
    value: Any = importlib.import_module(f"{package}.{module}")
    for part in path:
        value = getattr(value, part.removesuffix("()"))
        if part.endswith("()") and not inspect.isclass(value):
            value = get_type_hints(value).get("return")
            if value is None:
                return  # it does not say what it makes
    if not use.called:
        return
    if not callable(value):
        raise TypeError(f"is {type(value).__name__}, which cannot be called")
    signature = inspect.signature(value)
    values = [_ANY_VALUE] * use.positional
    keywords = dict.fromkeys(use.keywords, _ANY_VALUE)
    if use.open_ended:
        signature.bind_partial(*values, **keywords)
    else:
        signature.bind(*values, **keywords)


if __name__ == "__main__":
    print(f"langgraph-api {importlib.metadata.version('langgraph-api')}")
    for each in read_surface(server_folder()):
        print(f"{each}  {each.place}")
