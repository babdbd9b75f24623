"""Image classifiers that table 1, figures 5 and 10 and the collapse share.

rungs of the ladder, five priors  ×  seeds  →  runs, each trained once
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nacs import data
from nacs.attentive import AttentiveConfig, presets
from nacs.data.base import Dataset
from nacs.experiments.workshop import Arm, Run, Workshop
from nacs.models import count_parameters, lookup
from nacs.recipe import TrainConfig
from nacs.tasks import fitted
from nacs.tokenizers import TokenizerConfig

__all__ = [
    "PERCEIVER",
    "PRIORS",
    "Images",
    "circuits",
    "images",
    "perceivers",
    "same_size",
]

PRIORS = (
    "scale-free",
    "planted-partition",
    "ring-of-cliques",
    "erdos-renyi",
    "small-world",
)
PERCEIVER = "Perceiver IO"

HERE = AttentiveConfig(
    tokenizer=TokenizerConfig(
        kind="patches", width=48, channels=3, size=(32, 32), positions=16
    ),
    classes=10,
    modules=128,
    outputs=8,
    width=48,
    code=48,
    signature=32,
    layers=2,
    heads=2,
    head_width=24,
    hidden=96,
    bandwidth=0.25,
)
"""What five priors and four rivals can be trained as on two cores in hours. Patches
cost next to nothing, as the paper's stem does beside its 320 modules of 384 channels; a
stem of convolutions would cost half as much as these modules, dropped or not."""

HERE_TRAINING = TrainConfig(
    epochs=6,
    batch=64,
    learning_rate=2e-3,
    warmup_epochs=1,
    signature_rate=10.0,
    label_smoothing=0.1,
    shift=2,
)

PAPER_TRAINING = TrainConfig(
    epochs=400,
    batch=1024,
    learning_rate=6e-4,  # 3e-4 for a batch of 512
    min_learning_rate=2e-5,
    warmup_epochs=25,
    label_smoothing=0.1,
    mixup=0.8,
    cutmix=1.0,
    randaugment=9,
    erasing=0.25,
    repeats=3,
)
"""Table 4 and the recipe it names."""


@dataclass(frozen=True)
class Images:
    """The setting of one scale: data, sizes, training, seeds."""

    work: Workshop
    dataset: Dataset
    like: AttentiveConfig
    training: TrainConfig
    seeds: tuple[int, ...]

    def few(self) -> "Images":
        """As many updates from a quarter of the images, for what is asked of graphs.

        At `here` alone: it takes a quarter of the time.
        """
        if self.work.scale != "here":
            return self
        train = self.dataset.train
        dataset = replace(self.dataset, train=train.take(range(len(train) // 4)))
        training = replace(self.training, batch=self.training.batch // 4)
        return replace(self, dataset=dataset, training=training)

    def runs(self, arms: list[Arm], seed: int) -> dict[str, Run]:
        """The runs of these arms with one seed."""
        return self.work.runs("images", arms, self.dataset, self.training, seed)


def images(work: Workshop) -> Images:
    """The setting of a workshop's scale.

    smoke: 8 × 8 digits that ship with scikit-learn; here: 10,000 training images of
    CIFAR-10; paper: Tiny-ImageNet with table 4's sizes and recipe.
    """
    if work.scale == "smoke":
        dataset = _fewer(data.load("digits"), 300, 100)
        training, like = TrainConfig(epochs=1, shift=0), presets.tiny()
    elif work.scale == "here":
        dataset = work.load("cifar10_jpeg.npz", "cifar-10")
        dataset = _fewer(dataset, 10_000, 4000)
        training, like = HERE_TRAINING, HERE
    else:
        dataset = data.load("tiny-imagenet")
        training, like = PAPER_TRAINING, presets.tiny_imagenet()
    seeds = work.pick(smoke=(0, 1), here=(0, 1, 2), paper=(0, 1, 2))
    return Images(work, dataset, fitted(like, dataset), training, seeds)


def _fewer(dataset: Dataset, train: int, test: int) -> Dataset:
    """The first so many samples of each split; they are in no order."""
    parts = {"train": train, "val": min(1000, test), "test": test}
    splits = {name: getattr(dataset, name) for name in parts}
    return replace(
        dataset,
        **{
            name: split.take(range(min(parts[name], len(split))))
            for name, split in splits.items()
        },
    )


def circuits(like: AttentiveConfig) -> list[Arm]:
    """A circuit for every prior."""
    return [
        Arm(name=f"NAC, {prior}", model="attentive", sizes=replace(like, prior=prior))
        for prior in PRIORS
    ]


def perceivers(like: AttentiveConfig) -> list[Arm]:
    """Perceiver IO as wide as a circuit, and one with as many parameters."""
    equal = presets.perceiver(like)
    wanted = count_parameters(lookup("attentive").build(like))
    larger = same_size("perceiver", equal, wanted)
    return [
        Arm(name=PERCEIVER, model="perceiver", sizes=equal),
        Arm(name=f"{PERCEIVER}, wider", model="perceiver", sizes=larger),
    ]


def same_size(model: str, sizes: Any, wanted: int) -> Any:
    """The configuration with the hidden width that makes it nearest to a size.

    Args:
        model: Its name in `nacs.models.MODELS`.
        sizes: A configuration with a field `hidden`.
        wanted: Parameters.
    """
    build: Callable[[Any], Any] = lookup(model).build
    small, large = (
        count_parameters(build(replace(sizes, hidden=hidden))) for hidden in (8, 16)
    )
    hidden = 8 + round((wanted - small) / ((large - small) / 8))
    return replace(sizes, hidden=max(8, hidden))
