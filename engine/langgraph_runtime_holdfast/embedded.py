"""`holdfast serve` where no database is named: Postgres and Valkey in the data folder, the server on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from langgraph_runtime_holdfast.deployment import load_deployment, manifest_environment
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.local.endings import ToldToEndError, listen_to_signals, pause
from langgraph_runtime_holdfast.local.errors import LocalStackError
from langgraph_runtime_holdfast.local.folders import FolderLock
from langgraph_runtime_holdfast.local.manifest import read_manifest
from langgraph_runtime_holdfast.local.postgres import VERSION, EmbeddedPostgres, bin_folder
from langgraph_runtime_holdfast.local.processes import Part, RunningPart
from langgraph_runtime_holdfast.local.settings import secret_values
from langgraph_runtime_holdfast.local.valkey import EmbeddedValkey, find_binary
from langgraph_runtime_holdfast.near_misses import near_miss
from langgraph_runtime_holdfast.roles import Role
from langgraph_runtime_holdfast.serve import DRAIN_CONNECTIONS_SECONDS, ServeOptions, check_port, serve_here

CHECK_SECONDS = 0.2
# Runs that are not done by then are handed back, and go on at the next start.
DRAIN_RUNS_SECONDS = 10
MARGIN_SECONDS = 5.0


def serve(config: Path, options: ServeOptions) -> int:
    """Serve langgraph.json, on Postgres and Valkey of our own where no database is named.

    Returns:
        The server's exit code; 128 + the number of the signal that ended it.

    Raises:
        EngineError: Something is wrong or missing, or a part has ended by itself; a line for each.
    """
    options.check()
    environment = {**manifest_environment(config.resolve(), read_manifest(config)), **os.environ}
    if environment.get("DATABASE_URI") or environment.get("POSTGRES_URI"):
        if options.embedded:
            raise EngineError(
                "--embedded starts a Postgres, and DATABASE_URI names one. Leave one of them out."
            )
        return serve_here(load_deployment(config, os.environ), options)
    _check_embedded_is_meant(environment, options)
    return _serve_with_services(config.resolve(), environment, options)


def _check_embedded_is_meant(environment: Mapping[str, str], options: ServeOptions) -> None:
    """Refuse to keep data on a machine where nobody expects it, and where the next deploy may lose it.

    Raises:
        EngineError: Names the variable that is missing, and what is set instead.
    """
    misses = (near_miss(environment, name) for name in ("DATABASE_URI", "REDIS_URI"))
    instead = "".join(f"; {miss}" for miss in misses if miss)
    if options.role is not Role.ALL:
        raise EngineError(
            f"--role {options.role} shares a database with other servers, and DATABASE_URI is not set"
            f"{instead}. Set DATABASE_URI and REDIS_URI."
        )
    if options.embedded:
        return
    if not instead and environment.get("REDIS_URI"):
        instead = ", only REDIS_URI is"
    if instead or not options.is_local:
        raise EngineError(
            f"DATABASE_URI is not set{instead}. Set DATABASE_URI and REDIS_URI; or pass --embedded to have "
            "Postgres and Valkey started here, with their data on this machine alone."
        )


def _check_installed() -> None:
    """Say it before a folder is made, which where nothing is installed may not even be possible.

    Raises:
        EngineError: The embedded services are not here, as in an image; names both ways out.
    """
    try:
        bin_folder(VERSION)
        find_binary()
    except LocalStackError as missing:
        raise EngineError(
            f"DATABASE_URI is not set, and {missing} Or set DATABASE_URI and REDIS_URI."
        ) from None


def _serve_with_services(config: Path, environment: dict[str, str], options: ServeOptions) -> int:
    _check_installed()
    home = Path(environment.get("HOLDFAST_HOME") or ".holdfast").expanduser()
    home = (config.parent / home).resolve()
    listen_to_signals()
    try:
        with ExitStack() as held:
            lock = held.enter_context(FolderLock(home))
            environment |= secret_values(home, environment)
            # Both say what is wrong before anything is started.
            load_deployment(config, environment)
            check_port(options)
            postgres = EmbeddedPostgres(home / "postgres")
            held.callback(postgres.stop)
            valkey = EmbeddedValkey(home / "valkey")
            held.callback(valkey.stop)
            parts = [postgres.start(), valkey.start()]
            postgres.wait_until_ready()
            valkey.wait_until_ready()
            print(
                f"postgres {postgres.address} · valkey {valkey.address} · data and keys in {home}", flush=True
            )
            environment |= {"DATABASE_URI": postgres.uri, "REDIS_URI": valkey.uri}
            environment.setdefault("BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", str(DRAIN_RUNS_SECONDS))
            server = RunningPart(_server(config, options, environment), held_files=[lock.fileno])
            held.callback(server.stop)
            while (code := server.exit_code) is None:
                for part in parts:
                    part.check_alive()
                pause(CHECK_SECONDS)
            return code
    except ToldToEndError as told:
        return 128 + told.number


def _server(config: Path, options: ServeOptions, environment: Mapping[str, str]) -> Part:
    drain_seconds = float(environment["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
    serve = [sys.executable, "-m", __package__, "serve", "--config", str(config)]
    return Part(
        name="server",
        command=[*serve, *options.as_arguments()],
        environment=environment,
        folder=config.parent,
        grace_seconds=DRAIN_CONNECTIONS_SECONDS + drain_seconds + MARGIN_SECONDS,
    )
