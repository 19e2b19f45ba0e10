"""Finds how to lay a part on the bed. Runs in a worker process, like `mesh.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import atan2, cos, degrees, hypot, sin
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphs.printing.mesh import Vector, contact_tolerance, load_part, overhang, unit

if TYPE_CHECKING:
    import trimesh

FLAT_SIDES: Final = 20
SHOWN: Final = 5
MIN_CONTACT_SHARE: Final = 0.02
"""The least share of its footprint with which a part must lie on the bed."""
_SAME_DIRECTION: Final = np.cos(np.radians(0.5))


def rank_orientations(
    stl: bytes,
    mm_per_unit: float,
    build_direction: Sequence[float],
    overhang_degrees: float,
    seconds_per_support_mm3: float,
    seconds_per_height_mm: float,
    build_volume_mm: Sequence[float],
) -> dict[str, Any]:
    """Compare build directions by the time that support and height cost.

    Tried are the part as modelled, the 26 directions of a cube's faces, edges and corners, and the largest
    flat sides of the convex hull. One that fits the printer beats one that does not; then one that stands by
    itself beats one that would tip over.

    Returns:
        `best`, `as_modelled`, `alternatives` (the next best) and the number `tried`.

    Raises:
        InputProblem: The part cannot be worked with.
    """
    mesh = load_part(stl, mm_per_unit)
    hull = mesh.convex_hull
    tried: list[tuple[Vector, dict[str, Any]]] = []
    for label, up in _candidates(hull, unit(build_direction)):
        if any(up @ other > _SAME_DIRECTION for other, _ in tried):
            continue
        measures = overhang(mesh, up, overhang_degrees)
        extra = (
            measures["support_mm3"] * seconds_per_support_mm3 + measures["height_mm"] * seconds_per_height_mm
        )
        pose = _pose(mesh, hull, up, measures["bed_contact_mm2"], build_volume_mm)
        tried.append((up, {"direction": label, **pose, **measures, "extra_minutes": round(extra / 60, 1)}))
    # Python's sort is stable: among equals the part as modelled, which comes first, stays first.
    ranked = sorted((row for _, row in tried), key=_rank)
    return {
        "best": ranked[0],
        "as_modelled": tried[0][1],
        "alternatives": ranked[1 : SHOWN + 1],
        "tried": len(tried),
    }


def _rank(row: dict[str, Any]) -> tuple[bool, bool, float]:
    return not row["fits_printer"], not row["stands"], row["extra_minutes"]


def _candidates(hull: trimesh.Trimesh, as_modelled: Vector) -> Iterator[tuple[str, Vector]]:
    """Give names and directions that might point up."""
    yield "as modelled", as_modelled
    for signs in product((0, 1, -1), repeat=3):
        if any(signs):
            name = "".join(
                f"{'+' if s > 0 else '-'}{axis}" for s, axis in zip(signs, "XYZ", strict=True) if s
            )
            yield f"{name} up", unit(signs)
    # A hull is convex: triangles with the same normal lie in one plane, so their areas add up to a flat side.
    _, side = np.unique(hull.face_normals.round(3), axis=0, return_inverse=True)
    area = np.bincount(side.ravel(), weights=hull.area_faces)
    for index in np.argsort(-area)[:FLAT_SIDES]:
        normal = unit((hull.face_normals * hull.area_faces[:, None])[side.ravel() == index].sum(axis=0))
        yield f"on the flat side facing ({', '.join(f'{v:.2f}' for v in normal)})", -normal


def _pose(
    mesh: trimesh.Trimesh,
    hull: trimesh.Trimesh,
    up: Vector,
    bed_contact_mm2: float,
    build_volume_mm: Sequence[float],
) -> dict[str, Any]:
    """Say how to turn the part, whether it fits the printer, and whether it stands by itself."""
    # Two turns lay any direction upright: about x until it has no y, then about y until it has no x.
    about_x = atan2(up[1], up[2])
    about_y = -atan2(up[0], hypot(up[1], up[2]))
    turn = _turn_about_y(about_y) @ _turn_about_x(about_x)
    corners = hull.vertices @ turn.T
    wide, deep, high = np.ptp(corners, axis=0).tolist()
    bed = sorted(build_volume_mm[:2])
    fits = min(wide, deep) <= bed[0] and max(wide, deep) <= bed[1] and high <= build_volume_mm[2]
    feet = corners[corners[:, 2] - corners[:, 2].min() <= contact_tolerance(mesh), :2]
    return {
        "up": [round(float(value), 4) + 0.0 for value in up],
        "rotate_degrees": {
            "x": round(degrees(about_x), 2) + 0.0,
            "y": round(degrees(about_y), 2) + 0.0,
        },
        "fits_printer": fits,
        # A part on an edge or a corner may balance, but nothing would hold it to the bed.
        "stands": bed_contact_mm2 >= MIN_CONTACT_SHARE * wide * deep
        and _stands(feet, (turn @ mesh.center_mass)[:2], contact_tolerance(mesh)),
    }


def _turn_about_x(angle: float) -> Vector:
    return np.array([[1, 0, 0], [0, cos(angle), -sin(angle)], [0, sin(angle), cos(angle)]])


def _turn_about_y(angle: float) -> Vector:
    return np.array([[cos(angle), 0, sin(angle)], [0, 1, 0], [-sin(angle), 0, cos(angle)]])


def _stands(feet: Vector, centre: Vector, margin_mm: float) -> bool:
    """Whether the centre of mass lies over the area that the feet span, by more than the margin."""
    from scipy.spatial import ConvexHull, QhullError

    if len(feet) < 3:
        return False
    try:
        sides = ConvexHull(feet).equations
    except QhullError:  # all feet in one line
        return False
    return bool((sides[:, :2] @ centre + sides[:, 2] < -margin_mm).all())
