"""The printing agent with the offline model: exact figures, and an answer to each bad part."""

from __future__ import annotations

import base64
import json
from math import pi, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from graphs.printing.graph import graph

# One loop for the module, so that its tests share the worker processes, which belong to a loop.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_blocking")]

EXAMPLE = json.loads((Path(__file__).parents[2] / "graphs/examples/printing.json").read_text())


def box(*sides: float) -> trimesh.Trimesh:
    mesh: trimesh.Trimesh = trimesh.creation.box(sides)
    mesh.apply_translation(np.array(sides) / 2)
    return mesh


def stl(mesh: Any, file_type: str = "stl") -> bytes:
    written = mesh.export(file_type=file_type)
    return written.encode() if isinstance(written, str) else bytes(written)


async def ask(file: bytes, text: str = "", unit: str = "mm", **keys: Any) -> dict[str, Any]:
    part = {"stl_base64": base64.encodebytes(file).decode(), "unit": unit}
    messages = [{"role": "user", "content": text}] if text else []
    state: dict[str, Any] = await graph.ainvoke({"messages": messages, "part": part, **keys})
    return state


async def test_shipped_example_end_to_end() -> None:
    state = await graph.ainvoke(EXAMPLE)

    # An L of 40 x 40 x 4 mm, 30 mm wide, with a hole of 32 sides and radius 4 in each leg.
    hole = 16 * 16 * sin(pi / 16)
    inspection = state["result"]["inspection"]
    assert inspection["volume_mm3"] == pytest.approx((40 * 4 + 36 * 4) * 30 - 2 * 4 * hole, rel=1e-6)
    assert inspection["bounding_box_mm"] == {"x": 40, "y": 30, "z": 40}
    # Hanging as modelled: the shelf's underside, and 7 of the 32 sides in the upright's hole (45° holds).
    shelf, sides = 36 * 30 - hole, 7 * 8 * sin(pi / 32) * 4
    assert inspection["overhang_mm2"] == pytest.approx(shelf + sides, rel=1e-5)

    # On its side only the holes hang; propped on the edges of both legs nothing would, but nothing holds it.
    best = state["result"]["orientation"]["best"]
    assert (best["height_mm"], abs(best["rotate_degrees"]["x"])) == (30, 90)
    assert best["overhang_mm2"] == pytest.approx(2 * sides, rel=1e-5)

    estimate = state["result"]["estimate"]
    assert (estimate["material"], estimate["copies"]) == ("PETG", 4)
    for figure in ("8.72 cm³", "30.0 mm high", f"{estimate['cost']:.2f} EUR", "25 % infill"):
        assert figure in state["messages"][-1].text
    assert state["problem"] is None
    json.dumps(state["result"], allow_nan=False)


@pytest.mark.parametrize(
    ("file", "unit"),
    [
        (stl(box(20, 10, 5)), "mm"),
        (stl(box(20, 10, 5), "stl_ascii"), "mm"),
        (b"solid" + stl(box(20, 10, 5))[5:], "mm"),
        (stl(trimesh.Trimesh(box(2, 1, 0.5).vertices, box(2, 1, 0.5).faces[:, ::-1])), "cm"),
    ],
    ids=["binary", "ascii", "binary that starts with solid", "inside out, in cm"],
)
async def test_a_box_measures_the_same_in_each_format(file: bytes, unit: str) -> None:
    state = await ask(file, "Is it watertight, and how large?", unit)

    inspection = state["result"]["inspection"]
    assert (inspection["volume_mm3"], inspection["surface_mm2"]) == (1000, 700)
    assert (inspection["overhang_mm2"], inspection["bed_contact_percent"]) == (0, 100)
    assert list(state["result"]) == ["inspection"], "nobody asked for an orientation or a price"


async def test_estimate_against_arithmetic_by_hand() -> None:
    speed = {"layer_height_mm": 0.25, "line_width_mm": 0.5, "speed_mm_per_second": 50}
    settings = {**speed, "walls": 2, "infill_percent": 40, "price_per_kg": 30, "machine_cost_per_hour": 2}
    state = await ask(stl(box(20, 10, 5)), "What do 2 copies in ABS cost?", settings=settings)

    plastic = 700 * 2 * 0.5 + (1000 - 700) * 0.4
    seconds = 300 + plastic / (0.5 * 0.25 * 50 * 0.7) + 20 * 2
    estimate = state["result"]["estimate"]
    assert estimate["grams"] == pytest.approx(2 * plastic / 1000 * 1.04, abs=0.05)
    assert estimate["hours"] == pytest.approx(2 * seconds / 3600, abs=0.005)
    cost = 2 * (plastic / 1e6 * 1.04 * 30 + seconds / 3600 * 2)
    assert estimate["cost"] == pytest.approx(cost, abs=0.005)


