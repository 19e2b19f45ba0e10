"""The examination as people and programs read it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from langgraph_runtime_holdfast.doctor.examine import examine
from langgraph_runtime_holdfast.doctor.finding import Finding, Level

SOMETHING_IS_WRONG: Final = 1


async def report(config: Path, *, as_json: bool) -> int:
    """Examine and print.

    Args:
        config: The path of langgraph.json.
        as_json: Print one JSON list at the end instead of a line for each finding as it is made.

    Returns:
        The exit code: 0 if there is no problem.
    """
    logging.disable(logging.CRITICAL)  # what the server logs at its import is none of the findings
    found: list[Finding] = []
    async for finding in examine(config):
        found.append(finding)
        if not as_json:
            print("\n".join(finding.lines()), flush=True)
    problems = sum(finding.level is Level.PROBLEM for finding in found)
    if as_json:
        print(json.dumps([finding.as_json() for finding in found], indent=2))
    else:
        warnings = sum(finding.level is Level.WARNING for finding in found)
        print(
            f"\n{_count(problems, 'problem')}, {_count(warnings, 'warning')}, {_count(len(found), 'check')}"
        )
    return SOMETHING_IS_WRONG if problems else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
