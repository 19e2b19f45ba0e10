"""Reads, checks and measures a part. Runs in a worker process, which alone pays for importing trimesh."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO
from math import atan2, degrees, hypot
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from graphs.kit.problems import InputProblem

if TYPE_CHECKING:
    import trimesh

Vector = NDArray[np.float64]

FLAT_SIDES: Final = 24


def load_part(stl: bytes | str, mm_per_unit: float) -> trimesh.Trimesh:
    """Read a closed part, with its normals pointing outwards, in mm.

    Args:
        stl: The STL file, binary or ASCII, or its bytes as base64 text.
        mm_per_unit: The file's unit.

    Raises:
        InputProblem: Unreadable, not closed, or without volume; the message says what, and where.
    """
    import trimesh

    try:
        file = b64decode(stl) if isinstance(stl, str) else stl
        read = trimesh.load_mesh(BytesIO(file), file_type="stl", process=False)
    except ValueError as error:
        raise _unreadable(f"it is damaged ({error})") from error
    count = len(read.faces)
    # trimesh takes the whole solids of an ASCII file and passes over one that is cut off.
    if not count or (len(file) != 84 + 50 * count and file.lower().count(b"vertex") != 3 * count):
        raise _unreadable(f"{count} whole triangles in {len(file):,} bytes; it is empty, cut off, or no STL")
    if not np.isfinite(read.vertices).all():
        raise _unreadable("a coordinate is not a finite number")
    mesh = trimesh.Trimesh(read.vertices * mm_per_unit, read.faces, process=True)
    # Triangles that merged into a line or a point join nothing, but would count as edges used too often.
    first, second, third = mesh.faces.T
    mesh.update_faces((first != second) & (second != third) & (third != first))
    _check_closed(mesh)
    if mesh.volume < 0:
        mesh.invert()
    return mesh


def _unreadable(why: str) -> InputProblem:
    return InputProblem(
        "unreadable_stl",
        f"The part cannot be read as an STL file: {why}.",
        "Export it again as STL and send the whole file (stl_base64: its bytes, without a data: prefix).",
    )


def _check_closed(mesh: trimesh.Trimesh) -> None:
    """Raise unless each edge belongs to exactly two triangles and the mesh has an inside."""
    edges, uses = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    if (uses != 2).any():
        middles = mesh.vertices[edges[uses != 2]].mean(axis=1)[:3]
        places = ", ".join(f"({x:.1f}, {y:.1f}, {z:.1f})" for x, y, z in middles)
        raise InputProblem(
            "not_watertight",
            f"The mesh is not watertight (non-manifold): it has {(uses == 1).sum()} open edges and "
            f"{(uses > 2).sum()} edges shared by more than two triangles, the first around {places} mm.",
            "Close the holes and remove inner or doubled faces (most slicers have a repair function).",
        )
    if not len(edges) or not mesh.is_winding_consistent or abs(mesh.volume) <= 1e-9 * mesh.scale**3:
        raise InputProblem(
            "no_volume",
            "The mesh encloses no volume: it is flat, or some triangles face inwards and others outwards.",
            "Give the part a thickness, recalculate its normals in the CAD, and export again.",
        )


def inspect_mesh(stl: bytes | str, mm_per_unit: float, overhang_degrees: float) -> dict[str, Any]:
    """Check and measure a part as modelled, in mm, mm² and mm³; raises InputProblem as `load_part` does."""
    mesh = load_part(stl, mm_per_unit)
    return {
        "watertight": True,
        "not_checked": ["self-intersections"],
        "triangles": len(mesh.faces),
        "volume_mm3": _rounded(mesh.volume),
        "surface_mm2": _rounded(mesh.area),
        "bounding_box_mm": dict(zip("xyz", map(_rounded, mesh.extents), strict=True)),
        "overhang_degrees": overhang_degrees,
        **_measure(mesh, np.array([0.0, 0.0, 1.0]), overhang_degrees),
    }


def _measure(mesh: trimesh.Trimesh, up: Vector, overhang_degrees: float) -> dict[str, float]:
    """Measure the part when it is built in the direction `up`.

    `bed_contact_percent` is how much of what faces downwards, seen from below, lies on the bed.
    Faces that lean over by more than `overhang_degrees` from the vertical hang, unless they lie on the bed.
    `support_mm3` are columns from them down to the bed: an upper bound, since some may end on the part.
    """
    level = mesh.vertices @ up
    bed = level.min()
    on_bed = (level - bed <= 1e-4 * mesh.scale)[mesh.faces].all(axis=1)
    downward = -(mesh.face_normals @ up)
    # The margin keeps faces at exactly the limit out of it, whatever the rounding of the file's coordinates.
    hanging = (downward > np.sin(np.radians(overhang_degrees)) + 1e-5) & ~on_bed
    shadow = mesh.area_faces * downward
    columns = shadow[hanging] * (level[mesh.faces[hanging]].mean(axis=1) - bed)
    return {
        "height_mm": _rounded(np.ptp(level)),
        "bed_contact_percent": _rounded(100 * shadow[on_bed].sum() / shadow[downward > 0].sum()),
        "overhang_mm2": _rounded(mesh.area_faces[hanging].sum()),
        "support_mm3": _rounded(columns.sum()),
    }


def find_poses(stl: bytes | str, mm_per_unit: float, overhang_degrees: float) -> list[dict[str, Any]]:
    """Measure each way in which the part stands by itself; raises InputProblem as `load_part` does."""
    mesh = load_part(stl, mm_per_unit)
    poses = []
    for up in -_resting_sides(mesh).round(9) + 0.0:  # no -0.0, whose angle would be 180°
        # Two turns lay any direction upright: about x until it has no y, then about y until it has no x.
        turn = {"x": atan2(up[1], up[2]), "y": -atan2(up[0], hypot(up[1], up[2]))}
        poses.append(
            {
                "up": [_rounded(value) for value in up],
                "rotate_degrees": {axis: round(degrees(angle), 2) + 0.0 for axis, angle in turn.items()},
                **_measure(mesh, up, overhang_degrees),
            }
        )
    return poses


def _resting_sides(mesh: trimesh.Trimesh) -> Vector:
    """The normals of the largest flat sides of the convex hull on which the part does not tip over."""
    hull = mesh.convex_hull
    order = np.argsort(-hull.area_faces, kind="stable")
    normals, area = hull.face_normals[order], hull.area_faces[order]
    distance = ((hull.triangles_center[order] - mesh.center_mass) * normals).sum(axis=1)
    # A hull is convex: triangles with the same normal are one flat side. Its largest triangle stands for it.
    _, first, side = np.unique(normals.round(3), axis=0, return_index=True, return_inverse=True)
    largest = np.argsort(-np.bincount(side.ravel(), area), kind="stable")[:FLAT_SIDES]
    # The part never tips over on what is nearest to its centre of mass, so that there is always one.
    tried = np.union1d(first[largest], distance.argmin())
    # It rests on a side if the ray from the centre of mass straight down leaves the hull through that side.
    facing = normals[tried] @ normals.T
    reach = np.divide(distance, facing, out=np.full_like(facing, np.inf), where=facing > 1e-9)
    resting: Vector = normals[tried[reach.min(axis=1) >= distance[tried] * (1 - 1e-6)]]
    return resting


def _rounded(value: float) -> float:
    return round(float(value), 4) + 0.0
