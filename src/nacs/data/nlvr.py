"""NLVR: is a sentence true of a picture of three boxes with simple items in them?

    {"sentence": ..., "label": "true", "structured_rep": [box, box, box]}  a line
    →  statement  →  six orders of the boxes  →  pictures, their sentences the contexts

What a sentence says does not depend on the order of the boxes, so each statement of the
published files stands for six samples. The pictures are drawn from the rows, at most a
thousandth off the published ones.

References:
    Suhr et al., A Corpus of Natural Language for Visual Reasoning, ACL 2017.
    https://aclanthology.org/P17-2034
"""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np

from nacs.data.base import Array, Kind
from nacs.data.splits import Samples
from nacs.data.unpacking import BROKEN, check_name, text_lines
from nacs.errors import UserError

__all__ = [
    "COLOURS",
    "SHAPES",
    "Item",
    "Scene",
    "Statement",
    "Vocabulary",
    "as_samples",
    "picture",
    "read_nlvr",
    "read_statements",
    "render",
    "reordered",
    "words",
]

BOX = 100
"""Side of a box in pixels of the published pictures."""

GAP = 50
"""Pixels between two boxes."""

SIDE = 32
"""Side of a box in pixels of our pictures."""

COLOURS = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}
SHAPES = ("square", "circle", "triangle")
CLASSES = ("false", "true")
GREY, LIGHT = (128,) * 3, (211,) * 3
PUBLISHED = {"yellow": "yellow", "black": "black", "#0099ff": "blue"}
"""Our names of the published colours, in lower case."""


class Item(NamedTuple):
    """Something in a box; x to the right and y downwards, pixels of its corner."""

    x: int
    y: int
    size: int
    colour: str
    shape: str


Scene: TypeAlias = tuple[tuple[Item, ...], ...]
"""The items of each box, from left to right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A sentence, a scene, and whether the one is true of the other."""

    sentence: str
    scene: Scene
    true: bool
    name: str
    """What identifies it."""


def render(scene: Scene, *, gap: int = GAP) -> Array:
    """Draw a scene as the published pictures are drawn.

    Args:
        scene: Of any number of boxes.
        gap: Pixels of grey between two boxes.

    Returns:
        (100, width, 3) uint8.
    """
    from PIL import Image, ImageDraw

    width = len(scene) * (BOX + gap) - gap
    image = Image.new("RGB", (width, BOX), GREY)
    pen = ImageDraw.Draw(image)
    for place, box in enumerate(scene):
        left = place * (BOX + gap)
        pen.rectangle((left, 0, left + BOX - 1, BOX - 1), fill=LIGHT)
        for item in box:
            x, y, far = left + item.x, item.y, item.size - 1
            colour, around = COLOURS[item.colour], (x, y, x + far, y + far)
            if item.shape == "square":
                pen.rectangle(around, fill=colour)
            elif item.shape == "circle":
                pen.ellipse(around, fill=colour)
            else:
                corners = [(x, y + far), (x + far, y + far), (x + far / 2, y)]
                pen.polygon(corners, fill=colour)
    return np.asarray(image)


def picture(scene: Scene, side: int = SIDE) -> Array:
    """A scene as a small picture, without the grey between boxes, always the same.

    Returns:
        (3, side, boxes · side) uint8.
    """
    from PIL import Image

    image = Image.fromarray(render(scene, gap=0))
    small = image.resize((len(scene) * side, side), Image.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)


def reordered(statement: Statement) -> list[Statement]:
    """The statement with its boxes in every order, its own first."""
    return [
        replace(statement, scene=scene, name=f"{statement.name}-{order}")
        for order, scene in enumerate(permutations(statement.scene))
    ]


