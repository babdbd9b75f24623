"""Episodes of few-shot adaptation: some classes, few samples of each, and queries.

data set  →  groups of classes  →  all samples of a group  →  ways × shots, queries
model, episodes  →  adapted to the shots  →  accuracy on the queries
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nacs.data.base import Array, Dataset, Split
from nacs.errors import UserError
from nacs.evaluation import predict
from nacs.experiments.adapt import features, probe, tuned, with_last

__all__ = ["Bench", "divided", "episode", "pooled", "restricted"]


def divided(classes: int, sizes: Sequence[int], *, seed: int = 0) -> list[Array]:
    """Classes drawn into groups of these sizes, the same for one seed.

    Raises:
        UserError: If there are not as many classes.
    """
    if sum(sizes) > classes:
        raise UserError(
            f"expected at least {sum(sizes)} classes, for groups of "
            f"{', '.join(map(str, sizes))}; got {classes}."
        )
    order = np.random.default_rng(seed).permutation(classes)[: sum(sizes)]
    return [np.sort(each) for each in np.split(order, np.cumsum(sizes)[:-1])]


def restricted(dataset: Dataset, chosen: Array) -> Dataset:
    """The samples of some classes alone, which are numbered anew in the order given.

    Means and deviations stay those of all classes.
    """
    number = np.full(len(dataset.classes), -1)
    number[chosen] = np.arange(len(chosen))

    def part(split: Split) -> Split:
        kept = split.take(np.flatnonzero(number[split.targets] >= 0))
        return replace(kept, targets=number[kept.targets])

    return replace(
        dataset,
        train=part(dataset.train),
        val=part(dataset.val),
        test=part(dataset.test),
        classes=tuple(dataset.classes[i] for i in chosen),
    )


def pooled(dataset: Dataset) -> Split:
    """All samples of a data set of images, whatever their split."""
    parts = (dataset.train, dataset.val, dataset.test)
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("inputs", "targets", "ids")
    }
    return replace(dataset.train, **joined)


def episode(
    targets: Array, *, ways: int, shots: int, queries: int, seed: int, index: int
) -> tuple[Array, Array]:
    """Samples to learn from and to be asked about; a row is a class of the episode.

    One of more ways or shots has the classes, shots and queries of one of fewer.

    Args:
        targets: (samples,) classes to draw from.
        ways: Classes of the episode.
        shots: Samples a class to learn from.
        queries: Others to be asked about.
        seed: With `index`, decides the draw.
        index: Of the episode.

    Returns:
        Positions (ways, shots) and (ways, queries) in `targets`.

    Raises:
        UserError: If there are too few classes, or samples of a class.
    """
    classes, counts = np.unique(targets, return_counts=True)
    fewest = int(counts.min()) if len(counts) else 0
    if ways > len(classes) or shots + queries > fewest:
        raise UserError(
            f"expected at least {ways} classes of {shots} + {queries} samples, got "
            f"{len(classes)} of {fewest} or more."
        )
    random = np.random.default_rng([seed, index])
    rows = np.stack(
        [
            random.permutation(np.flatnonzero(targets == chosen))[: queries + shots]
            for chosen in random.permutation(classes)[:ways]
        ]
    )
    return rows[:, queries:], rows[:, :queries]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A trained model and the samples of new classes it is adapted to."""

    model: nn.Module
    """In evaluation mode; it stays as it is."""

    split: Split
    """All samples of the classes that episodes are drawn from."""

    like: Float[Tensor, "samples width"]
    """Features of samples of pre-training."""

    seed: int
    """Of the episodes, whatever the model."""

    queries: int
    """Samples a class that are asked about."""

    steps: int
    """Of fine-tuning."""

    batch: int
    """Samples a step, at most."""

    known: Float[Tensor, "samples width"] = field(init=False)

    def __post_init__(self) -> None:
        """Find the features of all samples once."""
        object.__setattr__(self, "known", features(self.model, self.split))

    def accuracies(
        self, how: str, ways: int, shots: int, count: int, setting: float
    ) -> list[float]:
        """Of the first `count` episodes, in [0, 1].

        Args:
            how: "probe" or "tuned".
            ways: Classes of an episode.
            shots: Samples a class.
            count: Episodes.
            setting: Weight decay of the probe, or highest rate of fine-tuning.
        """
        act = self._probed if how == "probe" else self._tuned
        found: list[float] = []
        for support, queries in self._episodes(ways, shots, count):
            answers = act(support, queries, setting).argmax(-1).numpy()
            asked = np.arange(ways).repeat(self.queries)
            found.append(float((answers == asked).mean()))
        return found

    def _episodes(
        self, ways: int, shots: int, count: int
    ) -> Iterator[tuple[Array, Array]]:
        for index in range(count):
            yield episode(
                self.split.targets,
                ways=ways,
                shots=shots,
                queries=self.queries,
                seed=self.seed,
                index=index,
            )

    def _probed(self, support: Array, queries: Array, decay: float) -> Tensor:
        ways, shots = support.shape
        layer = probe(
            self.known[support.ravel()],
            torch.arange(ways).repeat_interleave(shots),
            classes=ways,
            decay=decay,
            like=self.like,
        )
        with torch.no_grad():
            return layer(self.known[queries.ravel()])

    def _tuned(self, support: Array, queries: Array, rate: float) -> Tensor:
        ways, shots = support.shape
        few = self.split.take(support.ravel())
        new = tuned(
            with_last(self.model, _zeros(self.known.shape[1], ways)),
            replace(few, targets=np.arange(ways).repeat(shots)),
            steps=self.steps,
            batch=self.batch,
            rate=rate,
            seed=self.seed,
        )
        return predict(new, self.split.take(queries.ravel()))


def _zeros(width: int, ways: int) -> nn.Linear:
    """A last layer that prefers no class."""
    layer = nn.Linear(width, ways)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
