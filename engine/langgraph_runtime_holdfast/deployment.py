"""langgraph.json, made into the environment that the stock server reads; what cannot be served is refused.

The stock server is configured by environment variables, one JSON value for each section of the manifest, and
drops keys that it does not know. Here a key that has no effect is an error, because a misspelt `disable_…` or
a setting that only the official image has would otherwise be found out in production.

A variable that is set wins over its section, as with the official image: one image serves every environment.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from dotenv import dotenv_values
from packaging.requirements import InvalidRequirement, Requirement
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from langgraph_runtime_holdfast.errors import EngineError
from langgraph_runtime_holdfast.local.manifest import read_manifest, source_fault, sources
from langgraph_runtime_holdfast.settings import EngineSettings, settings
from langgraph_runtime_holdfast.surface import server_folder
from langgraph_runtime_holdfast.tracing import tracing_variables

GRAPHS: Final = "LANGSERVE_GRAPHS"
# Section of the manifest → its variable and its type in the server's config/schemas.py.
SECTIONS: Final = {
    "auth": ("LANGGRAPH_AUTH", "AuthConfig"),
    "checkpointer": ("LANGGRAPH_CHECKPOINTER", "DefaultCheckpointerConfig"),
    "encryption": ("LANGGRAPH_ENCRYPTION", "EncryptionConfig"),
    "http": ("LANGGRAPH_HTTP", "HttpConfig"),
    "store": ("LANGGRAPH_STORE", "StoreConfig"),
    "webhooks": ("LANGGRAPH_WEBHOOKS", "WebhooksConfig"),
}
VARIABLES: Final = {"graphs": GRAPHS, **{section: variable for section, (variable, _) in SECTIONS.items()}}
"""The section by the variable that the server reads it from."""
SAYS_NOTHING_EMPTY: Final = frozenset(
    {*VARIABLES.values(), *(str(field.alias) for field in EngineSettings.model_fields.values())}
)
"""Taken for unset where they are empty, as compose files make them; the stock server would want a number."""
# How `langgraph build` makes an image; here everything runs from this environment.
ABOUT_THE_IMAGE: Final = frozenset(
    {
        "$schema",
        "_INTERNAL_docker_tag",
        "api_version",
        "base_image",
        "dockerfile_lines",
        "image_distro",
        "keep_pkg_tools",
        "pip_config_file",
        "pip_installer",
        "python_version",
        "source",
    }
)
REFUSED: Final = {
    "node_version": "JavaScript graphs are not served; use the official image",
    "priority": "run priorities exist in the official image only",
    "ui": "UI components are not served; use the official image",
    "ui_config": "UI components are not served; use the official image",
}
GRAPH_KEYS: Final = frozenset({"path", "description"})
JAVASCRIPT: Final = frozenset({".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx"})

# A variable that would change what the server is, and why it is refused.
_DEV_SHORTCUT: Final = "it lets callers in without a key, which is for `langgraph dev`"
REFUSED_VARIABLES: Final = {
    ("LANGSMITH_LANGGRAPH_API_VARIANT", "local_dev"): _DEV_SHORTCUT,
    ("DISPATCH_MODE", "multi-process"): "runs are dispatched by this engine's own queue",
    ("LANGGRAPH_STORE_BACKEND", "grpc"): "the store is in Postgres",
    ("LS_DEFAULT_CHECKPOINTER_BACKEND", "mongo"): "checkpoints are in Postgres",
    (
        "LANGGRAPH_AES_KEY",
        None,
    ): "checkpoints are not encrypted with it here; set `encryption`",
    ("AGENT_POSTGRES_IAM_AUTH_PROVIDER", None): "put a password or a client certificate into DATABASE_URI",
    ("AGENT_REDIS_IAM_AUTH_PROVIDER", None): "put a password into REDIS_URI",
    ("REDIS_GCP_SERVICE_ACCOUNT_JSON", None): "put a password into REDIS_URI",
    ("REDIS_URI_CUSTOM", None): "set REDIS_URI",
}
DEFAULTS: Final = {
    "LANGGRAPH_NO_VERSION_CHECK": "true",
}
ALWAYS: Final = {
    "LANGGRAPH_RUNTIME_EDITION": "holdfast",
    # Ours are applied by the lifespan; the server looks here only for whether it is the in-memory edition.
    "MIGRATIONS_PATH": "holdfast",
    # With either of them the server reports its use to its maker.
    "LANGGRAPH_CLOUD_LICENSE_KEY": "",
    "LANGSMITH_CONTROL_PLANE_API_KEY": "",
}


@dataclass(frozen=True)
class Deployment:
    """What langgraph.json asks for."""

    config: Path
    manifest: Mapping[str, Any]
    """langgraph.json, with what the environment says instead of its sections."""
    environment: Mapping[str, str]
    """The whole environment of the server: the process's, `env` of the manifest below it, the sections."""
    overridden: tuple[str, ...]
    """The variables that say something else than the section they stand for."""

    @property
    def project(self) -> Path:
        """The folder of langgraph.json; the server's working directory."""
        return self.config.parent

    @property
    def import_folders(self) -> list[str]:
        """What is added to the import path, as `langgraph dev` does."""
        folders = [self.project / each for each in self.manifest.get("dependencies", [])]
        return list(dict.fromkeys(str(path.resolve()) for path in (self.project, *folders) if path.is_dir()))

    @property
    def has_auth(self) -> bool:
        """Whether callers are asked who they are."""
        auth_type = self.environment.get("LANGGRAPH_AUTH_TYPE", "noop")
        return bool(self.manifest.get("auth")) or auth_type != "noop"

    def enter(self) -> None:
        """Give this process the deployment's environment, working directory and import path, for good.

        Raises:
            EngineError: The database's address is missing or wrong.
        """
        os.environ.update(self.environment)
        for name in SAYS_NOTHING_EMPTY - self.environment.keys():
            os.environ.pop(name, None)
        os.chdir(self.project)
        sys.path.extend(folder for folder in self.import_folders if folder not in sys.path)
        _ = settings().dsn


