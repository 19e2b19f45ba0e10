"""What can be checked without any service: the environment, langgraph.json, the graphs, the server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from langgraph_runtime_holdfast.asgi import explain
from langgraph_runtime_holdfast.deployment import (
    ALWAYS,
    DEFAULTS,
    VARIABLES,
    Deployment,
    load_deployment,
    manifest_environment,
)
from langgraph_runtime_holdfast.doctor.finding import Finding, ok, problem, warning
from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.local.manifest import read_manifest
from langgraph_runtime_holdfast.local.settings import secret_values
from langgraph_runtime_holdfast.settings import EngineSettings, settings
from langgraph_runtime_holdfast.surface import find_mismatches, read_surface, server_folder
from langgraph_runtime_holdfast.tracing import destinations

GUARDS: Final = ("graphs.kit.guard", "holdfast_kit.guard")
"""The template's own, and the same as the client's wheel carries it for projects of one's own."""
GUARD_SECONDS: Final = 180.0
SHORTEST_KEY: Final = 16
READ_BY_NOBODY: Final = {
    "ASYNC_WORKER_POOL_SIZE": "N_JOBS_PER_WORKER",
    "POSTGRES_POOL_MAX_SIZE": "LANGGRAPH_POSTGRES_POOL_MAX_SIZE",
    "POSTGRES_STATEMENT_TIMEOUT": "options=-c%20statement_timeout=… in DATABASE_URI",
    "THREAD_POOL_SIZE": "N_JOBS_PER_WORKER",
}
"""Names that circulate, and what has the effect that people expect of them."""
LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# The stock server's form, as `Bearer ${{ env.LG_WEBHOOK_TOKEN }}`.
_NAMED_IN_HEADERS: Final = re.compile(r"\$\{\{\s*env\.(\w+)\s*\}\}")


def open_project(config: Path) -> tuple[Deployment | None, list[Finding]]:
    """Read langgraph.json and give this process the server's environment and working directory, for good.

    Returns:
        The deployment, unless it is too wrong to be one, and what there is to say about it.
    """
    config = config.resolve()
    try:
        manifest = read_manifest(config)
        environment = {**manifest_environment(config, manifest), **os.environ}
    except EngineError as error:
        return None, [problem("langgraph.json", str(error))]
    if not (environment.get("DATABASE_URI") or environment.get("POSTGRES_URI")):
        # `holdfast serve` makes the secrets that are missing then; here they are made and forgotten.
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(secret_values(Path(folder), environment))
    try:
        deployment = load_deployment(config, os.environ)
    except EngineError as error:
        found = []
        for line in str(error).splitlines():
            check = "environment" if " in the environment or .env " in line else "langgraph.json"
            found.append(problem(check, line))
        os.environ.update({**DEFAULTS, **environment, **ALWAYS})
        for variable in VARIABLES.values():
            os.environ.pop(variable, None)  # the server's own modules would stop at it, and show its value
        os.chdir(config.parent)
        return None, found
    os.environ.update(deployment.environment)
    os.chdir(deployment.project)
    sys.path.extend(folder for folder in deployment.import_folders if folder not in sys.path)
    return deployment, [_check_pins(manifest)]


def _check_pins(manifest: Mapping[str, Any]) -> Finding:
    installed = metadata.version("langgraph-api")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    wrong = [
        f"{name} is {manifest.get(name, 'not set')}, and {there} is installed"
        for name, there in (("api_version", installed), ("python_version", python))
        if str(manifest.get(name)) != there
    ]
    if wrong:
        cure = "Pin both, so that an image serves what was tested."
        return warning("langgraph.json", "; ".join(wrong), cure)
    graphs = len(manifest["graphs"])
    return ok("langgraph.json", f"{graphs} graphs, langgraph-api {installed}, Python {python}")


def check_environment(project: Path) -> Iterator[Finding]:
    """The variables of the engine and of the stock server."""
    faults = []
    try:
        settings.cache_clear()
        settings()
        if settings().database_uri or settings().postgres_uri:
            _ = settings().dsn
            if not settings().redis_uri:
                faults.append(problem("environment", "REDIS_URI is not set", "Set it to redis://HOST:6379."))
    except EngineError as error:
        faults.append(problem("environment", str(error)))
    for name, instead in READ_BY_NOBODY.items():
        if name in os.environ:
            faults.append(warning("environment", f"{name} is set, and nothing reads it", f"Set {instead}."))
    if unknown := _unknown_variables(project):
        says = f"{', '.join(unknown)}: nothing reads such a variable"
        faults.append(warning("environment", says, "Correct its name."))
    if not faults:
        faults.append(ok("environment", f"{sum(map(_is_ours, os.environ))} HOLDFAST_ variables, all known"))
    yield from faults


def _is_ours(name: str) -> bool:
    return name.startswith("HOLDFAST_")


