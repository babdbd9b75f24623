"""ListOps: nested MIN, MAX, MED and SM of digits, drawn by the rules of the LRA.

    shapes, level by level  →  lengths that fit stay  →  digits, operators, answers
    →  tokens in reading order, no sample twice

`[SM 4 [MAX 1 9 ] 2 ]` is the sum modulo 10 of 4, 9 and 2. As in the Long Range Arena
the brackets go and `]` becomes X: 15 symbols, the digits first.

References:
    Nangia, Bowman, ListOps: A Diagnostic Dataset for Latent Tree Learning, 2018.
    https://arxiv.org/abs/1804.06028
    Tay et al., Long Range Arena, ICLR 2021. https://openreview.net/forum?id=qVyeW-grC2k
"""

import hashlib
import statistics
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.data.splits import Samples
from nacs.data.unpacking import BROKEN, unzipped
from nacs.errors import UserError

__all__ = [
    "DIGESTS",
    "SYMBOLS",
    "fingerprint",
    "make_listops",
    "named_listops",
    "read_released",
    "released_rows",
    "solve",
]

DIGITS, OPERATORS, END = tuple("0123456789"), ("MIN", "MAX", "MED", "SM"), "X"
SYMBOLS = (*DIGITS, *OPERATORS, END)
"""What the numbers in a sample stand for."""

DEPTH, MOST, LEAF = 10, 10, 0.75
"""Deepest level, most arguments, and the probability of a digit above that level."""

CHUNK = 20_000
"""Trees that are begun at once."""

PATIENCE = 50
"""Chunks in a row without a new sample after which there are taken to be no more."""

SIZES = {
    "listops": (501, 1999, (96_000, 2_000, 2_000)),
    "listops-short": (5, 40, (50_000, 4_000, 4_000)),
}
"""Shortest and longest sample, and how many are for training, validation and test."""

DIGESTS = {
    "listops": "df699e29c45959ae9552399058aa33b0aee1469408c7574428eb7d18551fe745",
    "listops-short": "5fab5ef34245d633098e6b96deeeca95eeea23dd4f8e144b671fe196b53db91e",
}
"""SHA-256 of the sets above; see `fingerprint`."""

RULES: dict[str, Callable[[list[int]], int]] = {
    "MIN": min,
    "MAX": max,
    "MED": lambda values: int(statistics.median(values)),
    "SM": lambda values: sum(values) % 10,
    "FIRST": lambda values: values[0],
    "LAST": lambda values: values[-1],
}
"""What an operator makes of its arguments; the last two are in released files alone."""


def solve(words: Sequence[str]) -> int:
    """The answer of a sample, read word by word: slow, and the reference.

    Args:
        words: Digits, operators as MIN or [MIN, X or ]; ( and ) mean nothing.

    Raises:
        UserError: If a word is unknown, or what was opened is not closed.

    Example:
        >>> solve("[SM 4 [MAX 1 9 ] 2 ]".split())
        5
    """
    heard: list[list[int]] = [[]]
    opened: list[str] = []
    for word in words:
        name = word.removeprefix("[")
        if word in DIGITS:
            heard[-1].append(int(word))
        elif name in RULES:
            opened.append(name)
            heard.append([])
        elif word in (END, "]") and opened and heard[-1]:
            answer = RULES[opened.pop()](heard.pop())
            heard[-1].append(answer)
        elif word not in "()":
            raise UserError(
                f"expected a digit, ( or ), {', '.join(RULES)}, or {END} or ] after "
                f"the arguments of one of them, got {word!r}"
            )
    if opened or len(heard[0]) != 1:
        raise UserError(
            f"expected one digit or one closed operator, got {len(heard[0])} closed "
            f"and {len(opened)} open"
        )
    return heard[0][0]


def named_listops(name: str) -> Samples:
    """One of the sets that figures can be compared on, drawn anew and checked.

    Args:
        name: "listops" as long as the LRA's, or "listops-short".

    Raises:
        UserError: If the draw is not the published one.
    """
    shortest, longest, counts = SIZES[name]
    samples = make_listops(counts, shortest=shortest, longest=longest)
    found = fingerprint(samples)
    if found != DIGESTS[name]:
        raise UserError(
            f"{name}: expected samples of SHA-256 {DIGESTS[name]}, got {found}; numpy "
            f"{np.__version__} draws other numbers, try another version of it"
        )
    return samples