def load_deployment(config: Path, environment: Mapping[str, str]) -> Deployment:
    """Read and check langgraph.json.

    Args:
        config: Its path.
        environment: The process's environment, which wins over `env` of the manifest.

    Raises:
        EngineError: Something is missing, wrong or cannot be served; a line for each.
    """
    config = config.resolve()
    written = read_manifest(config)
    merged = {**manifest_environment(config, written), **environment}
    given = _given_sections(merged)
    manifest = {**written, **given}
    if faults := [*_manifest_faults(config, manifest, given, merged), *_variable_faults(merged)]:
        raise EngineError("\n".join(faults))

    merged = {name: value for name, value in merged.items() if value or name not in SAYS_NOTHING_EMPTY}
    for name, value in DEFAULTS.items():
        merged.setdefault(name, value)
    merged |= tracing_variables(merged) | ALWAYS
    for section, variable in VARIABLES.items():
        if manifest.get(section):
            merged[variable] = json.dumps(manifest[section])
    changed = [section for section in given if written.get(section, given[section]) != given[section]]
    return Deployment(config, manifest, merged, tuple(VARIABLES[section] for section in changed))


def _given_sections(environment: Mapping[str, str]) -> dict[str, Any]:
    """The sections that the environment gives; an empty variable gives none.

    Raises:
        EngineError: One is no JSON object; names it, never its value.
    """
    given, faults = {}, []
    for section, variable in VARIABLES.items():
        if not (text := environment.get(variable, "").strip()):
            continue
        where = f"{variable} in the environment or .env"
        try:
            given[section] = json.loads(text)
        except json.JSONDecodeError as error:
            faults.append(f"{where} is not valid JSON: character {error.pos + 1}: {error.msg}.")
            continue
        if not isinstance(given[section], dict) or (section == "graphs" and not given[section]):
            faults.append(f"{where} must be a JSON object, like {section} of langgraph.json.")
    if faults:
        raise EngineError("\n".join(faults))
    return given


