"""Frames: pictures with time stamps, cut into windows, one answer asked of each frame.

    pictures (frames, channels, height, width), seconds  →  rows (frames, 1 + pixels)
    rows  →  windows of 32, views of the rows: nothing is copied

A drive in a file is split by blocks of time. Frames 70 ms apart are nearly one picture,
so a random split would test on what was trained on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.data.images import decode_image
from nacs.data.splits import PARTS, Samples
from nacs.errors import UserError

__all__ = ["DRIVE", "WINDOW", "blocks", "read_drive", "rows_of", "windows"]

DRIVE = ("blob", "offsets", "time_ms")
"""Keys of a drive in an .npz file; `control` is there where it is labelled."""

WINDOW = 32
"""Frames a sample."""

BLOCKS = ("train", "train", "val", "train", "test", "train", "train", "test", "train")
"""What becomes of the stretches of a drive, all equally long."""


def rows_of(frames: Array, seconds: Array) -> Array:
    """(frames, 1 + channels · height · width) float32: the time, pixels in [0, 1]."""
    rows = np.empty((len(frames), 1 + frames[0].size), np.float32)
    rows[:, 0] = seconds
    np.divide(frames.reshape(len(frames), -1), 255, out=rows[:, 1:])
    return rows


def windows(rows: Array, length: int = WINDOW) -> list[Array]:
    """Whole windows one after the other, as views; what is left at the end is not used.

    Example:
        >>> [each.tolist() for each in windows(np.arange(5), 2)]
        [[0, 1], [2, 3]]
    """
    starts = range(0, len(rows) - length + 1, length)
    return [rows[start : start + length] for start in starts]


def blocks(count: int) -> tuple[Array, Array]:
    """Which windows are used, and the split of each: `BLOCKS`, and a gap between two.

    The last window before another split is left out, so that no test frame follows a
    training frame within a window's time.

    Returns:
        kept (used,), the windows' positions; parts (used,) int8.
    """
    order = np.array([PARTS.index(part) for part in BLOCKS], dtype=np.int8)
    parts = order[np.arange(count) * len(order) // count]
    kept = np.flatnonzero(np.diff(parts, append=parts[-1:]) == 0)
    return kept, parts[kept]


def read_drive(
    arrays: dict[str, Array],
    bounds: Sequence[tuple[int, int]],
    path: Path,
    *,
    size: int | None,
    labelled: bool,
) -> Samples:
    """A drive: encoded pictures, when they were taken, and how the wheel stood.

    The target is the first column of `control`, the steering, at every frame.

    Args:
        arrays: With the keys `DRIVE` and, if labelled, `control`.
        bounds: Where each picture's bytes begin and end in `blob`.
        path: For error messages.
        size: Scale pictures to this height, their width in proportion; None halves.
        labelled: False needs no `control`: targets are 0, and nothing is split.

    Raises:
        UserError: Arrays that contradict each other, or too few frames.
    """
    time, count = arrays["time_ms"], len(bounds)
    control = arrays.get("control", np.zeros((count, 1)))
    if labelled and "control" not in arrays:
        raise UserError(f"{path}: labels missing: expected an array control")
    if time.shape != (count,) or control.ndim != 2 or len(control) != count:
        raise UserError(
            f"{path}: expected time_ms of shape ({count},) and control of shape "
            f"({count}, controls), got {time.shape} and {control.shape}"
        )
    least = WINDOW * (2 * len(BLOCKS) if labelled else 1)
    if count < least:
        raise UserError(
            f"{path}: expected at least {least} frames, which are windows of {WINDOW}, "
            f"got {count}"
        )
    pictures = [
        _scaled(decode_image(arrays["blob"][a:b].tobytes(), f"{path}: frame {n}"), size)
        for n, (a, b) in enumerate(bounds)
    ]
    shape = pictures[0].shape
    odd = next((n for n, each in enumerate(pictures) if each.shape != shape), None)
    if odd is not None:
        raise UserError(
            f"{path}: expected frames of one size, got {shape} for frame 0 and "
            f"{pictures[odd].shape} for frame {odd}"
        )
    seconds = (time - time[0]) / 1000
    inputs = windows(rows_of(np.stack(pictures), seconds))
    targets = np.stack(windows(control[:, :1].astype(np.float32)))
    kept, parts = blocks(len(inputs)) if labelled else (np.arange(len(inputs)), None)
    return Samples(
        name=str(path),
        kind="frames",
        inputs=[inputs[n] for n in kept],
        targets=targets[kept],
        ids=np.array([f"frame {n * WINDOW}" for n in kept]),
        parts=parts,
        frame=shape,
    )


def _scaled(picture: Array, size: int | None) -> Array:
    """A picture (channels, height, width) of this height, or of half its own."""
    from PIL import Image

    height, width = picture.shape[1:]
    low = size or max(1, height // 2)
    wide = max(1, round(width * low / height))
    planes = [Image.fromarray(plane).resize((wide, low)) for plane in picture]
    return np.stack([np.asarray(plane) for plane in planes])
