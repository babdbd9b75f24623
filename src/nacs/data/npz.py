"""Read .npz files: check what is inside before believing it, then say what it is.

| keys                                             | what it is                       |
|--------------------------------------------------|----------------------------------|
| x, y and optionally x_val, y_val, x_test, y_test | arrays (`x_train` is `x`)        |
| blob, offsets, labels, optionally is_test, is_val| encoded images, one after another|
| points or points_mm, labels                      | point clouds, millimetres scaled |
| data, offsets, labels                            | series, column 0 the time        |
| blob, offsets, time_ms, control                  | a drive: frames, and its steering|
| minute, param, value, offsets, outcomes …        | stays in intensive care          |
| train, test, rul_test                            | engines until they fail (C-MAPSS)|
| NAME and NAME__cols, for every bearing           | bearings until they fail         |

Optional everywhere: `classes` (names), `groups`, `ids`, `kind` (what x is).
Float y is regression, integer y or labels are classes.
"""

import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import IO, cast, get_args

import numpy as np
from numpy.lib import format as npy

from nacs.data.base import Array, Kind
from nacs.data.frames import DRIVE, read_drive
from nacs.data.images import decode_images, stack_images
from nacs.data.physionet import KEYS, read_stays
from nacs.data.rul import ENGINES, is_bearings, read_bearings, read_engines
from nacs.data.splits import PARTS, Samples
from nacs.data.unpacking import unzipped
from nacs.errors import UserError

__all__ = ["load_arrays", "read_npz"]

LARGEST_TOKEN = 2**24
"""A vocabulary larger than that is a mistake."""

LARGEST_RATIO = 1032
"""Deflate cannot shrink bytes by more than this; a header that says so is forged."""

COLOURS = (1, 3, 4)


def load_arrays(path: Path) -> dict[str, Array]:
    """Load an .npz file without believing its headers.

    Each header's shape must fit the bytes the archive holds for that array, and those
    must be possible for the bytes on disk, before any memory is taken. Nothing is
    unpickled.

    Raises:
        UserError: not an .npz file, broken, forged, or with Python objects inside.
    """
    try:
        with unzipped(path) as archive:
            return {
                info.filename.removesuffix(".npy"): _load(archive, info, path)
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except UserError:
        raise
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError),
        *(RuntimeError, NotImplementedError, SyntaxError, TypeError, OverflowError),
        *(tokenize.TokenError, KeyError, struct.error, MemoryError, RecursionError),
    ) as error:
        what = str(error).partition("\n")[0]
        raise UserError(f"{path}: expected an .npz file, got {what}") from error


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    """Load one array after its header was checked against the archive."""
    if info.file_size > LARGEST_RATIO * (info.compress_size + 64):
        raise UserError(
            f"{path}: {info.filename} claims {info.file_size} bytes from "
            f"{info.compress_size}; the archive is forged"
        )
    with archive.open(info) as stream:
        shape, dtype, header = _read_header(stream)
    if dtype.hasobject:
        raise UserError(
            f"{path}: {info.filename} holds Python objects, which are not loaded; save "
            "plain arrays"
        )
    expected = math.prod(shape) * dtype.itemsize + header
    hollow = dtype.itemsize == 0 and math.prod(shape) > 1  # endless, of no bytes at all
    absurd = max(shape, default=0) > max(info.file_size, 1)  # endless, beside a 0
    if expected != info.file_size or min(shape, default=0) < 0 or hollow or absurd:
        raise UserError(
            f"{path}: {info.filename} announces shape {shape} of {dtype}, {expected} "
            f"bytes, but holds {info.file_size}"
        )
    with archive.open(info) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return npy.read_array(stream, allow_pickle=False)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, type and length of the header of an array in .npy format."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, _, dtype = read(stream)
    return shape, dtype, stream.tell()


