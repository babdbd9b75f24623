"""Sets of points: grey images and solids as such, drawn anew, turned, thinned.

grey images  →  points where there is light  →  subsets drawn anew, turned, for training
             →  turned, or with points left out, for tests of robustness

The vertical axis is the third coordinate. Turns leave features alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np

from nacs.data.base import Array, Dataset, Split
from nacs.data.splits import Samples
from nacs.errors import UserError

__all__ = [
    "Axis",
    "as_points",
    "centred",
    "drawn",
    "dropped",
    "make_solids",
    "resampled",
    "rotated",
]

Axis: TypeAlias = Literal["vertical", "any"]

SOLIDS = ("ball", "box", "plate", "pole")


def as_points(samples: Samples, *, points: int = 256, seed: int = 0) -> Samples:
    """Grey images as points drawn where there is light, with the grey value beside.

    A pixel is drawn as often as it is bright, and a point falls anywhere in its pixel.
    The columns of a point: x to the right and y upwards, from -1 to 1 along the longer
    side; z, which is 0; the grey value of its pixel, 0 to 1. An image without light is
    drawn from evenly.

    Args:
        samples: Grey images of 8 bits.
        points: How many are drawn from an image.
        seed: Of the draw.

    Raises:
        UserError: If the samples are no grey images, or no points are asked for.

    Example:
        >>> from nacs.data.digits import read_digits
        >>> as_points(read_digits(), points=32).inputs.shape
        (1797, 32, 4)
    """
    images = np.asarray(samples.inputs)
    if samples.kind != "image" or images.shape[1] != 1 or images.dtype != np.uint8:
        raise UserError(
            f"{samples.name}: points are made of grey images of 8 bits, got "
            f"{samples.kind} of shape {images.shape[1:]} and {images.dtype}"
        )
    _check_count(points)
    random = np.random.default_rng(seed)
    drawn = np.stack([_lit(image[0], points, random) for image in images])
    return replace(samples, name=f"points:{samples.name}", kind="points", inputs=drawn)


def _lit(image: Array, points: int, random: np.random.Generator) -> Array:
    """(points, 4): places that are drawn by brightness, and the brightness there."""
    height, width = image.shape
    light = image.ravel() / 255
    total = light.cumsum()
    chances = total if total[-1] else np.arange(1.0, light.size + 1)
    pixels = np.searchsorted(chances, random.random(points) * chances[-1], "right")
    row, column = np.divmod(np.minimum(pixels, light.size - 1), width)
    side = max(height, width) / 2
    x = (column + random.random(points) - width / 2) / side
    y = (height / 2 - row - random.random(points)) / side
    grey = light[row * width + column]
    return np.stack([x, y, np.zeros(points), grey], -1).astype(np.float32)


def make_solids(samples: int = 400, *, points: int = 256, seed: int = 0) -> Samples:
    """Points on balls, boxes, plates and poles of all sizes, turned at random.

    The turns are about the vertical axis.

    Args:
        samples: How many solids, as many of each class as of the next.
        points: On the surface of each.
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    targets = np.arange(samples) % len(SOLIDS)
    places = np.stack([_surface(SOLIDS[t], points, random) for t in targets])
    places *= random.uniform(0.7, 1.3, (samples, 1, 3))
    places += 0.02 * random.normal(size=places.shape)
    turns = _matrices(random.uniform(0, 360, samples), _axes("vertical", samples, 0))
    return Samples(
        name="solids",
        kind="points",
        inputs=(places @ turns.swapaxes(1, 2)).astype(np.float32),
        targets=targets.astype(np.int64),
        ids=np.arange(samples).astype(str),
        classes=SOLIDS,
    )


def _surface(solid: str, points: int, random: np.random.Generator) -> Array:
    """(points, 3): drawn evenly on a solid about as large as the unit ball."""
    if solid == "ball":
        places = random.normal(size=(points, 3))
        return places / np.linalg.norm(places, axis=1, keepdims=True)
    places = random.uniform(-1, 1, (points, 3))
    if solid == "box":
        face = np.arange(points), random.integers(3, size=points)
        places[face] = np.sign(places[face])
    elif solid == "plate":
        places[:, 2] = 0
    else:
        turn = np.pi * places[:, 0]
        places[:, :2] = 0.2 * np.stack([np.cos(turn), np.sin(turn)], -1)
    return places


