"""Point clouds from text: .xyz (one point a line) and .off (a mesh to sample from)."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.errors import UserError

__all__ = ["MESH_POINTS", "read_off", "read_xyz", "sample_mesh"]

MESH_POINTS = 1024
"""How many points are drawn on the surface of a mesh."""

LARGEST = float(np.finfo(np.float32).max)


def read_xyz(path: Path) -> Array:
    """Read x y z and any features, separated by blanks or commas, one point a line.

    Empty lines and lines that begin with # are skipped.

    Returns:
        points 3+features, float32.

    Raises:
        UserError: a line is not numbers, has fewer than 3 or not as many as the first.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(_lines(path), 1):
        text = line.replace(",", " ").split("#")[0].split()
        if not text:
            continue
        row = _numbers(text, f"{path}: row {number}")
        width = len(rows[0]) if rows else max(3, len(row))
        if len(row) != width:
            raise UserError(
                f"{path}: row {number}: expected {width} numbers, got {len(row)}"
            )
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: expected points, got an empty file")
    return np.array(rows, dtype=np.float32)


def read_off(path: Path) -> Array:
    """Read a mesh in the Object File Format and draw points on its surface.

    The header may share its line with the counts, as in ModelNet. A file without faces
    gives its vertices.

    Returns:
        points 3, float32; `MESH_POINTS` of them, the same ones each time.

    Raises:
        UserError: no OFF header, fewer lines than announced, or a broken line.
    """
    lines = [line.split("#")[0].strip() for line in _lines(path)]
    lines = [line for line in lines if line]
    if not lines or not lines[0].startswith("OFF"):
        raise UserError(f"{path}: expected a file that begins with OFF")
    rest = lines[0][3:].strip()
    lines = [rest, *lines[1:]] if rest else lines[1:]
    counts = _numbers(lines[0].split() if lines else [], f"{path}: counts")
    if len(counts) < 2 or len(lines) - 1 < sum(counts[:2]) or min(counts[:2]) < 0:
        raise UserError(
            f"{path}: expected counts of vertices and faces and a line for each, got "
            f"counts {counts} and {max(len(lines) - 1, 0)} lines"
        )
    vertices, faces = int(counts[0]), int(counts[1])
    points = [
        _numbers(line.split(), f"{path}: vertex {row}")[:3]
        for row, line in enumerate(lines[1 : 1 + vertices])
    ]
    if not points or any(len(point) != 3 for point in points):
        raise UserError(f"{path}: expected vertices of 3 coordinates")
    corners = np.array(points, dtype=np.float64)
    triangles: list[tuple[int, int, int]] = []
    for row, line in enumerate(lines[1 + vertices : 1 + vertices + faces]):
        triangles += _fan(line, f"{path}: face {row}", vertices)
    if not triangles:
        return corners.astype(np.float32)
    return sample_mesh(corners, np.array(triangles), points=MESH_POINTS)


def sample_mesh(corners: Array, triangles: Array, *, points: int) -> Array:
    """Draw points on a mesh, uniformly by area, with a fixed seed.

    Args:
        corners: vertices 3.
        triangles: triangles 3, positions of their corners.
        points: How many to draw.

    Returns:
        points 3, float32.
    """
    a, b, c = (corners[triangles[:, corner]] for corner in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not areas.sum() > 0:
        return corners.astype(np.float32)
    random = np.random.default_rng(0)
    chosen = random.choice(len(areas), size=points, p=areas / areas.sum())
    u, v = random.random((points, 1)), random.random((points, 1))
    beyond = u + v > 1  # fold the parallelogram's other half back onto the triangle
    u, v = np.where(beyond, 1 - u, u), np.where(beyond, 1 - v, v)
    a, b, c = a[chosen], b[chosen], c[chosen]
    return (a + u * (b - a) + v * (c - a)).astype(np.float32)


def _fan(line: str, where: str, vertices: int) -> list[tuple[int, int, int]]:
    """Cut a polygon, given as a count and its corners, into triangles."""
    numbers = [int(number) for number in _numbers(line.split(), where)]
    corners = numbers[1 : 1 + numbers[0]]
    if len(corners) != numbers[0] or not all(0 <= i < vertices for i in corners):
        raise UserError(
            f"{where}: expected a count and as many vertices from 0 to {vertices - 1}, "
            f"got {line[:40]!r}"
        )
    return [(corners[0], second, third) for second, third in pairwise(corners[1:])]


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file, or raise UserError."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read as text: {error}") from error


def _numbers(words: list[str], where: str) -> list[float]:
    """Return finite numbers, or raise UserError."""
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise UserError(f"{where}: expected numbers, got {words[:4]}") from error
    if not all(abs(number) <= LARGEST for number in numbers):  # nor NaN
        raise UserError(f"{where}: expected finite numbers, got {words[:4]}")
    return numbers
