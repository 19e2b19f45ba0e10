"""`holdfast serve`: the stock server on this engine, in the foreground."""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import logging.config
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from langgraph_runtime_holdfast.arrival import ToldToEndError, wait_for_database
from langgraph_runtime_holdfast.deployment import Deployment
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.event_loop import new_event_loop
from langgraph_runtime_holdfast.health import queue_app, serving
from langgraph_runtime_holdfast.metrics.shared import FOLDER as METRICS_FOLDER
from langgraph_runtime_holdfast.roles import Role
from langgraph_runtime_holdfast.settings import require_redis_uri, settings
from langgraph_runtime_holdfast.surface import server_folder
from langgraph_runtime_holdfast.telling import tell
from langgraph_runtime_holdfast.valkey import address

if TYPE_CHECKING:
    import uvicorn

DEFAULT_PORT: Final = 2024
# How many after it are tried when it is taken and none was asked for.
NEXT_PORTS: Final = 50
# How long answers that are under way may take once the end is asked for. Streams that are cut then are
# resumed by their clients, from any other server, while this one's queue still hands its runs over.
DRAIN_CONNECTIONS_SECONDS: Final = 10
KEEP_ALIVE_SECONDS: Final = 75
# How long a process of several may be silent before another takes its place. On a busy machine its start
# alone takes longer than uvicorn's 5 s, and one that is ended in its start is ended for ever.
WORKER_ANSWER_SECONDS: Final = 30
CANNOT_START: Final = 2
JOBS: Final = "N_JOBS_PER_WORKER"
WORKERS: Final = "HOLDFAST_WORKERS"
MIGRATES: Final = "HOLDFAST_MIGRATE"


@dataclass(frozen=True)
class ServeOptions:
    """The options of `holdfast serve`."""

    host: str
    port: int | None = None
    """None: 2024, or the next one that is free."""
    role: Role = Role.ALL
    jobs: int | None = None
    """Runs at once, in each process; None: N_JOBS_PER_WORKER, else 10."""
    workers: int = 1
    """Processes that share the port."""
    embedded: bool = False
    """Start Postgres and Valkey here, whatever the host."""
    migrates: bool = True
    """Bring the database to this engine's schema first; without it, refuse one that is behind."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check(self) -> None:
        """Refuse combinations that have no meaning.

        Raises:
            EngineError: Names the options.
        """
        if self.role is Role.QUEUE and self.workers > 1:
            raise EngineError(
                "--workers is for what answers the API; give a queue more --jobs, or start more."
            )
        if self.role is Role.API and self.jobs is not None:
            raise EngineError("--jobs is for what executes runs, which --role api does not.")

    def as_arguments(self) -> list[str]:
        """The same, for a command line."""
        arguments = ["--host", self.host, "--role", self.role.value, "--workers", str(self.workers)]
        for name, value in (("--port", self.port), ("--jobs", self.jobs)):
            arguments += [] if value is None else [name, str(value)]
        return arguments + ([] if self.migrates else ["--no-migrate"])


def serve_here(deployment: Deployment, options: ServeOptions) -> int:
    """Serve in this process (and its workers) until told to end; returns the exit code.

    Changes this process for good: its environment, import path and working directory.

    Raises:
        EngineError: The environment is wrong or the port is taken.
    """
    deployment.enter()
    os.environ[WORKERS] = str(options.workers)
    if not options.migrates:
        os.environ[MIGRATES] = "false"
    settings.cache_clear()
    os.environ.setdefault("LOG_COLOR", str(sys.stdout.isatty()).lower())
    _set_jobs(options)
    require_redis_uri(settings().redis_uri)
    address()  # what is wrong with it at first sight is told before anything is waited for
    if deployment.overridden:
        tell(f"set in the environment, instead of langgraph.json: {', '.join(deployment.overridden)}")
    if not options.is_local and not deployment.has_auth:
        tell(f"there is no auth: whoever reaches {options.host} may do anything", "warning")
    listener = _listener(options)
    try:
        wait_for_database(settings().dsn, settings().database_wait_seconds, listener)
    except ToldToEndError as told:
        return 128 + told.number
    if options.role is Role.QUEUE:
        return _serve_queue(listener)
    return _serve_api(options, listener)


def _set_jobs(options: ServeOptions) -> None:
    if options.role is Role.API:
        os.environ[JOBS] = "0"
    elif options.jobs is not None:
        os.environ[JOBS] = str(options.jobs)
    elif os.environ.get(JOBS, "").strip() == "0":
        raise EngineError(f"{JOBS}=0 executes no runs. Use --role api for that, or set it to 1 or more.")


def check_port(options: ServeOptions) -> None:
    """Find out whether the chosen port is free; another process takes it later.

    Raises:
        EngineError: It is not.
    """
    if options.port:
        _bind(options.host, options.port).close()


def _listener(options: ServeOptions) -> socket.socket:
    """Take the port before anything slow is done, so that a taken one is told at once.

    Raises:
        EngineError: It cannot be had.
    """
    if options.port is not None:
        return _bind(options.host, options.port)
    ports = range(DEFAULT_PORT, DEFAULT_PORT + NEXT_PORTS)
    for port in ports:
        try:
            listener = _bind(options.host, port)
        except _TakenError:
            continue
        if port != DEFAULT_PORT:
            tell(f"port {DEFAULT_PORT} is taken: listening on {options.host}:{port}")
        return listener
    raise EngineError(f"the ports {ports[0]} to {ports[-1]} are taken. Choose another with --port.")


class _TakenError(EngineError):
    """Somebody else listens on the port."""


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        kind = _TakenError if error.errno == errno.EADDRINUSE else EngineError
        raise kind(
            f"cannot listen on {host}:{port}: {error.strerror}. Choose another with --host and --port."
        ) from None
    listener.set_inheritable(True)
    return listener


def _log_config() -> dict[str, Any]:
    # The stock server's own, which it installs beside its packages.
    path = server_folder().parent / "logging.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _serve_api(options: ServeOptions, listener: socket.socket) -> int:
    import uvicorn
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        "langgraph_runtime_holdfast.asgi:make_app",
        factory=True,
        workers=options.workers,
        log_config=_log_config(),
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=DRAIN_CONNECTIONS_SECONDS,
        # Longer than clients keep theirs: one that the server closes first may meet a request on its way.
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_worker_healthcheck=WORKER_ANSWER_SECONDS,
    )

    class _Supervisor(Multiprocess):
        """Sees at once that a process has ended.

        It would wait for its answer first, since its end of their pipe stays open in here as well.
        """

        def init_processes(self) -> None:
            super().init_processes()
            self._let_go()

        def keep_subprocess_alive(self) -> None:
            super().keep_subprocess_alive()
            self._let_go()

        def _let_go(self) -> None:
            for process in self.processes:
                process.child_conn.close()

    if options.workers > 1:
        supervisor = _Supervisor(config, [listener])
        with _shared_folder():
            supervisor.run()
        failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
        return CANNOT_START if failed else 0
    return _run_server(config, listener)


@contextmanager
def _shared_folder() -> Iterator[None]:
    """Where the processes that share a port tell each other what `/metrics` says."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="holdfast-metrics-")
    except OSError as error:
        tell(f"each scrape of /metrics tells of one process only: {error}", "warning")
        yield
        return
    with folder as name:
        os.environ[METRICS_FOLDER] = name
        yield


