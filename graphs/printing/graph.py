"""The printing agent: a supervisor whose tools are two sub-agents, a geometer and an estimator."""

from __future__ import annotations

import base64
from typing import Any, Final

from langchain.agents import create_agent
from langgraph.graph.state import CompiledStateGraph

from graphs.kit.attachments import File
from graphs.kit.context import Context
from graphs.kit.delegate import sub_agent
from graphs.kit.intake import Intake
from graphs.kit.middleware import standard
from graphs.kit.offline import OfflineChatModel
from graphs.kit.problems import InputProblem, parse_input
from graphs.kit.turn import Turn
from graphs.printing import offline
from graphs.printing.state import Part, Settings, State
from graphs.printing.tools import estimate_print, inspect_part, orient_part

SUPERVISOR: Final = """You prepare parts for 3D printing. The part was sent, and your helpers read it:
never ask for it. Ask the geometer first, for the orientation too if support, time or cost matter; then the
estimator for time, material or cost, naming the material and the number of copies if the user did. Ask
only for what the user wants to know; if that is open, ask both for everything. At the end answer in a few
plain sentences with the figures and the assumptions. Invent no figures."""
GEOMETER: Final = """Inspect the part with inspect_part; find the best orientation with orient_part if the
task asks for one. Then report the figures, and how to turn the part, in a few sentences."""
ESTIMATOR: Final = "Estimate with estimate_print, then report time, material, cost and the assumptions."


async def check_input(state: dict[str, Any], turn: Turn) -> dict[str, Any]:
    """Take the part that the message names, and refuse what is no part."""
    part = state.get("part")
    if "part" not in {**turn.sent, **turn.attached} and (name := turn.named_file(".stl")):
        unit = {"unit": part["unit"]} if isinstance(part, dict) and "unit" in part else {}
        part = {"path": name, **unit}  # in the unit of the part before: an STL file has none
    if part is None:
        raise InputProblem(
            "missing_part",
            "There is no part yet.",
            "Attach an STL file, name one of the data folder, or send it (as stl_base64, path), for example: "
            '{"part": {"path": "bracket.stl", "unit": "mm"}}',
        )
    parse_input(Part, part, key="part")
    parse_input(Settings, state.get("settings", {}), key="settings")
    return {"part": part} if part is not state.get("part") else {}


def accept(file: File) -> dict[str, Any]:
    """Take an attached STL, or JSON with a part or settings."""
    if file.name.lower().endswith(".json"):
        return file.json_object(("part", "settings"))
    return {"part": {"stl_base64": base64.b64encode(file.content).decode()}}


geometer = sub_agent(
    "geometer",
    "Is the mesh watertight, how large is it, where does it overhang, how should it lie on the bed?",
    prompt=GEOMETER,
    tools=[inspect_part, orient_part],
    script=offline.geometer,
    state_schema=State,
    reads=("part", "settings"),
)
estimator = sub_agent(
    "estimator",
    "Time, material and cost of the print, after the geometer has inspected the part.",
    prompt=ESTIMATOR,
    tools=[estimate_print],
    script=offline.estimator,
    state_schema=State,
    reads=("part", "settings"),
)
graph: CompiledStateGraph[Any, Context, Any, Any] = create_agent(
    OfflineChatModel(rule=offline.supervisor),
    [geometer, estimator],
    system_prompt=SUPERVISOR,
    middleware=[Intake(check_input, keys=("part", "settings"), accept=accept), *standard()],
    state_schema=State,
    context_schema=Context,
    name="printing",
)
