"""How a model is trained: every number of the training loop."""

import math
from dataclasses import dataclass
from typing import Literal

from nacs.checks import check_least

__all__ = ["TrainConfig"]


ZERO_OR_MORE = (
    "shift",
    "patience",
    "clip",
    "mixup",
    "cutmix",
    "weight_decay",
    "min_learning_rate",
    "warmup_epochs",
    "signature_rate",
    "graph_weight",
)
"""Fields of `TrainConfig`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int = 30
    """Passes over the training split."""

    batch: int = 64
    """Samples a step, over all processes."""

    learning_rate: float = 1e-3
    """Highest rate of AdamW."""

    min_learning_rate: float = 1e-5
    """Rate at the end of the cosine."""

    warmup_epochs: float = 1.0
    """Epochs in which the rate rises linearly."""

    weight_decay: float = 0.05
    """Not on codes, signatures, positions and parameters of one dimension."""

    signature_rate: float = 1.0
    """Factor on the learning rate of signatures."""

    clip: float = 1.0
    """Largest norm of the gradient; 0 for no limit."""

    graph_weight: float = 0.1
    """Weight of the graph structure regulariser, a mean over pairs."""

    match_every: int = 10
    """Steps from one matching of modules with the labels of the prior to the next."""

    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""

    mixup: float = 0.0
    """Mixup's Beta parameter; 0 for none."""

    cutmix: float = 0.0
    """CutMix's Beta parameter, for images; 0 for none."""

    ema: float = 0.0
    """Decay per step of an average of the weights, which is then what is measured and
    kept; 0 for none, 0.999 is usual."""

    shift: int = 0
    """Largest random move of training images, in pixels."""

    randaugment: int = 0
    """Magnitude of RandAugment's two operations a batch, below 30; 0 for none. The
    paper's is 9. Needs the extra `vision`."""

    erasing: float = 0.0
    """Probability of a random rectangle of an image set to its mean. Needs the extra
    `vision`."""

    repeats: int = 1
    """How often a sample is drawn, to be augmented differently each time, in an epoch
    of the same length; the paper's is 3."""

    patience: int = 0
    """Epochs without a better validation loss until it stops and keeps the weights that
    had the best; 0 for never: all epochs, and the last weights."""

    precision: Literal["no", "bf16"] = "no"
    """Autocast of the forward pass."""

    compile: bool = False
    """Whether torch compiles the model for training steps, which takes a minute or
    more and a C++ compiler, once for all propagators and batches of all sizes but 1.
    Evaluation stays as it is."""

    tensorboard: bool = False
    """Whether the metrics are also written for TensorBoard. Needs the extra
    `logging`."""

    seed: int = 0
    """Of weights, batches and noise."""

    def __post_init__(self) -> None:
        check_least(self, 1, "epochs", "batch", "repeats", "match_every")
        for name in ("ema", "erasing", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must lie in [0, 1), got {getattr(self, name)}."
                )
        for name in ZERO_OR_MORE:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"`{name}` must be 0 or more, got {getattr(self, name)}."
                )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"`seed` must lie in [0, 2^63), got {self.seed}.")
        if not 0 <= self.randaugment < 30:
            raise ValueError(
                f"`randaugment` must lie in [0, 30), got {self.randaugment}; 9 is "
                "usual."
            )
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(
                f"`learning_rate` must be positive, got {self.learning_rate}; 1e-3 is "
                "a good start."
            )