def read_npz(path: Path, *, size: int | None = None, labelled: bool = True) -> Samples:
    """Read any of the layouts in this file's table.

    Args:
        path: The file.
        size: Scale encoded images to squares of this many pixels.
        labelled: False ignores labels, and needs none: targets are 0.

    Raises:
        UserError: unknown keys, or contents that contradict each other.
    """
    arrays = load_arrays(path)
    try:
        return _read(arrays, path, size, labelled)
    except UserError:
        raise
    except (*(ValueError, TypeError, IndexError, KeyError), OverflowError) as error:
        raise UserError(
            f"{path}: expected arrays that fit each other, got {type(error).__name__}: "
            f"{error}"
        ) from error


def _read(
    arrays: dict[str, Array], path: Path, size: int | None, labelled: bool
) -> Samples:
    """Say what the arrays are."""
    if set(ENGINES) <= set(arrays):
        return read_engines(arrays, path)
    arrays = {key.replace("_train", ""): value for key, value in arrays.items()}
    if set(KEYS) <= set(arrays):
        return read_stays(arrays, path)
    if is_bearings(arrays):
        return read_bearings(arrays, path)
    if set(DRIVE) <= set(arrays):
        bounds = _encoded(arrays, path)
        return read_drive(arrays, bounds, path, size=size, labelled=labelled)
    arrays = arrays if labelled else _unlabelled(arrays)
    if "x" in arrays and "y" in arrays:
        return _read_pairs(arrays, path)
    if not {"labels", "y"} & set(arrays):
        raise UserError(
            f"{path}: labels missing: expected an array y or labels, got the keys "
            f"{', '.join(sorted(arrays)) or 'none'}"
        )
    if {"blob", "offsets"} <= set(arrays):
        return _read_encoded(arrays, path, size)
    if {"points", "points_mm"} & set(arrays):
        scale = 1000 if "points_mm" in arrays else 1
        points = arrays["points_mm" if "points_mm" in arrays else "points"]
        _check_kind("points", points, path)
        return _samples(arrays, path, "points", points.astype(np.float32) / scale)
    if {"data", "offsets"} <= set(arrays):
        data = arrays["data"]
        _check_axes(data, 2, path, "data (rows, time and channels)")
        bounds = _offsets(arrays["offsets"], len(data), path)
        # float64, or large time stamps would lose their differences
        series = [data[a:b].astype(np.float64) for a, b in bounds]
        return _samples(arrays, path, "series", series)
    raise UserError(
        f"{path}: expected the keys x, y, or labels with blob and offsets, points, or "
        f"data and offsets; got {', '.join(sorted(arrays))}"
    )


