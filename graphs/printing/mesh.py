"""Checks a part's mesh and measures it. Runs in a worker process, which alone pays for importing trimesh."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from graphs.kit.problems import InputProblem
from graphs.printing.stl import read_triangles

if TYPE_CHECKING:
    import trimesh

Vector = NDArray[np.float64]

SHOWN_HOLES: Final = 3


def load_part(stl: bytes, mm_per_unit: float) -> trimesh.Trimesh:
    """Read a closed part, with its normals pointing outwards, in mm.

    Raises:
        InputProblem: Unreadable, not closed, inconsistent, or without volume; the message says what, where.
    """
    import trimesh

    corners = read_triangles(stl).reshape(-1, 3) * mm_per_unit
    mesh = trimesh.Trimesh(vertices=corners, faces=np.arange(len(corners)).reshape(-1, 3), process=True)
    # Triangles that merged into a line or a point join nothing, but would count as edges used too often.
    first, second, third = mesh.faces.T
    mesh.update_faces((first != second) & (second != third) & (third != first))
    _check_closed(mesh)
    if not mesh.is_winding_consistent:
        raise InputProblem(
            "inconsistent_normals",
            "Some triangles of the mesh face inwards and others outwards, so inside and outside are unclear.",
            "Recalculate the normals ('unify normals') in the CAD or a mesh repair program and export again.",
        )
    if abs(mesh.volume) <= 1e-9 * mesh.scale**3:
        raise InputProblem(
            "no_volume",
            "The mesh is flat: it encloses no volume.",
            "Give the part a thickness and export again.",
        )
    if mesh.volume < 0:
        mesh.invert()
    return mesh


def _check_closed(mesh: trimesh.Trimesh) -> None:
    """Raise unless each edge belongs to exactly two triangles."""
    if not len(mesh.faces):
        raise InputProblem("no_volume", "All triangles are lines or points.", "Export the part again.")
    size = len(mesh.vertices)
    codes = mesh.edges_sorted[:, 0].astype(np.int64) * size + mesh.edges_sorted[:, 1]
    unique, uses = np.unique(codes, return_counts=True)
    if (uses == 2).all():
        return
    found = []
    if (uses == 1).any():
        holes = _places(mesh, unique[uses == 1])
        found.append(f"{(uses == 1).sum()} open edges in {len(holes)} hole(s), {_list(holes)}")
    if (uses > 2).any():
        places = _places(mesh, unique[uses > 2])
        found.append(f"{(uses > 2).sum()} edges shared by more than two triangles, {_list(places)}")
    raise InputProblem(
        "not_watertight",
        f"The mesh is not watertight (non-manifold): {'; and '.join(found)}.",
        "Close the holes and remove inner or doubled faces with the repair function of your slicer or CAD.",
    )


def _places(mesh: trimesh.Trimesh, codes: NDArray[np.int64]) -> list[tuple[int, Vector]]:
    """Group edges that touch: the number of edges and the centre in mm of each group, largest first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(mesh.vertices)
    start, end = codes // size, codes % size
    _, label = connected_components(coo_array((np.ones(len(codes)), (start, end)), shape=(size, size)), False)
    middle = (mesh.vertices[start] + mesh.vertices[end]) / 2
    groups = [label[start] == group for group in np.unique(label[start])]
    return sorted(((int(g.sum()), middle[g].mean(axis=0)) for g in groups), key=lambda item: -item[0])


def _list(places: Sequence[tuple[int, Vector]]) -> str:
    shown = [f"{count} around ({', '.join(f'{v:.1f}' for v in at)}) mm" for count, at in places[:SHOWN_HOLES]]
    return ", ".join(shown) + (" and others" if len(places) > SHOWN_HOLES else "")


def overhang(mesh: trimesh.Trimesh, up: Vector, overhang_degrees: float) -> dict[str, float]:
    """Measure what needs support when the part is built in the direction `up`.

    Args:
        mesh: The part, in mm.
        up: The build direction, of length 1.
        overhang_degrees: Faces that lean over by more than this from the vertical need support.

    Returns:
        `height_mm`, `overhang_mm2` (faces on the bed do not count), `bed_contact_mm2`, and `support_mm3`:
        columns from each overhanging face down to the bed, an upper bound, since some may end on the part.
    """
    level = mesh.vertices @ up
    bed, height = level.min(), np.ptp(level)
    on_bed = (level - bed <= contact_tolerance(mesh))[mesh.faces].all(axis=1)
    downward = -(mesh.face_normals @ up)
    # The margin keeps faces at exactly the limit out of it, whatever the rounding of the file's coordinates.
    hanging = (downward > np.sin(np.radians(overhang_degrees)) + 1e-5) & ~on_bed
    area = mesh.area_faces
    columns = area[hanging] * downward[hanging] * (level[mesh.faces[hanging]].mean(axis=1) - bed)
    return {
        "height_mm": _rounded(height),
        "overhang_mm2": _rounded(area[hanging].sum()),
        "bed_contact_mm2": _rounded(area[on_bed].sum()),
        "support_mm3": _rounded(columns.sum()),
    }


def contact_tolerance(mesh: trimesh.Trimesh) -> float:
    """How far from the bed, in mm, a corner still counts as lying on it."""
    return 1e-4 * float(mesh.scale)


def inspect_mesh(
    stl: bytes, mm_per_unit: float, build_direction: Sequence[float], overhang_degrees: float
) -> dict[str, Any]:
    """Check and measure a part; the result is JSON with lengths in mm, areas in mm², volumes in mm³.

    Raises:
        InputProblem: The part cannot be worked with.
    """
    mesh = load_part(stl, mm_per_unit)
    longest = float(max(mesh.extents))
    notes = []
    if not 1.0 <= longest <= 2000.0:
        notes.append(
            f"The longest side is {longest:.4g} mm: check the unit (part.unit is mm, cm, m or inch)."
        )
    if mesh.body_count > 1:
        notes.append(f"The file holds {mesh.body_count} separate surfaces: several parts, or cavities.")
    return {
        "watertight": True,
        "not_checked": ["self-intersections"],
        "triangles": len(mesh.faces),
        "separate_surfaces": int(mesh.body_count),
        "volume_mm3": _rounded(mesh.volume),
        "surface_mm2": _rounded(mesh.area),
        "bounding_box_mm": dict(zip("xyz", map(_rounded, mesh.extents), strict=True)),
        "centre_of_mass_mm": [_rounded(value) for value in mesh.center_mass],
        "build_direction": list(build_direction),
        "overhang_degrees": overhang_degrees,
        **overhang(mesh, unit(build_direction), overhang_degrees),
        "notes": notes,
    }


def unit(direction: Sequence[float]) -> Vector:
    """The direction with length 1."""
    return np.asarray(direction, dtype=float) / hypot(*direction)


def _rounded(value: float) -> float:
    return round(float(value), 4)
