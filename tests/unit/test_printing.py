"""The printing agent with the offline model: exact figures, and an answer to each bad part."""

from __future__ import annotations

import base64
import json
from math import pi, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from graphs.printing.graph import graph
from graphs.printing.prompts import wishes
from graphs.printing.stl import MAX_TRIANGLES

# One loop for the module, so that its tests share the worker processes, which belong to a loop.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_blocking")]

EXAMPLE = json.loads((Path(__file__).parents[2] / "graphs/examples/printing.json").read_text())
Triangles = NDArray[np.float64]

_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
_SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
_FACES = [face for a, b, c, d in _SIDES for face in ((a, b, c), (a, c, d))]


def box(x: float, y: float, z: float, at: tuple[float, float, float] = (0, 0, 0)) -> Triangles:
    """A box with outward normals, shape (12, 3, 3)."""
    return (_CORNERS * [x, y, z] + at)[_FACES]


def binary(triangles: Triangles, header: bytes = b"") -> bytes:
    facets = np.zeros(len(triangles), dtype=[("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    facets["v"] = triangles
    return header.ljust(80, b" ") + len(triangles).to_bytes(4, "little") + facets.tobytes()


def ascii_stl(triangles: Triangles) -> bytes:
    lines = ["solid part"]
    for triangle in triangles:
        vertices = "\n".join(f"      vertex {x:.6e} {y:.6e} {z:.6e}" for x, y, z in triangle)
        lines.append(f"  facet normal 0 0 0\n    outer loop\n{vertices}\n    endloop\n  endfacet")
    return "\n".join([*lines, "endsolid part\n"]).encode()


async def ask(stl: bytes, text: str = "", **keys: Any) -> dict[str, Any]:
    part = {"stl_base64": base64.b64encode(stl).decode(), **keys.pop("part", {})}
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
    shelf = 36 * 30 - hole
    assert inspection["overhang_mm2"] == pytest.approx(shelf + 7 * 8 * sin(pi / 32) * 4, rel=1e-5)
    assert inspection["support_mm3"] > 36 * shelf

    best = state["result"]["orientation"]["best"]
    assert (best["up"], best["rotate_degrees"]) == ([0, 1, 0], {"x": 90, "y": 0})
    assert best["overhang_mm2"] == pytest.approx(2 * 7 * 8 * sin(pi / 32) * 4, rel=1e-5)

    estimate = state["result"]["estimate"]
    assert (estimate["material"], estimate["copies"], estimate["direction"]) == ("PETG", 4, "+Y up")
    assert state["problem"] is None
    answer = state["messages"][-1].text
    for figure in ("8.72 cm³", "+Y up", f"{estimate['cost']:.2f} EUR", "5% waste"):
        assert figure in answer
    json.dumps(state["result"], allow_nan=False)


@pytest.mark.parametrize("write", [binary, ascii_stl, lambda t: binary(t, b"solid but binary")])
async def test_a_box_measures_the_same_in_each_format(write: Any) -> None:
    state = await ask(write(box(20, 10, 5)), "Is it watertight, and how large?")

    inspection = state["result"]["inspection"]
    assert (inspection["volume_mm3"], inspection["surface_mm2"]) == (1000, 700)
    assert (inspection["overhang_mm2"], inspection["support_mm3"], inspection["bed_contact_mm2"]) == (
        0,
        0,
        200,
    )
    assert inspection["centre_of_mass_mm"] == [10, 5, 2.5]
    assert list(state["result"]) == ["inspection"], "nobody asked for an orientation or a price"


async def test_estimate_against_arithmetic_by_hand() -> None:
    settings = {
        "price_per_kg": 30,
        "density_g_per_cm3": 1.2,
        "machine_cost_per_hour": 2,
        "walls": 2,
        "line_width_mm": 0.5,
        "speed_mm_per_second": 50,
    }
    text = "Cost of 2 copies as modelled, 0.25 mm layers, 40 % infill?"
    state = await ask(binary(box(20, 10, 5)), text, settings=settings)

    plastic = 700 * 2 * 0.5 + (1000 - 700) * 0.4
    seconds = 300 + plastic / (0.5 * 0.25 * 50 * 0.7) + 20 * 2
    estimate = state["result"]["estimate"]
    assert "orientation" not in state["result"]
    assert estimate["one_copy"]["layers"] == 20
    assert estimate["grams"] == pytest.approx(2 * plastic / 1000 * 1.2, abs=0.05)
    assert estimate["hours"] == pytest.approx(2 * seconds / 3600, abs=0.005)
    cost = plastic / 1e6 * 1.2 * 1.05 * 30 + seconds / 3600 * 2
    assert estimate["cost"] == pytest.approx(2 * cost, abs=0.005)


async def test_a_pyramid_on_its_tip_is_laid_down() -> None:
    base = [(-10.0, -10.0, 20.0), (10.0, -10.0, 20.0), (10.0, 10.0, 20.0), (-10.0, 10.0, 20.0)]
    sides = [(base[(i + 1) % 4], base[i], (0.0, 0.0, 0.0)) for i in range(4)]
    pyramid = np.array([(base[0], base[1], base[2]), (base[0], base[2], base[3]), *sides])
    state = await ask(binary(pyramid), "Best orientation?", settings={"overhang_degrees": 20})

    result = state["result"]["orientation"]
    # On a side it is lower than on its base (base times height over slant height); nothing overhangs.
    assert result["best"]["height_mm"] == pytest.approx(20 * 20 / 500**0.5, abs=1e-4)
    assert (result["best"]["support_mm3"], result["best"]["stands"]) == (0, True)
    upside_down = next(row for row in result["alternatives"] if row["up"] == [0, 0, -1])
    assert (upside_down["height_mm"], upside_down["rotate_degrees"]) == (20, {"x": 180, "y": 0})
    assert result["as_modelled"]["stands"] is False
    # Its sides lean out by atan(1/2) = 26.6°; the support fills the hull's box around it.
    assert result["as_modelled"]["support_mm3"] == pytest.approx(20 * 20 * 20 * 2 / 3, rel=1e-6)


async def test_a_part_that_lies_skewed_is_laid_on_its_flat_side() -> None:
    tilt = np.radians(17)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    state = await ask(binary(box(60, 50, 4) @ turn.T), "Best orientation?")

    best = state["result"]["orientation"]["best"]
    assert best["height_mm"] == pytest.approx(4, abs=1e-3)
    assert abs(best["rotate_degrees"]["x"]) in (pytest.approx(17), pytest.approx(180 - 17))


async def test_a_part_larger_than_the_printer_is_said_to_be() -> None:
    state = await ask(binary(box(300, 300, 300)), "Best orientation?")

    assert state["result"]["orientation"]["best"]["fits_printer"] is False
    assert "does not fit the printer (220 x 220 x 250 mm)" in state["messages"][-1].text


async def test_inside_out_cavities_and_units() -> None:
    inside_out = await ask(binary(box(2, 1, 0.5)[:, ::-1]), "volume?", part={"unit": "cm"})
    assert inside_out["result"]["inspection"]["volume_mm3"] == 1000

    hollow = np.concatenate([box(20, 10, 5), box(2, 2, 2, at=(5, 5, 1))[:, ::-1]])
    state = await ask(binary(hollow), "volume?")
    assert state["result"]["inspection"]["volume_mm3"] == 992
    assert "2 separate surfaces" in state["messages"][-1].text


def _with(value: float) -> Triangles:
    triangles = box(1, 1, 1)
    triangles[4, 1, 2] = value
    return triangles


def _one_turned() -> Triangles:
    triangles = box(1, 1, 1)
    triangles[3] = triangles[3, ::-1]
    return triangles


_SHEET = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]], dtype=float)