async def test_a_pyramid_on_its_tip_is_laid_on_a_skewed_side() -> None:
    corners = [(0, 0, 0), (-10, -10, 20), (10, -10, 20), (10, 10, 20), (-10, 10, 20)]
    pyramid = trimesh.convex.convex_hull(np.array(corners, dtype=float))
    state = await ask(stl(pyramid), "Best orientation?", settings={"overhang_degrees": 20})

    # Its sides lean out by atan(1/2) = 26.6°, so the support fills the box around it; on a side it needs none
    # and is lower than on its base: base times height over slant height.
    assert state["result"]["inspection"]["support_mm3"] == pytest.approx(20 * 20 * 20 * 2 / 3, rel=1e-6)
    best = state["result"]["orientation"]["best"]
    assert best["height_mm"] == pytest.approx(20 * 20 / 500**0.5, abs=1e-3)
    assert best["support_mm3"] == 0
    turn = Rotation.from_euler("xy", list(best["rotate_degrees"].values()), degrees=True)
    assert turn.apply(best["up"]) == pytest.approx([0, 0, 1], abs=1e-3)


_CUBE = stl(box(30, 30, 30))
_TEXT = stl(box(1, 1, 1), "stl_ascii")
_TWO = trimesh.util.concatenate([box(1, 1, 1), box(1, 1, 1).apply_translation([1, 1, 0])])
_TURNED = box(1, 1, 1)
_TURNED.faces[3] = _TURNED.faces[3, ::-1]


@pytest.mark.parametrize(
    ("file", "code", "words"),
    [
        (b"", "unreadable_stl", "0 bytes"),
        (b"\x89PNG" + bytes(range(256)) * 4, "unreadable_stl", "no STL"),
        (_CUBE[:-30], "unreadable_stl", "654 bytes; it is empty, cut off"),
        (_CUBE[:80] + bytes(4), "unreadable_stl", "0 whole triangles"),
        (_TEXT + _TEXT[:-40], "unreadable_stl", "cut off"),
        (_TEXT.replace(b"vertex 1.0", b"vertex one", 1), "unreadable_stl", "damaged"),
        (_CUBE[:96] + np.float32(np.nan).tobytes() + _CUBE[100:], "unreadable_stl", "not a finite number"),
        (_CUBE[:80] + (11).to_bytes(4, "little") + _CUBE[134:], "not_watertight",
         "3 open edges and 0 edges shared by more than two triangles, the first around (0.0, 0.0, 15.0)"),
        (stl(_TWO), "not_watertight", "0 open edges and 1 edges shared by more than two triangles"),
        (stl(_TURNED), "no_volume", "face inwards"),
        (stl(box(1, 1, 0)), "no_volume", "flat"),
    ],
)  # fmt: skip
async def test_a_bad_part_is_a_problem_that_says_what_and_where(file: bytes, code: str, words: str) -> None:
    state = await ask(file, "What does it cost?")

    assert state["problem"]["code"] == code
    assert words in state["problem"]["message"]
    assert state["problem"]["cure"] in state["messages"][-1].text
    assert state["result"] == {}


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({"part": None}, "missing_part", "stl_base64, path"),
        ({"part": {"stl_base64": "é!"}}, "unreadable_stl", "base64"),
        ({"part": {"path": "../../etc/passwd"}}, "path_outside_data_folder", "not below"),
        ({"settings": {"material": "WOOD"}}, "invalid_settings", "'PLA'"),
        ({"settings": {"infill_percent": float("nan")}}, "invalid_settings", "settings.infill_percent"),
        ({"settings": []}, "invalid_settings", "settings: "),
        ({"messages": [("user", "0 copies")]}, "invalid_settings", "settings.copies"),
        ({"messages": [("user", "x" * 1_000_000)]}, "prompt_too_long", "1,000,000 characters"),
    ],
)
async def test_bad_keys_are_a_problem(keys: dict[str, Any], code: str, words: str) -> None:
    state = await graph.ainvoke({"messages": [], "part": {"path": "bracket.stl"}, **keys})

    assert state["problem"]["code"] == code
    assert words in f"{state['problem']['message']} {state['problem']['cure']}"
