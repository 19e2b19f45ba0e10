"""`holdfast serve`: the stock server on this engine, in the foreground."""

from __future__ import annotations

import asyncio
import json
import logging.config
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langgraph_runtime_holdfast.deployment import Deployment
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.event_loop import new_event_loop
from langgraph_runtime_holdfast.roles import Role
from langgraph_runtime_holdfast.settings import settings
from langgraph_runtime_holdfast.surface import server_folder

if TYPE_CHECKING:
    import uvicorn

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# How long answers that are under way may take once the end is asked for. Streams that are cut then are
# resumed by their clients, from any other server, while this one's queue still hands its runs over.
DRAIN_CONNECTIONS_SECONDS: Final = 10
KEEP_ALIVE_SECONDS: Final = 75
CANNOT_START: Final = 2
JOBS: Final = "N_JOBS_PER_WORKER"
WORKERS: Final = "HOLDFAST_WORKERS"


@dataclass(frozen=True)
class ServeOptions:
    """The options of `holdfast serve`."""

    host: str
    port: int
    role: Role = Role.ALL
    jobs: int | None = None
    """Runs at once, in each process; None: N_JOBS_PER_WORKER, else 10."""
    workers: int = 1
    """Processes that share the port."""

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
        arguments = ["--host", self.host, "--port", str(self.port), "--role", self.role.value]
        arguments += ["--workers", str(self.workers)]
        return arguments if self.jobs is None else [*arguments, "--jobs", str(self.jobs)]


def serve_here(deployment: Deployment, options: ServeOptions) -> int:
    """Serve in this process (and its workers) until told to end; returns the exit code.

    Changes this process for good: its environment, import path and working directory.

    Raises:
        EngineError: The environment is wrong or the port is taken.
    """
    deployment.enter()
    os.environ[WORKERS] = str(options.workers)
    settings.cache_clear()
    os.environ.setdefault("LOG_COLOR", str(sys.stdout.isatty()).lower())
    _set_jobs(options)
    if not settings().redis_uri:
        raise EngineError(
            "REDIS_URI is not set. Set it to redis://HOST:6379 (Valkey, or Redis 6.2 or newer)."
        )
    if options.host not in LOOPBACK and not deployment.has_auth:
        print(
            f"warning: langgraph.json has no auth: whoever reaches {options.host} may do anything",
            file=sys.stderr,
        )
    listener = _bind(options.host, options.port)
    if options.role is Role.QUEUE:
        listener.close()  # the queue's health server binds for itself
        return _serve_queue(options)
    return _serve_api(options, listener)


def _set_jobs(options: ServeOptions) -> None:
    if options.role is Role.API:
        os.environ[JOBS] = "0"
    elif options.jobs is not None:
        os.environ[JOBS] = str(options.jobs)
    elif os.environ.get(JOBS, "").strip() == "0":
        raise EngineError(f"{JOBS}=0 executes no runs. Use --role api for that, or set it to 1 or more.")


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before anything slow is done, so that a taken one is told at once."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise EngineError(
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
    )
    if options.workers > 1:
        supervisor = Multiprocess(config, [listener])
        supervisor.run()
        failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
        return CANNOT_START if failed else 0
    return _run_server(config, listener)


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


def _serve_queue(options: ServeOptions) -> int:
    os.environ["PORT"] = str(options.port)
    os.environ["LANGGRAPH_SERVER_HOST"] = options.host

    from langgraph_runtime_holdfast.asgi import explain, import_server

    logging.config.dictConfig(_log_config())
    _mark_as_queue()
    import_server()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run_queue())
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(explain(error)) from error
    return 0


def _mark_as_queue() -> None:
    """Before the server's other modules are imported, which read it."""
    from langgraph_api import config

    config.IS_QUEUE_ENTRYPOINT = True


async def _run_queue() -> None:
    """Run the stock queue, which drains its runs when it is cancelled."""
    from langgraph_api import queue_entrypoint

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    queue = asyncio.create_task(queue_entrypoint.entrypoint(cancel_event=ended))
    queue.add_done_callback(lambda _: ended.set())
    await ended.wait()
    queue.cancel()
    try:
        await queue
    except asyncio.CancelledError:
        return
    finally:
        if (health := queue_entrypoint.health_server_task) is not None:
            health.cancel()
            await asyncio.gather(health, return_exceptions=True)