def read_statements(path: Path, *, labelled: bool = True) -> list[Statement]:
    """Read the rows of an NLVR file, which may be .xz or .gz.

    Args:
        path: Lines of JSON with sentence, label, identifier, structured_rep.
        labelled: False ignores labels, and needs none: all are false.

    Raises:
        UserError: A line is no such row; names it.
    """
    try:
        with text_lines(path) as lines:
            rows = [
                _statement(f"{path}: row {number}", json.loads(line), labelled)
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
    except UserError:
        raise
    except (*BROKEN, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected lines of NLVR's JSON, got {error}"
        ) from error
    if not rows:
        raise UserError(f"{path}: expected lines of NLVR's JSON, got an empty file")
    return rows


def _statement(where: str, row: Any, labelled: bool) -> Statement:
    try:
        label = str(row["label"]) if labelled else CLASSES[0]
        scene = tuple(tuple(map(_item, box)) for box in row["structured_rep"])
        sentence, name = row["sentence"], check_name(where, str(row["identifier"]))
        told = bool(words(sentence))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{where}: expected sentence, label, identifier and structured_rep, whose "
            f"boxes hold items of NLVR, got {type(error).__name__} {error}"
        ) from error
    if label not in CLASSES or not told or len(scene) != 3:
        raise UserError(
            f"{where}: expected a label true or false, a sentence and three boxes, got "
            f"{label!r}, {sentence!r} and {len(scene)} boxes"
        )
    return Statement(sentence=sentence, scene=scene, true=label == "true", name=name)


def _item(told: Any) -> Item:
    colour, shape = PUBLISHED[str(told["color"]).lower()], str(told["type"])
    if shape not in SHAPES:
        raise ValueError(f"shape {shape}")
    x, y, size = (int(told[key]) for key in ("x_loc", "y_loc", "size"))
    if max(abs(x), abs(y), size) > BOX or size < 1:
        raise ValueError(f"an item outside a box of {BOX} pixels")
    return Item(x, y, size, colour, shape)


def words(sentence: str) -> list[str]:
    """Words and numbers of a sentence, in lower case.

    Example:
        >>> words("There are 2 black squares.")
        ['there', 'are', '2', 'black', 'squares']
    """
    return re.findall(r"[a-z0-9]+", sentence.lower())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Numbers of words; a word never seen gets one of some that are kept for such.

    So two unseen words differ, but what they mean was never learned.

    Example:
        >>> vocabulary = Vocabulary.of(["a cat", "a dog"])
        >>> vocabulary.encode("a dog").tolist(), vocabulary.size
        ([0, 2], 67)
    """

    known: tuple[str, ...]
    """Seen in training, in alphabetical order."""

    spare: int = 64
    """Numbers kept for words that were not."""

    @classmethod
    def of(cls, sentences: Iterable[str], *, spare: int = 64) -> Self:
        """The vocabulary of these sentences."""
        seen = {word for sentence in sentences for word in words(sentence)}
        return cls(tuple(sorted(seen)), spare)

    @property
    def size(self) -> int:
        """Numbers there are."""
        return len(self.known) + self.spare

    def encode(self, sentence: str) -> Array:
        """(words,) int64."""
        number = {word: place for place, word in enumerate(self.known)}
        unseen = len(self.known)
        return np.array(
            [
                number.get(word, unseen + zlib.crc32(word.encode()) % self.spare)
                for word in words(sentence)
            ],
            dtype=np.int64,
        )


def as_bytes(sentence: str) -> Array:
    """(length,) uint8: a sentence as it is written."""
    return np.frombuffer(sentence.encode(), np.uint8)


def as_samples(
    statements: Sequence[Statement],
    name: str,
    *,
    encode: Callable[[str], Array] = as_bytes,
    kind: Kind = "bytes",
    side: int = SIDE,
    parts: Array | None = None,
) -> Samples:
    """Statements as pictures with sentences as their contexts.

    Args:
        statements: Those of one sentence stay together when splits are drawn.
        name: What error messages begin with.
        encode: From a sentence to a context.
        kind: What `encode` makes: bytes or tokens.
        side: Of a box, in pixels.
        parts: See `Samples.parts`.
    """
    sentences = [statement.sentence for statement in statements]
    contexts = {sentence: encode(sentence) for sentence in set(sentences)}
    return Samples(
        name=name,
        kind="image",
        inputs=np.stack([picture(each.scene, side) for each in statements]),
        targets=np.array([each.true for each in statements], dtype=np.int64),
        ids=np.array([each.name for each in statements]),
        classes=CLASSES,
        contexts=[contexts[sentence] for sentence in sentences],
        context=kind,
        parts=parts,
        groups=np.array([" ".join(words(sentence)) for sentence in sentences]),
    )


def read_nlvr(path: Path, *, labelled: bool = True) -> Samples:
    """Read an NLVR file: every row in six orders, its sentence as bytes.

    Raises:
        UserError: As `read_statements`.
    """
    rows = read_statements(path, labelled=labelled)
    return as_samples([each for row in rows for each in reordered(row)], str(path))
