"""What a trained model is asked about: files without labels, or with ones to ignore."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nacs.data.base import Array, DataFacts, Split
from nacs.data.folders import SUFFIXES, read_plain, readable_files
from nacs.data.images import decode_image
from nacs.data.readers import read
from nacs.data.splits import check_sample
from nacs.errors import UserError

__all__ = ["read_unlabelled"]

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
        _check_shape(name, sample, facts)
    mean, deviation, target_mean, target_deviation = (
        None if value is None else np.asarray(value)
        for value in (
            facts.mean,
            facts.deviation,
            facts.target_mean,
            facts.target_deviation,
        )
    )
    numbers = () if target_mean is None else target_mean.shape
    return Split(
        np.stack(inputs) if facts.kind == "image" else inputs,
        np.zeros((len(ids), *numbers), np.float32),
        np.array(ids),
        mean=mean,
        deviation=deviation,
        target_mean=target_mean,
        target_deviation=target_deviation,
        limit=facts.length,
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
        if facts.columns and table.columns and table.columns != facts.columns:
            raise UserError(
                f"{file}: expected the columns {', '.join(facts.columns)} as in "
                f"training, got {', '.join(table.columns)}"
            )
    elif kind == "image":
        samples, names = [decode_image(file, str(file), facts.size)], [str(file)]
    else:
        samples, names = [read_plain(file)], [str(file)]
    if kind != facts.kind:
        raise UserError(
            f"{file}: expected data of kind {facts.kind}, as in training, got {kind}"
        )
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


def _check_shape(where: str, sample: Array, facts: DataFacts) -> None:
    """Raise UserError for a sample that is not shaped like the training data."""
    images = facts.kind == "image"
    found, wanted = (
        shape if images else shape[1:] for shape in (sample.shape, facts.shape)
    )
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