def _unlabelled(arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays with a target of 0 for every sample instead of labels."""
    plain = {k: v for k, v in arrays.items() if k[0] != "y" and k != "labels"}
    counts = {f"y{k[1:]}": len(v) for k, v in plain.items() if k[0] == "x" and v.ndim}
    for key in ("points", "points_mm"):
        counts |= {"labels": len(plain[key])} if key in plain else {}
    if "offsets" in plain:
        counts["labels"] = max(0, plain["offsets"].size - 1)
    return plain | {k: np.zeros(n, np.float32) for k, n in counts.items()}


def _read_pairs(arrays: dict[str, Array], path: Path) -> Samples:
    """Read x, y and, if they are there, x_val, y_val, x_test, y_test."""
    found = [part for part in PARTS if part == "train" or f"x_{part}" in arrays]
    keys = ["" if part == "train" else f"_{part}" for part in found]
    xs = [arrays[f"x{key}"] for key in keys]
    missing = [f"y{key}" for key in keys if f"y{key}" not in arrays]
    if missing:
        raise UserError(f"{path}: labels missing: expected an array {missing[0]}")
    ys = [arrays[f"y{key}"] for key in keys]
    for key, x, y in zip(keys, xs, ys, strict=True):
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
            raise UserError(
                f"{path}: expected as many rows in y{key} as in x{key}, got shapes "
                f"{y.shape} and {x.shape}"
            )
        if x.shape[1:] != xs[0].shape[1:] or y.shape[1:] != ys[0].shape[1:]:
            raise UserError(
                f"{path}: expected x{key} and y{key} shaped as x and y, got "
                f"{x.shape} and {y.shape} beside {xs[0].shape} and {ys[0].shape}"
            )
    parts = [np.full(len(x), PARTS.index(p)) for p, x in zip(found, xs, strict=True)]
    x = np.concatenate(xs)
    kind = _kind(arrays, x, path)
    _check_kind(kind, x, path)
    arrays = {**arrays, "labels": np.concatenate(ys)}
    fixed = np.concatenate(parts) if len(found) > 1 else None
    if kind == "image":
        x = _channels_first(x, path)
    elif kind in ("points", "series"):
        _check_axes(x, 3, path, f"{kind} of 3 axes")
        x = x.astype(np.float64 if kind == "series" else np.float32)
    return _samples(arrays, path, kind, x, fixed)


def _kind(arrays: dict[str, Array], x: Array, path: Path) -> Kind:
    """Return what x is: what `kind` says, or what its axes and type suggest."""
    if x.dtype.kind not in "fiu":
        raise UserError(f"{path}: expected numbers in x, got {x.dtype}")
    if "kind" in arrays:
        kind = str(arrays["kind"])
        if kind not in get_args(Kind):
            raise UserError(
                f"{path}: expected kind to be one of "
                f"{', '.join(get_args(Kind))}, got {kind!r}"
            )
        return cast("Kind", kind)
    if x.ndim in (3, 4):
        return "image"
    if x.ndim == 2 and x.dtype.kind in "iu":
        return "bytes" if x.dtype == np.uint8 else "tokens"
    raise UserError(
        f"{path}: expected x to be images (samples, height, width[, channels]) or "
        f"integer tokens (samples, length), got shape {x.shape} of {x.dtype}; for "
        "series or points save a string array kind too"
    )


def _check_kind(kind: Kind, x: Array, path: Path) -> None:
    """Raise UserError for numbers that are none of what they are said to be."""
    if kind == "frames":
        raise UserError(
            f"{path}: expected kind to be one that x can be, got frames; drives have "
            f"the keys {', '.join(sorted(DRIVE))}"
        )
    if kind == "points" and (x.ndim != 3 or x.shape[2] < 3):
        raise UserError(
            f"{path}: expected points (clouds, points, 3+features), got shape {x.shape}"
        )
    if kind not in ("bytes", "tokens"):
        return
    low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
    top = 255 if kind == "bytes" else LARGEST_TOKEN
    if x.ndim != 2 or x.dtype.kind not in "iu" or low < 0 or high > top:
        raise UserError(
            f"{path}: expected {kind} of shape (samples, length), whole numbers from 0 "
            f"to {top}, got shape {x.shape} of {x.dtype} from {low} to {high}"
        )


def _channels_first(x: Array, path: Path) -> Array:
    """Return images channels height width; integers other than uint8 must fit it."""
    if x.dtype.kind in "iu" and x.dtype != np.uint8:
        if x.size and (x.min() < 0 or x.max() > 255):
            raise UserError(
                f"{path}: expected integer pixels from 0 to 255, got {x.min()} to "
                f"{x.max()}"
            )
        x = x.astype(np.uint8)
    elif x.dtype.kind == "f":
        x = x.astype(np.float32)
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[-1] in COLOURS:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    if x.ndim == 4 and x.shape[1] in COLOURS:
        return x
    raise UserError(
        f"{path}: expected images with 1, 3 or 4 channels first or last, got {x.shape}"
    )


def _read_encoded(arrays: dict[str, Array], path: Path, size: int | None) -> Samples:
    """Read image files laid end to end in one array of bytes."""
    named = (
        (arrays["blob"][a:b].tobytes(), f"{path}: image {row}")
        for row, (a, b) in enumerate(_encoded(arrays, path))
    )
    images = decode_images(named, str(path), size)
    ids = [f"image {row}" for row in range(len(images))]
    parts = None
    for part in ("val", "test"):
        flags = arrays.get(f"is_{part}")
        if flags is None:
            continue
        if flags.shape != (len(images),):
            raise UserError(
                f"{path}: expected is_{part} of shape ({len(images)},), got "
                f"{flags.shape}"
            )
        parts = np.zeros(len(images), dtype=np.int8) if parts is None else parts
        parts[flags.astype(bool)] = PARTS.index(part)
    stacked = stack_images(images, ids, str(path))
    return _samples(arrays, path, "image", stacked, parts)


def _encoded(arrays: dict[str, Array], path: Path) -> list[tuple[int, int]]:
    """Return where each encoded image begins and ends."""
    blob = arrays["blob"]
    if blob.dtype != np.uint8 or blob.ndim != 1:
        raise UserError(f"{path}: expected blob to be bytes, got {blob.dtype}")
    return _offsets(arrays["offsets"], len(blob), path)


def _offsets(offsets: Array, end: int, path: Path) -> list[tuple[int, int]]:
    """Return where each sample begins and ends."""
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or len(offsets) < 2:
        raise UserError(
            f"{path}: expected offsets to be 2 integers or more, got {offsets.shape} "
            f"of {offsets.dtype}"
        )
    edges = [int(offset) for offset in offsets]
    bounds = list(pairwise(edges))
    if edges[0] != 0 or edges[-1] != end or any(b <= a for a, b in bounds):
        raise UserError(
            f"{path}: expected offsets that increase from 0 to {end}, got {edges[0]} "
            f"to {edges[-1]}"
        )
    return bounds


def _check_axes(array: Array, axes: int, path: Path, expected: str) -> None:
    """Raise UserError unless an array has numbers and that many axes."""
    if array.ndim != axes or array.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: expected {expected}, got shape {array.shape} of {array.dtype}"
        )


def _samples(
    arrays: dict[str, Array],
    path: Path,
    kind: Kind,
    inputs: Array | list[Array],
    parts: Array | None = None,
) -> Samples:
    """Add targets, classes, ids and groups to inputs."""
    targets, classes = _targets(arrays, path)
    for key in ("ids", "groups"):
        if key in arrays and arrays[key].shape != (len(targets),):
            raise UserError(
                f"{path}: expected {key} of shape ({len(targets)},), got "
                f"{arrays[key].shape}"
            )
    return Samples(
        name=str(path),
        kind=kind,
        inputs=inputs,
        targets=targets,
        ids=arrays.get("ids", np.arange(len(targets))).astype(str),
        classes=classes,
        parts=parts,
        groups=arrays.get("groups"),
    )


def _targets(arrays: dict[str, Array], path: Path) -> tuple[Array, tuple[str, ...]]:
    """Return float32 targets without classes, or int64 ones with their names."""
    labels = arrays["labels"] if "labels" in arrays else arrays["y"]
    if labels.dtype.kind == "f" and labels.ndim in (1, 2):
        return labels.astype(np.float32), ()
    if labels.dtype.kind not in "iub" or labels.ndim != 1 or not len(labels):
        raise UserError(
            f"{path}: expected labels of integers (samples,) or floats, got shape "
            f"{labels.shape} of {labels.dtype}"
        )
    labels = labels.astype(np.int64)
    for key in ("classes", "names"):
        if key in arrays and arrays[key].ndim == 1 and len(arrays[key]) > 1:
            return labels, tuple(str(name) for name in arrays[key])
    found = np.unique(labels)
    if found[0] != 0 or found[-1] != len(found) - 1 or len(found) < 2:
        raise UserError(
            f"{path}: label out of range: expected classes 0, 1, ... without gaps, got "
            f"{len(found)} from {found[0]} to {found[-1]}; renumber them, or save "
            "their names as an array classes"
        )
    return labels, tuple(str(label) for label in found)
