"""Samples that stay on disk until a batch asks for them.

    shards → Source (where each sample lies) → Stored (some of them) → Split.batch

What lies together on disk is a block: a stretch of a tar file, a row group of Parquet.
An epoch takes blocks in random order and shuffles the samples of a few at a time, so
that reading stays nearly sequential and memory bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Source", "Stored", "probe"]

Array: TypeAlias = npt.NDArray[Any]

PROBE_BLOCKS, PROBE_SAMPLES, PROBE_BYTES = 64, 4096, 64 * 2**20


class Source(Protocol):
    """Shards with an index of their samples."""

    blocks: Array
    """(samples,) the block each sample lies in."""

    window: int
    """Blocks that are shuffled together."""

    longest: int
    """Length of the longest sample."""

    ragged: bool
    """Whether samples may differ in length."""

    def read(self, rows: Array) -> list[Array]:
        """The samples at these positions of the index, in that order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Stored(Sequence[Array]):
    """Some samples of a source; `Split.inputs` of data larger than memory."""

    source: Source
    """The shards."""

    rows: Array
    """(samples,) int64 positions in the source's index."""

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> "Stored": ...
    def __getitem__(self, index: int | slice) -> "Array | Stored":
        """Read one sample; a slice reads nothing."""
        if isinstance(index, slice):
            return Stored(self.source, self.rows[index])
        return self.source.read(self.rows[[index]])[0]

    @property
    def ragged(self) -> bool:
        """Whether samples may differ in length."""
        return self.source.ragged

    def take(self, chosen: Array) -> "Stored":
        """The samples at these positions; nothing is read."""
        return Stored(self.source, self.rows[chosen])

    def loaded(self, chosen: Array) -> Array | list[Array]:
        """Read samples: one array where all have one shape, else a list."""
        samples = self.source.read(self.rows[chosen])
        return samples if self.ragged else np.stack(samples)

    def order(self, seed: int, processes: int = 1) -> Array:
        """All positions once, shuffled within windows of random blocks.

        Args:
            seed: Decides the order.
            processes: Position i is of process i modulo this, as long as all have
                some; each process has blocks of its own.

        Returns:
            (samples,) int64.
        """
        random = np.random.default_rng(seed)
        blocks = self.source.blocks[self.rows]
        inside = np.argsort(blocks, kind="stable")
        ends = np.flatnonzero(np.diff(blocks[inside])) + 1
        pieces = np.split(inside, ends)
        drawn = [pieces[i] for i in random.permutation(len(pieces))]
        shares = [
            self._shuffled(drawn[process::processes], random)
            for process in range(processes)
        ]
        table = np.full((max(map(len, shares)), processes), -1, dtype=np.int64)
        for process, share in enumerate(shares):
            table[: len(share), process] = share
        flat = table.ravel()
        return flat[flat >= 0]

    def _shuffled(self, pieces: list[Array], random: np.random.Generator) -> Array:
        width = self.source.window
        windows = [
            random.permutation(np.concatenate(pieces[start : start + width]))
            for start in range(0, len(pieces), width)
        ]
        return np.concatenate([np.zeros(0, np.int64), *windows])


def probe(inputs: Array | list[Array] | Stored) -> Array | list[Array]:
    """Samples to take mean and deviation of: all in memory, or some of those on disk.

    These are of blocks from all over, and of a bounded size.
    """
    if not isinstance(inputs, Stored):
        return inputs
    blocks = inputs.source.blocks[inputs.rows]
    names = _spread(np.unique(blocks), PROBE_BLOCKS)
    near = np.flatnonzero(np.isin(blocks, names))
    fits = PROBE_BYTES // max(1, inputs[0].nbytes)
    return inputs.loaded(_spread(near, min(PROBE_SAMPLES, max(1, fits))))


def _spread(values: Array, count: int) -> Array:
    """At most so many of the values, evenly spaced."""
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).astype(np.int64)]