def manifest_environment(config: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The variables that `env` of langgraph.json gives, itself or in the file that it names."""
    env = manifest.get("env") or {}
    values = env if isinstance(env, dict) else dotenv_values(config.parent / str(env))
    return {name: str(value) for name, value in values.items() if value is not None}


def _variable_faults(environment: Mapping[str, str]) -> Iterator[str]:
    for (name, refused), reason in REFUSED_VARIABLES.items():
        value = environment.get(name, "")
        if value and (refused is None or value.strip().lower() == refused):
            # Without its value, which may be a secret.
            shown = name if refused is None else f"{name}={refused}"
            yield f"{shown} in the environment or .env cannot be honoured: {reason}."


def _manifest_faults(
    config: Path, manifest: Mapping[str, Any], given: Mapping[str, Any], environment: Mapping[str, str]
) -> Iterator[str]:
    known = {"graphs", "env", "dependencies", *SECTIONS, *ABOUT_THE_IMAGE}

    def where(section: str) -> str:
        return VARIABLES[section] if section in given else str(config)

    for key, value in manifest.items():
        if key in REFUSED:
            if value:
                yield f"{config}: {key} cannot be honoured: {REFUSED[key]}."
        elif key not in known:
            yield f"{config}: {key} is not a key of langgraph.json. Remove it, or correct its name."
    for name, graph in manifest["graphs"].items():
        if isinstance(graph, dict) and (unknown := sorted(graph.keys() - GRAPH_KEYS)):
            yield f"{where('graphs')}: graphs.{name}.{unknown[0]} is not a key of a graph."
    for place, path in sources(manifest):
        section = place.split(".", 1)[0]
        if Path(str(path).rsplit(":", 1)[0]).suffix in JAVASCRIPT:
            yield f"{where(section)}: {place} is JavaScript, which is not served; use the official image."
        elif section in given and (fault := source_fault(config.parent, place, path)):
            yield f"{where(section)}: {fault}"
    schemas = _strict_schemas(environment)
    for section in SECTIONS:
        for fault in _section_faults(section, manifest.get(section), schemas):
            yield f"{where(section)}: {fault}"
    for dependency in manifest.get("dependencies", []):
        if fault := _dependency_fault(config.parent, dependency):
            yield f"{config}: {fault}"


def _section_faults(section: str, value: Any, schemas: ModuleType) -> Iterator[str]:
    if not value:
        return
    if section == "checkpointer" and isinstance(value, dict):
        if "path" in value or value.get("backend", "default") != "default":
            yield (
                f"checkpointer.{'path' if 'path' in value else 'backend'} cannot be honoured: "
                "this engine keeps checkpoints in its own Postgres."
            )
            return
        value = {"backend": "default", **value}
    try:
        TypeAdapter(getattr(schemas, SECTIONS[section][1])).validate_python(value)
        if section == "webhooks":
            schemas.webhooks_validator(dict(value))
    except ValidationError as error:
        for fault in error.errors():
            place = ".".join(str(part) for part in (section, *fault["loc"]))
            unknown = fault["type"] == "extra_forbidden"
            reason = "is not an option that this server reads" if unknown else fault["msg"].lower()
            yield f"{place}: {reason}."
    except ValueError as error:
        is_missing = "environment variable" in str(error)
        yield f"{error}.{' Set it, or take the header out of langgraph.json.' if is_missing else ''}"


def _strict_schemas(environment: Mapping[str, str]) -> ModuleType:
    """A private copy of the server's config types in which unknown keys are errors.

    The usual import would read the process's environment, which is not the server's yet, and what is changed
    here would be changed in the server.
    """
    path = server_folder() / "config" / "schemas.py"
    spec = importlib.util.spec_from_file_location(f"{__name__}.schemas", path)
    if spec is None or spec.loader is None:
        raise EngineError(f"{path} cannot be read. Run `make setup`.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic looks names up
    spec.loader.exec_module(module)
    for value in vars(module).values():
        if is_typeddict(value):
            value.__pydantic_config__ = ConfigDict(extra="forbid")
    vars(module)["os"] = SimpleNamespace(getenv=environment.get)  # for the templates of webhook headers
    return module


def _dependency_fault(project: Path, dependency: Any) -> str | None:
    if not isinstance(dependency, str):
        return f"dependencies must be a list of text, not {dependency!r}."
    if dependency.startswith((".", "/")):
        found = (project / dependency).is_dir()
        return None if found else f"dependencies names the folder {dependency}, which does not exist."
    try:
        wanted = Requirement(dependency)
    except InvalidRequirement:
        # A bare repository address has no name to look for; the import of its graph will tell.
        return None
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"dependencies names {wanted.name}, which is not installed. Install it into this environment."
    if not wanted.specifier.contains(version, prereleases=True):
        return f"dependencies asks for {dependency} and {version} is installed. Install the one it asks for."
    return None
