"""What a data set is once it is read: three splits that hand out batches of tensors.

A split keeps its samples as numpy arrays, unnormalised and unpadded; `Split.batch`
turns the chosen ones into float32 tensors, subtracts the training mean, divides by
the training deviation and pads ragged samples with zeros.

| kind   | one sample in memory              | inputs of a batch                     |
|--------|-----------------------------------|---------------------------------------|
| image  | channels height width, uint8/float| batch channels height width, float    |
| points | points 3+features, float          | batch points 3+features, float        |
| series | time 1+channels, float            | batch time 1+channels, float          |
| frames | time 1+pixels, float              | batch time 1+pixels, float            |
| bytes  | length, uint8                     | batch length, long, 0 to 255          |
| tokens | length, integer                   | batch length, long                    |

Channel 0 of a series is its time stamp; NaN in another channel is a missing value.
Frames are a series whose values are the pixels of a picture, channel by channel.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from torch import Tensor

from nacs.data.stored import Stored
from nacs.errors import UserError

__all__ = ["Array", "Batch", "DataFacts", "Dataset", "Kind", "Split"]

Array: TypeAlias = npt.NDArray[Any]
Kind: TypeAlias = Literal["image", "points", "bytes", "tokens", "series", "frames"]


class Batch(NamedTuple):
    """Some samples, ready for a model's `forward`."""

    inputs: Tensor
    """What the tokenizer of this kind expects (see the table above)."""

    targets: Tensor
    """(batch,) long for classes; (batch,), (batch, targets) or, where every frame is
    answered, (batch, time, targets) float32 for numbers."""

    keep: Bool[Tensor, "batch tokens"] | None = None
    """True where a sample has data, False where it is padded; None: nothing ragged."""

    context: Tensor | None = None
    """Inputs of a conditional generator, where they differ from `inputs`."""

    context_keep: Bool[Tensor, "batch tokens"] | None = None
    """As `keep`, for the context."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A list of samples with their targets.

    Raises:
        ValueError: inputs, targets and ids have different lengths.

    Example:
        >>> letters = [np.frombuffer(text, np.uint8) for text in (b"no", b"yes")]
        >>> split = Split(letters, np.array([0, 1]), np.array(["a", "b"]))
        >>> split.batch([0, 1]).keep
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """

    inputs: Array | list[Array] | Stored
    """One array when all samples have one shape, else a list; or where they lie."""

    targets: Array
    """(samples,) int64 classes, or (samples,), (samples, targets) or, with one answer a
    frame, (samples, time, targets) float32."""

    ids: Array
    """(samples,) strings: the file or row a sample came from, for predictions."""

    mean: Array | None = None
    """Subtracted from float inputs; broadcasts against one sample, except of frames:
    one of the time, one a channel. None is 0."""

    deviation: Array | None = None
    """Float inputs are divided by it; shaped as `mean`. None is 1."""

    target_mean: Array | None = None
    """Subtracted from numbers to be predicted; (), or (targets,). None is 0."""

    target_deviation: Array | None = None
    """Numbers to be predicted are divided by it; (), or (targets,). None is 1."""

    limit: int | None = None
    """Longest ragged sample a batch keeps; the rest is cut off. None keeps all."""

    scores: tuple[str, ...] = ()
    """What is measured beside the usual; see `nacs.metrics.SCORES`."""

    contexts: list[Array] | None = None
    """A second input a sample, (length,) bytes or integer tokens, from which a
    conditional circuit is written; None: there is none."""

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        counts = len(self.inputs), len(self.targets), len(self.ids)
        if len(set(counts)) != 1:
            raise ValueError(
                "expected as many targets and ids as inputs, got "
                f"{counts[0]} inputs, {counts[1]} targets, {counts[2]} ids"
            )
        if self.contexts is not None and len(self.contexts) != counts[0]:
            raise ValueError(
                f"expected as many contexts as inputs, got {len(self.contexts)} "
                f"contexts, {counts[0]} inputs"
            )

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.targets)

    @property
    def ragged(self) -> bool:
        """Whether samples may differ in length, so that batches carry a mask."""
        inputs = self.inputs
        return inputs.ragged if isinstance(inputs, Stored) else isinstance(inputs, list)

    def take(self, indices: Sequence[int] | Array) -> Self:
        """Return a split of the samples at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        inputs: Array | list[Array] | Stored
        if isinstance(self.inputs, list):
            inputs = [self.inputs[i] for i in chosen]
        elif isinstance(self.inputs, Stored):
            inputs = self.inputs.take(chosen)
        else:
            inputs = self.inputs[chosen]
        told = self.contexts
        return dataclasses.replace(
            self,
            inputs=inputs,
            targets=self.targets[chosen],
            ids=self.ids[chosen],
            contexts=None if told is None else [told[i] for i in chosen],
        )

    def thinned(self, share: float, *, seed: int = 0) -> Self:
        """Return the split with a share of the observations of every series left out.

        The last observation stays, so that a series ends when it did.

        Args:
            share: Of the observations that go, in [0, 1).
            seed: Of the draw; the same for one seed, whatever the model.

        Raises:
            ValueError: share is outside [0, 1).
        """
        if not 0 <= share < 1:
            raise ValueError(f"expected a share in [0, 1), got {share}; 0.3 is a third")
        random = np.random.default_rng(seed)
        inputs: list[Array] = []
        for sample in self.inputs:
            stays = random.random(len(sample)) >= share
            stays[-1:] = True
            inputs.append(sample[stays])
        return dataclasses.replace(self, inputs=inputs)

    def batch(self, indices: Sequence[int] | Array | Tensor) -> Batch:
        """Return the samples at `indices`, normalised and padded, as CPU tensors.

        Padding is zero *after* normalisation, and `keep` is False there.

        Args:
            indices: (batch,) positions in this split.

        Raises:
            IndexError: an index is outside the split.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        targets = _tensor(self._scaled_targets(chosen))
        inputs, keep = self._inputs(chosen)
        if self.contexts is None:
            return Batch(inputs, targets, keep)
        told = [self.contexts[i].astype(np.int64) for i in chosen]
        return Batch(inputs, targets, keep, *_padded(told, np.zeros(0, np.int64)))

    def _inputs(self, chosen: Array) -> tuple[Tensor, Tensor | None]:
        """Return the inputs of samples, and where there are any if they are ragged."""
        stored = self.inputs
        if isinstance(stored, Stored):
            stored, chosen = stored.loaded(chosen), np.arange(len(chosen))
        if not isinstance(stored, list):
            inputs = stored[chosen]
            inputs = inputs if self.limit is None else inputs[:, : self.limit]
            return _tensor(self._prepare(inputs, symbols=2)), None
        ragged: list[Array] = [stored[i][: self.limit] for i in chosen]
        samples = [self._prepare(sample, symbols=1) for sample in ragged]
        like = samples[0] if samples else self._prepare(self.inputs[0], symbols=1)
        return _padded(samples, like)

    def _scaled_targets(self, chosen: Array) -> Array:
        """Return classes as they are, numbers on the scale of training."""
        targets = self.targets[chosen]
        if self.target_mean is None or self.target_deviation is None:
            return targets
        return ((targets - self.target_mean) / self.target_deviation).astype(np.float32)

    def unscaled(self, answers: Tensor) -> Tensor:
        """Return a model's answers (samples, targets) in the unit of the targets."""
        if self.target_mean is None or self.target_deviation is None:
            return answers
        mean, deviation = (
            torch.as_tensor(each, dtype=answers.dtype)
            for each in (self.target_mean, self.target_deviation)
        )
        return answers * deviation + mean

    def _prepare(self, samples: Array, *, symbols: int) -> Array:
        """Return int64 symbols, if that many axes hold integers, else float32."""
        if samples.dtype.kind in "iu" and samples.ndim == symbols:
            return samples.astype(np.int64)
        if samples.dtype == np.uint8:
            samples = samples.astype(np.float32) / 255
        # before float32: large time stamps would lose their differences
        if self.mean is not None:
            samples = samples - _columns(self.mean, samples)
        if self.deviation is not None:
            samples = samples / _columns(self.deviation, samples)
        return samples.astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """How the data of a run was read: enough to read it, or new data, in the same way.

    Holds plain numbers, so that it can be written to `config.json`.
    """

    source: str
    """Name or path, as given to `nacs.data.load`."""

    kind: Kind
    """What one sample is."""

    classes: tuple[str, ...]
    """Names of the classes; empty for regression."""

    shape: tuple[int, ...]
    """Shape of one sample; its first axis is the longest one if ragged."""

    columns: tuple[str, ...]
    """Names of the values of a series, where the table had some."""

    size: int | None
    """Side in pixels that images were scaled to; None: as they were."""

    length: int | None
    """Longest sequence that was kept; None: all of it."""

    mean: Any
    """See `Split.mean`, as nested lists."""

    deviation: Any
    """See `Split.deviation`, as nested lists."""

    target_mean: Any = None
    """See `Split.target_mean`, as a number or a list."""

    target_deviation: Any = None
    """See `Split.target_deviation`, as a number or a list."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """Samples of one kind, split into training, validation and test."""

    name: str
    """Its name in `nacs data list`, or the file it was read from."""

    kind: Kind
    """What one sample is; decides the tokenizer."""

    train: Split
    """What the model learns from; its mean and deviation normalise all splits."""

    val: Split
    """For early stopping and choices; shares no sample with the test split."""

    test: Split
    """For the final figure only."""

    classes: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers; empty for regression."""

    columns: tuple[str, ...] = ()
    """Names of the values of a series, where the table had some."""

    size: int | None = None
    """Side in pixels that images were scaled to; None: as they were."""

    frame: tuple[int, ...] = ()
    """Channels, height and width of one of the frames."""

    context: Kind | None = None
    """What a context is, where every sample has one: bytes or tokens."""

    @property
    def facts(self) -> DataFacts:
        """How this data was read, for the run that is trained on it."""
        scales = {
            name: getattr(self.train, name)
            for name in ("mean", "deviation", "target_mean", "target_deviation")
        }
        return DataFacts(
            source=self.name,
            kind=self.kind,
            classes=self.classes,
            shape=self.shape,
            columns=self.columns,
            size=self.size,
            length=self.train.limit,
            **{k: None if v is None else v.tolist() for k, v in scales.items()},
        )

    @property
    def outputs(self) -> int:
        """How many numbers a model must put out: classes, or regression targets."""
        if self.classes:
            return len(self.classes)
        targets = self.train.targets
        return 1 if targets.ndim == 1 else int(targets.shape[-1])

    @property
    def dense(self) -> bool:
        """Whether every frame is asked about, not the sample as a whole."""
        return self.train.targets.ndim == 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample; its first axis is the longest one if ragged."""
        splits = (self.train, self.val, self.test)
        tail = self.train.inputs[0].shape[1:]
        if not self.train.ragged:
            return (int(self.train.inputs[0].shape[0]), *tail)
        if isinstance(self.train.inputs, Stored):
            longest = self.train.inputs.source.longest
        else:
            longest = max(len(sample) for split in splits for sample in split.inputs)
        return (min(longest, self.train.limit or longest), *tail)

    def limited(self, length: int) -> Self:
        """Return the data set with sequences cut to `length` when batched.

        Raises:
            UserError: length is below 1, or the samples are images or frames.
        """
        if length < 1 or self.kind in {"image", "frames"}:
            raise UserError(
                f"expected a length of at least 1 and samples with a length, "
                f"got {length} for {self.name} of kind {self.kind}"
            )
        train, val, test = (
            dataclasses.replace(split, limit=length)
            for split in (self.train, self.val, self.test)
        )
        return dataclasses.replace(self, train=train, val=val, test=test)


def _columns(scale: Array, samples: Array) -> Array:
    """A number a column of frames, whose scale has one of the time, one a channel."""
    columns = samples.shape[-1]
    if scale.ndim != 1 or len(scale) in (1, columns):
        return scale
    pixels = (columns - 1) // (len(scale) - 1)
    return np.concatenate([scale[:1], np.repeat(scale[1:], pixels)])


def _padded(samples: list[Array], like: Array) -> tuple[Tensor, Tensor]:
    """Return samples below each other, zeros after them, and where they are.

    Args:
        samples: (length, ...) each.
        like: A sample, for its other axes and its type, should there be none.
    """
    lengths = np.array([len(sample) for sample in samples], dtype=np.int64)
    longest = int(lengths.max(initial=0))
    padded = np.zeros((len(samples), longest, *like.shape[1:]), dtype=like.dtype)
    for row, sample in zip(padded, samples, strict=True):
        row[: len(sample)] = sample
    return _tensor(padded), _tensor(np.arange(longest) < lengths[:, None])


def _tensor(array: Array) -> Tensor:
    """Share an array with torch, whose stub leaves the argument untyped."""
    return torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]
