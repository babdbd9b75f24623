"""A trained model at the wheel of CarRacing: a frame comes in, an action goes out."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nacs.data.base import Array, Split
from nacs.data.driving import CONTROLS, look
from nacs.data.frames import rows_of
from nacs.sequence import SequenceModel, SequenceState

__all__ = ["Clone", "clone"]


class Clone:
    """A driver that sees every frame once; its memory is that of the model's stream.

    Args:
        model: Trained on `car-racing`, with an answer a frame.
        split: Of that data; its scale is taken.
    """

    def __init__(self, model: SequenceModel, split: Split) -> None:
        self.model = model.eval()
        self.split = replace(
            split, inputs=[], targets=split.targets[:0], ids=split.ids[:0]
        )
        self.state: SequenceState | None = None

    @torch.no_grad()
    def __call__(self, observation: Array, seconds: float) -> Array:
        """What it does now: steering, gas, brake."""
        row = rows_of(look(observation)[None], np.array([seconds]))
        nothing = np.zeros((1, 1, len(CONTROLS)), np.float32)
        seen = replace(self.split, inputs=[row], targets=nothing, ids=np.array([""]))
        inputs = seen.batch([0]).inputs[:, 0]
        inputs = inputs.to(next(self.model.parameters()))
        answer, self.state = self.model.step(inputs[:, 1:], inputs[:, 0], self.state)
        action = self.split.unscaled(answer).squeeze(0).float().cpu().numpy()
        return np.clip(action, [-1, 0, 0], 1).astype(np.float32)


def clone(model: SequenceModel, split: Split) -> Callable[[Any], Clone]:
    """What `nacs.data.driving.lap` takes: a driver with an empty memory a lap."""
    return lambda _: Clone(model, split)