def make_listops(
    counts: tuple[int, int, int] = (96_000, 2_000, 2_000),
    *,
    shortest: int = 501,
    longest: int = 1999,
    seed: int = 0,
) -> Samples:
    """Samples of some lengths, each once; fewer of one seed are the first of more.

    A node is a digit with probability 0.75, and always at depth 10, else an operator of
    2 to 10 arguments.

    Args:
        counts: Of training, validation and test.
        shortest: Fewest symbols of a sample; brackets are none.
        longest: Most symbols of a sample.
        seed: Of the draw.

    Raises:
        UserError: If there can hardly be so many different ones.
    """
    wanted, barren = sum(counts), 0
    found: dict[bytes, int] = {}
    random = np.random.default_rng(seed)
    while len(found) < wanted:
        before = len(found)
        for tokens, answer in _draw(random, shortest, longest):
            found.setdefault(tokens, answer)
        barren = barren + 1 if len(found) == before else 0
        if barren == PATIENCE:
            raise UserError(
                f"expected {wanted:,} different samples of {shortest} to {longest} "
                f"symbols, found {before:,}; ask for fewer or for longer ones"
            )
    kept = list(found.items())[:wanted]
    return Samples(
        name="listops",
        kind="tokens",
        inputs=[np.frombuffer(tokens, np.uint8) for tokens, _ in kept],
        targets=np.array([answer for _, answer in kept], np.int64),
        ids=np.arange(wanted).astype(str),
        classes=DIGITS,
        parts=np.repeat(np.arange(3, dtype=np.int8), counts),
    )


def fingerprint(samples: Samples) -> str:
    """SHA-256 of all symbols, then all lengths (int32), then all answers, in order."""
    digest = hashlib.sha256()
    for tokens in samples.inputs:
        digest.update(tokens.astype(np.uint8).tobytes())
    digest.update(np.array([len(each) for each in samples.inputs], "<i4").tobytes())
    digest.update(samples.targets.astype(np.uint8).tobytes())
    return digest.hexdigest()


def read_released(archive: Path, member: str = "test_d20s.tsv") -> Samples:
    """Rows of a file of the released ListOps, whose labels were not made here.

    Rows with FIRST or LAST, which the LRA has not, are left out.

    Args:
        archive: `listops_spinn.zip`.
        member: Of its files; test_d20s has the operators of the LRA.

    Raises:
        UserError: If the file is not there, or has none of these rows.
    """
    rows = [
        (answer, words)
        for answer, words in released_rows(archive, member)
        if all(word in _NUMBERS for word in words)
    ]
    if not rows:
        raise UserError(f"{archive}: {member}: expected rows of {', '.join(SYMBOLS)}")
    return Samples(
        name=f"{archive}:{member}",
        kind="tokens",
        inputs=[np.array([_NUMBERS[w] for w in words], np.uint8) for _, words in rows],
        targets=np.array([answer for answer, _ in rows], np.int64),
        ids=np.arange(len(rows)).astype(str),
        classes=DIGITS,
    )


_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}


def released_rows(archive: Path, member: str) -> list[tuple[int, list[str]]]:
    """Label and words of every row of a released file, as the LRA writes words.

    Raises:
        UserError: If the archive or the file in it cannot be read.
    """
    try:
        with unzipped(archive) as stored:
            lines = stored.read(member).decode().splitlines()
    except (*BROKEN, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive}: expected {member} in it, got {error}") from error
    rows: list[tuple[int, list[str]]] = []
    for line in lines:
        label, _, text = line.partition("\t")
        words = [word for word in text.split() if word not in "()"]
        rows.append((int(label), [w.lstrip("[").replace("]", END) for w in words]))
    return rows


@dataclass
class _Level:
    """The nodes of one depth of all trees, those of one parent side by side."""

    children: Array
    """(nodes,) how many arguments each has; 0 is a digit."""

    symbol: Array
    """(nodes,) which of `SYMBOLS` it is: a digit or an operator."""

    @property
    def inner(self) -> Array:
        """(operators,) the nodes that are operators."""
        return np.flatnonzero(self.children)

    @property
    def starts(self) -> Array:
        """(operators,) where the arguments of each begin, a level below."""
        counts = self.children[self.inner]
        return np.cumsum(counts) - counts


