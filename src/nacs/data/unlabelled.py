"""What a trained model is asked about: files without labels, or with ones to ignore."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nacs.data.base import Array, DataFacts, Kind, Split
from nacs.data.folders import SUFFIXES, read_plain, readable_files
from nacs.data.images import decode_image
from nacs.data.readers import read
from nacs.data.splits import check_sample
from nacs.errors import UserError

__all__ = ["SCALES", "check_like", "check_shape", "read_unlabelled", "scales_of"]

SCALES = ("mean", "deviation", "target_mean", "target_deviation")
"""Fields of `Split` and of `DataFacts`."""

GREY = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in grey (ITU-R BT.601), as in Pillow."""


def read_unlabelled(paths: Sequence[Path], facts: DataFacts) -> Split:
    """Read samples in the order of the paths; labels are ignored, targets are 0.

    Args:
        paths: Files of any type `read` knows, or folders of images, points or texts.
        facts: How the training data was read.

    Returns:
        A split whose ids are file names, followed by the row where a file has many.

    Raises:
        UserError: A path is missing, empty, broken, or unlike the training data.
    """
    inputs: list[Array] = []
    ids: list[str] = []
    for path in paths:
        for file in _files(path):
            samples, names = _read(file, facts)
            inputs += samples
            ids += names
    for name, sample in zip(ids, inputs, strict=True):
        check_sample(name, facts.kind, sample)
        check_shape(name, sample.shape, facts)
    scales = scales_of(facts)
    told = scales["target_mean"]
    numbers = () if told is None else told.shape
    return Split(
        np.stack(inputs) if facts.kind == "image" else inputs,
        np.zeros((len(ids), *numbers), np.float32),
        np.array(ids),
        limit=facts.length,
        **scales,
    )


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [path]
    files = readable_files(path)
    if not files:
        raise UserError(
            f"{path}: expected files of type {', '.join(SUFFIXES)}, got none"
        )
    return files


def _read(file: Path, facts: DataFacts) -> tuple[list[Array], list[str]]:
    """The samples of one file and what to call them."""
    kind = SUFFIXES.get(file.suffix.lower())
    if kind is None:
        table = read(file, size=facts.size, labelled=False)
        kind, samples = table.kind, list(table.inputs)
        names = [f"{file}:{each}" for each in table.ids]
        check_like(str(file), kind, table.columns, facts)
    elif kind == "image":
        samples, names = [decode_image(file, str(file), facts.size)], [str(file)]
    else:
        samples, names = [read_plain(file)], [str(file)]
    check_like(str(file), kind, (), facts)
    if kind == "image":
        samples = [_recoloured(each, facts.shape[0]) for each in samples]
    return samples, names


def _recoloured(image: Array, channels: int) -> Array:
    """Grey repeated for a model of colours, colours weighted for a model of grey."""
    if len(image) == 1:
        return np.repeat(image, channels, axis=0)
    if len(image) == 3 and channels == 1:
        grey = np.tensordot(GREY, image, 1)[None]
        return grey.round().astype(np.uint8) if image.dtype == np.uint8 else grey
    return image


def scales_of(facts: DataFacts) -> dict[str, Any]:
    """The scales of a run's data, as `Split` has them."""
    found = {name: getattr(facts, name) for name in SCALES}
    return {k: None if v is None else np.asarray(v) for k, v in found.items()}


def check_like(
    where: str, kind: Kind, columns: tuple[str, ...], facts: DataFacts
) -> None:
    """Raise UserError for another kind than that of the training, or other columns."""
    if kind != facts.kind:
        raise UserError(
            f"{where}: expected data of kind {facts.kind}, as in training, got {kind}"
        )
    if facts.columns and columns and columns != facts.columns:
        raise UserError(
            f"{where}: expected the columns {', '.join(facts.columns)} as in training, "
            f"got {', '.join(columns)}"
        )


def check_shape(where: str, shape: tuple[int, ...], facts: DataFacts) -> None:
    """Raise UserError for samples that are not shaped like the training data."""
    images = facts.kind == "image"
    found, wanted = (each if images else each[1:] for each in (shape, facts.shape))
    if found == wanted:
        return
    if not images:
        raise UserError(
            f"{where}: expected {wanted[0]} columns, as in training, got {found[0]}"
        )
    raise UserError(
        f"{where}: expected an image of {wanted[2]}x{wanted[1]} pixels and {wanted[0]} "
        f"channels, as in training, got {found[2]}x{found[1]} and {found[0]}; scale "
        "it, or train with --size to have every image scaled"
    )