def resampled(
    split: Split,
    *,
    points: int,
    copies: int = 1,
    turned: bool = False,
    seed: int = 0,
) -> Split:
    """Every object several times, each time another few of its points.

    Points are drawn without repetition where there are enough of them.

    Args:
        split: Of points.
        points: In each copy.
        copies: Of each object, one block of all objects after another.
        turned: Whether each copy is turned about the vertical axis, by any angle.
        seed: Of the draw.

    Raises:
        UserError: If no points or no copies are asked for.
    """
    _check_count(points)
    _check_count(copies, "copies")
    random = np.random.default_rng(seed)
    wide = split.take(np.tile(np.arange(len(split)), copies))
    drawn = np.stack(
        [
            each[random.choice(len(each), points, replace=len(each) < points)]
            for each in wide.inputs
        ]
    )
    if turned:
        angles = random.uniform(0, 360, len(drawn))
        drawn = _turned(drawn, _matrices(angles, _axes("vertical", len(drawn), seed)))
    return replace(wide, inputs=np.asarray(drawn))


def drawn(
    dataset: Dataset, *, points: int, copies: int = 1, turned: bool = False, seed: int
) -> Dataset:
    """The data with so many points an object; of training objects, several copies.

    Args:
        dataset: Of points.
        points: Drawn from each object.
        copies: Of each training object, each with points of its own.
        turned: Whether training copies are turned about the vertical axis.
        seed: Of the draws.
    """
    train = resampled(
        dataset.train, points=points, copies=copies, turned=turned, seed=seed
    )
    val = resampled(dataset.val, points=points, seed=seed)
    test = resampled(dataset.test, points=points, seed=seed)
    return replace(dataset, train=train, val=val, test=test)


def rotated(
    split: Split, degrees: float, *, axis: Axis = "vertical", seed: int = 0
) -> Split:
    """All objects turned by one angle, anticlockwise as seen from the axis' tip.

    Args:
        split: Of points.
        degrees: The angle.
        axis: Vertical, or for every object one of its own that points anywhere.
        seed: Of the axes; the same for all angles.
    """
    count = len(split)
    angles = np.full(count, float(degrees))
    turned = _turned(split.inputs, _matrices(angles, _axes(axis, count, seed)))
    return replace(split, inputs=turned)


def dropped(split: Split, share: float, *, seed: int = 0) -> Split:
    """A share of the points of every object left out; at least one stays.

    For one seed, what stays when more goes also stays when less goes.

    Args:
        split: Of points.
        share: Of the points that go, in [0, 1).
        seed: Of the draw.

    Raises:
        UserError: If the share is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise UserError(f"expected a share in [0, 1), got {share}; 0.3 is a third")
    random = np.random.default_rng(seed)
    kept: list[Array] = []
    for each in split.inputs:
        order = random.permutation(len(each))
        kept.append(each[order[: max(1, round((1 - share) * len(each)))]])
    return replace(split, inputs=kept if split.ragged else np.stack(kept))


def centred(split: Split) -> Split:
    """Every object moved so that its mean is 0, and scaled so that it reaches 1.

    An object of a single place is only moved.
    """

    def one(each: Array) -> Array:
        moved = each.copy()
        moved[:, :3] -= moved[:, :3].mean(0)
        reach = np.linalg.norm(moved[:, :3], axis=1).max()
        moved[:, :3] /= reach if reach > 0 else 1
        return moved

    return replace(split, inputs=_like(split.inputs, [one(e) for e in split.inputs]))


def _like(inputs: Any, changed: list[Array]) -> Array | list[Array]:
    """One array where there was one, a list where there was a list."""
    return changed if isinstance(inputs, list) else np.stack(changed)


def _turned(inputs: Sequence[Array] | Array, matrices: Array) -> Array | list[Array]:
    """Every object's coordinates times its matrix; features as they were."""

    def one(each: Array, matrix: Array) -> Array:
        moved = each.copy()
        moved[:, :3] = each[:, :3] @ matrix.T
        return moved

    pairs = zip(inputs, matrices, strict=True)
    return _like(inputs, [one(each, matrix) for each, matrix in pairs])


def _axes(axis: Axis, count: int, seed: int) -> Array:
    """(count, 3): unit vectors."""
    if axis == "vertical":
        return np.tile([0.0, 0.0, 1.0], (count, 1))
    axes = np.random.default_rng(seed).normal(size=(count, 3))
    return axes / np.linalg.norm(axes, axis=1, keepdims=True)


def _matrices(degrees: Array, axes: Array) -> Array:
    """(count, 3, 3): rotations by these angles about these axes."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(degrees[:, None] * axes, degrees=True).as_matrix()


def _check_count(count: int, what: str = "points") -> None:
    if count < 1:
        raise UserError(f"expected at least 1 of {what}, got {count}; 256 is usual")