def _unknown_variables(project: Path) -> list[str]:
    example = project / ".env.example"
    if not example.is_file():
        return []
    known = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", example.read_text(encoding="utf-8"), re.MULTILINE))
    # A project need not list all that the engine reads.
    known |= {str(field.alias) for field in EngineSettings.model_fields.values()}
    return sorted(name for name in os.environ if _is_ours(name) and name not in known)


def check_server() -> Finding:
    """The installed langgraph-api: whether it fits, and whether it takes the environment."""
    version = metadata.version("langgraph-api")
    try:
        if mismatches := find_mismatches(read_surface(server_folder())):
            cure = "Install the version of requirements.lock: make setup."
            return problem("server", f"langgraph-api {version} does not fit this engine", cure, *mismatches)
    except Exception as error:  # it imports the server's configuration, which raises what it likes
        return problem("server", explain(error), "Correct it in the environment or langgraph.json.")
    return ok("server", f"langgraph-api {version} calls nothing that this engine does not have")


async def check_graphs(config: Path) -> list[Finding]:
    """Every graph by the project's guard, in a process of its own: graphs may do anything at import."""
    guard_module = _guard_of(config.parent)
    if guard_module is None:
        return [ok("graphs", f"not looked at: this project has no guard (python -m {GUARDS[1]})")]
    run_it = f"Run python -m {guard_module}."
    guard = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", guard_module, "--config", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=config.parent,
    )
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            said, errors = await guard.communicate()
    except TimeoutError:
        guard.kill()
        await guard.wait()
        says = f"the guard did not end within {GUARD_SECONDS:g} s"
        return [problem("graphs", says, run_it)]
    lines = said.decode(errors="replace").splitlines()
    if guard.returncode == 0:
        return [ok("graphs", f"{len(lines)} pass the guard")]
    if lines:
        return [problem("graphs", line, "docs/guard.md explains the rules.") for line in lines]
    last = (errors.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
    return [problem("graphs", f"the guard ended with {guard.returncode}: {last}", run_it)]


def _guard_of(project: Path) -> str | None:
    template, kit = GUARDS
    if (project / Path(*template.split(".")) / "__main__.py").is_file():
        return template
    return kit if find_spec(kit.partition(".")[0]) else None


def check_auth(deployment: Deployment) -> Finding:
    """Whether callers are asked who they are."""
    if not deployment.has_auth:
        cure = "Name an auth module in langgraph.json: auth.path."
        return warning("auth", "there is none: whoever reaches the server may do anything", cure)
    source = str((deployment.manifest.get("auth") or {}).get("path", ""))
    path = deployment.project / source.rpartition(":")[0]
    reads_key = path.is_file() and "HOLDFAST_API_KEY" in path.read_text(encoding="utf-8", errors="replace")
    key = deployment.environment.get("HOLDFAST_API_KEY", "").strip()
    if reads_key and len(key) < SHORTEST_KEY:
        fault = f"has fewer than {SHORTEST_KEY} characters" if key else "is not set"
        says = f"HOLDFAST_API_KEY {fault}: every call is refused"
        return problem("auth", says, "Set it: openssl rand -hex 32.")
    return ok("auth", source or "by LANGGRAPH_AUTH_TYPE")


def check_traces(deployment: Deployment) -> Finding:
    """Where runs can be seen from outside, and with them what users say."""
    return ok("traces", ", ".join(destinations(deployment.environment)) or "sent nowhere")


def _is_remote(domain: str) -> bool:
    # One without a dot is a service of the same network, such as the composed receiver.
    return "." in domain and domain not in LOCAL


def check_webhooks(deployment: Deployment) -> list[Finding]:
    """Where callbacks may go, and whether a receiver can tell them from forged ones."""
    webhooks = deployment.manifest.get("webhooks") or {}
    url = webhooks.get("url") or {}
    domains = url.get("allowed_domains") or []
    found = []
    if not domains:
        cure = "List the receivers in langgraph.json: webhooks.url.allowed_domains."
        found.append(warning("webhooks", "a run may name any public address as its receiver", cure))
    elif not url.get("require_https") and (remote := [each for each in domains if _is_remote(each)]):
        cure = "Set webhooks.url.require_https in langgraph.json."
        found.append(warning("webhooks", f"{', '.join(remote)} may be called without TLS", cure))
    # One that is not there at all keeps the server from starting.
    headers = " ".join(map(str, (webhooks.get("headers") or {}).values()))
    for name in dict.fromkeys(_NAMED_IN_HEADERS.findall(headers)):
        if not deployment.environment.get(name, "").strip():
            says = f"{name} is not set: receivers refuse every callback"
            found.append(problem("webhooks", says, "Set it here and on the receiver: openssl rand -hex 32."))
    if not settings().webhook_signing_secret.get_secret_value():
        cure = "Set LG_WEBHOOK_SIGNING_SECRET on the server and on the receiver."
        found.append(warning("webhooks", "callbacks are not signed", cure))
    if not found:
        found.append(ok("webhooks", f"signed, to {', '.join(domains)} only"))
    return found
