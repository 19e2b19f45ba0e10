"""The demo's inputs: one JSON file for each agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdk_client.cli.inputs import read_object
from sdk_client.errors import ConfigurationError

DEFAULT_FOLDER = Path("graphs/examples")


def load_examples(folder: Path) -> dict[str, dict[str, Any]]:
    """Read `<agent>.json` of every agent in the folder, in the order of their names.

    Raises:
        ConfigurationError: There is no such folder, nothing in it, or a file that is not a JSON object.
    """
    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no folder {folder} with example inputs: start the demo in the project's folder, "
            "or name the folder with --examples"
        )
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ConfigurationError(f"the folder {folder} holds no <agent>.json, so there is nothing to run")
    return {file.stem: read_object(str(file), "--examples") for file in files}