def _draw(
    random: np.random.Generator, shortest: int, longest: int
) -> Iterator[tuple[bytes, int]]:
    """Tokens and answers of those of a chunk of trees that have the right length."""
    levels, lengths = _shapes(random, shortest, longest)
    sizes, answers = _solved(levels)
    tokens = _written(levels, sizes)
    start = 0
    for length, answer in zip(lengths, answers, strict=True):
        yield tokens[start : start + length].tobytes(), int(answer)
        start += length


def _shapes(
    random: np.random.Generator, shortest: int, longest: int
) -> tuple[list[_Level], Array]:
    """Trees with their symbols, and how many; a tree that grows too long is let go."""
    tree, lengths = np.arange(CHUNK), np.zeros(CHUNK, np.int64)
    begun: list[tuple[Array, Array]] = []
    for depth in range(1, DEPTH + 1):
        children = 2 + _below(random, MOST - 1, len(tree))
        digit = random.random(len(tree)) < (LEAF if depth < DEPTH else 1)
        children[digit] = 0
        begun.append((tree, children))
        lengths += np.bincount(tree, 1 + (children > 0), CHUNK).astype(np.int64)
        least = lengths + np.bincount(tree, children, CHUNK).astype(np.int64)
        tree = np.repeat(tree, children)
        lengths[least > longest] = longest + 1
        tree = tree[least[tree] <= longest]
    fit = (lengths >= shortest) & (lengths <= longest)
    kept = [children[fit[tree]] for tree, children in begun]
    return [_Level(each, _symbols(random, each)) for each in kept], lengths[fit]


def _symbols(random: np.random.Generator, children: Array) -> Array:
    """(nodes,) an operator for every node that has children, else a digit."""
    digits = _below(random, len(DIGITS), len(children))
    operators = len(DIGITS) + _below(random, len(OPERATORS), len(children))
    return np.where(children > 0, operators, digits)


def _below(random: np.random.Generator, limit: int, count: int) -> Array:
    """(count,) integers from 0 to limit − 1, from the stream that changes least."""
    return (random.random(count) * limit).astype(np.int64)


def _solved(levels: list[_Level]) -> tuple[list[Array], Array]:
    """Symbols that every node spans, level by level, and the answers of the trees."""
    sizes: list[Array] = []
    size, answer = np.empty(0, np.int64), np.empty(0, np.int64)
    for level in reversed(levels):
        span = 1 + (level.children > 0)
        found = level.symbol.copy()
        if len(answer):
            span[level.inner] += np.add.reduceat(size, level.starts)
            found[level.inner] = _answered(level, answer)
        size, answer = span, found
        sizes.insert(0, size)
    return sizes, answer


def _answered(level: _Level, values: Array) -> Array:
    """(operators,) what the operators of a level make of the values a level below."""
    starts, counts = level.starts, level.children[level.inner]
    which = np.repeat(np.arange(len(counts)), counts)
    ordered = np.sort(which * 10 + values) % 10  # argument by argument, then by value
    low, high = starts + (counts - 1) // 2, starts + counts // 2
    results = (
        ordered[starts],
        ordered[starts + counts - 1],
        (ordered[low] + ordered[high]) // 2,
        np.add.reduceat(values, starts) % 10,
    )
    return np.choose(level.symbol[level.inner] - len(DIGITS), results)


def _written(levels: list[_Level], sizes: list[Array]) -> Array:
    """Symbols of all trees, one after another, in reading order."""
    place = np.cumsum(sizes[0]) - sizes[0]
    tokens = np.empty(int(sizes[0].sum()), np.uint8)
    for level, size, below in zip(
        levels, sizes, [*sizes[1:], sizes[0][:0]], strict=True
    ):
        tokens[place] = level.symbol
        inner = level.inner
        tokens[place[inner] + size[inner] - 1] = SYMBOLS.index(END)
        if not len(below):
            break
        before = np.cumsum(below) - below
        shift = place[inner] + 1 - before[level.starts]
        place = np.repeat(shift, level.children[inner]) + before
    return tokens