def _run_server(config: uvicorn.Config, listener: socket.socket) -> int:
    import uvicorn

    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit:  # from make_app, which has said why
        return CANNOT_START
    return 0 if server.started else CANNOT_START


def _serve_queue(listener: socket.socket) -> int:
    from langgraph_runtime_holdfast.asgi import explain, import_server

    logging.config.dictConfig(_log_config())
    _mark_as_queue()
    server = import_server()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run_queue(server, listener))
    except asyncio.CancelledError:
        return 0  # told to end before it had started
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(explain(error)) from error
    return 0


def _mark_as_queue() -> None:
    """Before the server's other modules are imported, which read it."""
    from langgraph_api import config

    config.IS_QUEUE_ENTRYPOINT = True


async def _run_queue(server: Any, listener: socket.socket) -> None:
    """Execute runs until a signal comes, and drain them then; answer probes until all is done."""
    from langgraph_api import config, timing
    from langgraph_api.api import custom_app_lifespan
    from langgraph_api.logging import set_logging_context

    from langgraph_runtime_holdfast.lifespan import lifespan

    set_logging_context({"entrypoint": "python-queue"})
    ended, started, this = asyncio.Event(), asyncio.Event(), asyncio.current_task()

    def end() -> None:
        ended.set()
        if this is not None and not started.is_set():
            this.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    ours = functools.partial(lifespan, with_cron_scheduler=False, cancel_event=ended)
    live = timing.combine_lifespans(ours, custom_app_lifespan)
    async with AsyncExitStack() as until_drained, live(server):
        started.set()
        await until_drained.enter_async_context(serving(queue_app(config.MOUNT_PREFIX), listener))
        await ended.wait()