@pytest.mark.parametrize(
    ("stl", "code", "words"),
    [
        (b"", "not_stl", "0 bytes"),
        (b"\x89PNG" + bytes(range(256)) * 4, "stl_truncated", "not an STL file"),
        (binary(box(1, 1, 1))[:-30], "stl_truncated", "declares 12 triangles (684 bytes) but has 654 bytes"),
        (binary(box(1, 1, 1)) + b"x", "stl_malformed", "damaged"),
        (binary(box(1, 1, 1)[:0]), "stl_empty", "no triangles"),
        (b"solid nothing\nendsolid nothing\n", "stl_empty", "no triangles"),
        (ascii_stl(box(1, 1, 1))[:-40], "stl_truncated", "no endsolid line"),
        (ascii_stl(box(1, 1, 1)).replace(b"vertex 0.0", b"vertex zero", 1), "stl_bad_numbers", "Line 4 "),
        (binary(_with(float("nan"))), "stl_bad_numbers", "Triangle 5 of 12"),
        (binary(_with(float("inf"))), "stl_bad_numbers", "Triangle 5 of 12"),
        (bytes(80) + (MAX_TRIANGLES + 1).to_bytes(4, "little") + bytes(50 * (MAX_TRIANGLES + 1)),
         "stl_too_large", "200,001 triangles"),
        (binary(box(30, 30, 30)[1:]), "not_watertight",
         "3 open edges in 1 hole(s), 3 around (0.0, 10.0, 20.0) mm"),
        (binary(np.concatenate([box(1, 1, 1), box(1, 1, 1, at=(1, 1, 0))])), "not_watertight",
         "1 edges shared by more than two triangles, 1 around (1.0, 1.0, 0.5) mm"),
        (binary(_one_turned()), "inconsistent_normals", "face inwards"),
        (binary(_SHEET), "no_volume", "flat"),
        (binary(np.zeros((4, 3, 3))), "no_volume", "lines or points"),
    ],
)  # fmt: skip
async def test_a_bad_part_is_a_problem_that_says_what_and_where(stl: bytes, code: str, words: str) -> None:
    state = await ask(stl, "What does it cost?")

    assert state["problem"]["code"] == code
    assert words in state["problem"]["message"]
    assert state["problem"]["cure"] in state["messages"][-1].text
    assert state["result"] == {}


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({}, "missing_part", "stl_base64, path"),
        ({"part": "bracket.stl"}, "invalid_part", "part: "),
        ({"part": {}}, "invalid_part", "exactly one of stl_base64"),
        (
            {"part": {"path": "bracket.stl", "stl_base64": "AAAA"}},
            "invalid_part",
            "exactly one of stl_base64",
        ),
        ({"part": {"path": "bracket.stl", "unit": "mile"}}, "invalid_part", "part.unit"),
        ({"part": {"path": "bracket.stl", "units": "mm"}}, "invalid_part", "part.units"),
        ({"part": {"stl_base64": "é!"}}, "invalid_base64", "base64"),
        ({"part": {"path": "../../etc/passwd"}}, "path_outside_data_folder", "not below"),
        ({"part": {"path": "nothing.stl"}}, "file_not_found", "nothing.stl"),
        ({"settings": {"material": "WOOD"}}, "invalid_settings", "'PLA'"),
        ({"settings": {"infill_percent": float("nan")}}, "invalid_settings", "settings.infill_percent"),
        ({"settings": {"speed_mm_per_second": -1}}, "invalid_settings", "settings.speed_mm_per_second"),
        ({"settings": {"layer_height_mm": 1}}, "invalid_settings", "larger than line_width_mm"),
        ({"settings": {"build_direction": [0, 0, 0]}}, "invalid_settings", "needs a length"),
        ({"settings": ["PLA"]}, "invalid_settings", "settings: "),
        (
            {"messages": [("user", "print it with 250 % infill")]},
            "invalid_settings",
            "settings.infill_percent",
        ),
        ({"messages": [("user", "x" * 1_000_000)]}, "prompt_too_long", "1,000,000 characters"),
    ],
)
async def test_bad_keys_are_a_problem(keys: dict[str, Any], code: str, words: str) -> None:
    part = {} if code == "missing_part" else {"part": {"path": "bracket.stl"}}
    state = await graph.ainvoke({"messages": [], **part, **keys})

    assert state["problem"]["code"] == code
    assert words in f"{state['problem']['message']} {state['problem']['cure']}"
    assert len(state["messages"][-1].text) < 1000


async def test_the_question_names_settings() -> None:
    assert wishes("12 parts in petg with 0,3 mm layers and infill of 35 %") == {
        "material": "PETG",
        "infill_percent": 35.0,
        "layer_height_mm": 0.3,
        "copies": 12,
    }
    assert wishes("How do I lay it?") == {}
