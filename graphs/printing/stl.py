"""Reads the triangles of an STL file, binary or ASCII, and says exactly what is wrong with a bad one."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphs.kit.problems import InputProblem

MAX_STL_BYTES: Final = 20_000_000
MAX_TRIANGLES: Final = 200_000

_HEADER_BYTES: Final = 84
_BINARY_FACET: Final = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX: Final = re.compile(rb"^\s*vertex\b(.*)$", re.MULTILINE | re.IGNORECASE)
_FACET: Final = re.compile(rb"^\s*facet\b", re.MULTILINE | re.IGNORECASE)
_END: Final = re.compile(rb"^\s*endsolid\b", re.MULTILINE | re.IGNORECASE)
_EXPORT_AGAIN: Final = "Export the part again as STL and send the whole file."


def read_triangles(stl: bytes) -> NDArray[np.float64]:
    """Read an STL file.

    Args:
        stl: The whole file.

    Returns:
        Corner coordinates in the file's unit, shape (triangles, 3, 3).

    Raises:
        InputProblem: The file is empty, cut off, too large, no STL, or has coordinates that are no numbers.
    """
    triangles = _read_ascii(stl) if _is_ascii(stl) else _read_binary(stl)
    bad = np.flatnonzero(~np.isfinite(triangles).all(axis=(1, 2)))
    if bad.size:
        raise InputProblem(
            "stl_bad_numbers",
            f"Triangle {bad[0] + 1} of {len(triangles)} has a coordinate that is not a finite number.",
            _EXPORT_AGAIN,
        )
    return triangles


def _is_ascii(stl: bytes) -> bool:
    # Some programs start binary files with "solid" too, but then the declared length fits.
    if stl.lstrip()[:5].lower() != b"solid":
        return False
    return len(stl) < _HEADER_BYTES or len(stl) != _HEADER_BYTES + 50 * _declared(stl)


def _declared(stl: bytes) -> int:
    return int.from_bytes(stl[80:_HEADER_BYTES], "little")


def _read_binary(stl: bytes) -> NDArray[np.float64]:
    if len(stl) < _HEADER_BYTES:
        raise InputProblem("not_stl", f"{len(stl)} bytes are too few for an STL file.", _EXPORT_AGAIN)
    count = _declared(stl)
    expected = _HEADER_BYTES + _BINARY_FACET.itemsize * count
    if len(stl) != expected:
        raise InputProblem(
            "stl_truncated" if len(stl) < expected else "stl_malformed",
            f"Read as binary STL, the file declares {count:,} triangles ({expected:,} bytes) "
            f"but has {len(stl):,} bytes: it is cut off, damaged, or not an STL file.",
            _EXPORT_AGAIN,
        )
    _check_count(count)
    return np.frombuffer(stl, _BINARY_FACET, offset=_HEADER_BYTES)["corners"].astype(np.float64)


def _read_ascii(stl: bytes) -> NDArray[np.float64]:
    vertices = list(_VERTEX.finditer(stl))
    if not _END.search(stl) or len(vertices) != 3 * len(_FACET.findall(stl)):
        raise InputProblem(
            "stl_truncated",
            f"The ASCII STL file is cut off or damaged: it has {len(_FACET.findall(stl)):,} facets, "
            f"{len(vertices):,} vertices (three a facet are needed)"
            f"{'' if _END.search(stl) else ' and no endsolid line'}.",
            _EXPORT_AGAIN,
        )
    _check_count(len(vertices) // 3)
    corners = np.empty((len(vertices), 3))
    for index, vertex in enumerate(vertices):
        try:
            corners[index] = [float(part) for part in vertex[1].split()]
        except ValueError as error:
            line = stl.count(b"\n", 0, vertex.start(1)) + 1
            raise InputProblem(
                "stl_bad_numbers",
                f"Line {line} of the ASCII STL is not a vertex of 3 numbers.",
                _EXPORT_AGAIN,
            ) from error
    return corners.reshape(-1, 3, 3)


def _check_count(count: int) -> None:
    if count == 0:
        raise InputProblem("stl_empty", "The STL file has no triangles.", _EXPORT_AGAIN)
    if count > MAX_TRIANGLES:
        raise InputProblem(
            "stl_too_large",
            f"The STL file has {count:,} triangles; {MAX_TRIANGLES:,} is the most.",
            "Simplify the mesh or export it with a coarser resolution.",
        )
