"""Frames: pictures with time stamps, cut into windows, one answer asked of each frame.

    pictures (frames, channels, height, width), seconds  →  rows (frames, 1 + pixels)
    rows  →  windows of 32, views of the rows: nothing is copied

A drive in a file is split by stretches of time, which the seed draws. Frames 70 ms
apart are nearly one picture, so windows drawn one by one would test what was trained.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.data.images import decode_images
from nacs.data.splits import Samples
from nacs.errors import UserError

__all__ = ["DRIVE", "WINDOW", "read_drive", "rows_of", "stretches", "windows"]

DRIVE = ("blob", "offsets", "time_ms")
"""Keys of a drive in an .npz file; `control` is there where it is labelled."""

WINDOW = 32
"""Frames a sample."""

STRETCH = 7
"""Windows of a drive that stay in one split; the last of them is not used."""


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


def stretches(count: int) -> tuple[Array, Array]:
    """Which windows are used, and the stretch that each belongs to.

    The last window of a stretch is left out, so that no test frame follows a training
    frame within a window's time.

    Returns:
        kept (used,), the windows' positions; stretches (used,).

    Example:
        >>> kept, stretch = stretches(9)
        >>> kept.tolist(), stretch.tolist()
        ([0, 1, 2, 3, 4, 5, 7, 8], [0, 0, 0, 0, 0, 0, 1, 1])
    """
    places = np.arange(count)
    kept = np.flatnonzero(places % STRETCH < STRETCH - 1)
    return kept, kept // STRETCH


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
    least = WINDOW * (3 * STRETCH if labelled else 1)
    if count < least:
        raise UserError(
            f"{path}: expected at least {least} frames, which are windows of {WINDOW}, "
            f"got {count}"
        )
    named = (
        (arrays["blob"][a:b].tobytes(), f"{path}: frame {n}")
        for n, (a, b) in enumerate(bounds)
    )
    pictures = [_scaled(each, size) for each in decode_images(named, str(path))]
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
    kept, groups = np.arange(len(inputs)), None
    if labelled:
        kept, groups = stretches(len(inputs))
    return Samples(
        name=str(path),
        kind="frames",
        inputs=[inputs[n] for n in kept],
        targets=targets[kept],
        ids=np.array([f"frame {n * WINDOW}" for n in kept]),
        groups=groups,
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
