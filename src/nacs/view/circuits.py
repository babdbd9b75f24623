"""A map of the circuits that a conditional model writes for different samples.

samples  →  links P (samples, modules, modules)  →  principal directions  →  places
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import nn

from nacs.attentive import AttentiveCircuit
from nacs.attentive.circuit import CircuitDesign
from nacs.data.base import Dataset, Split
from nacs.errors import UserError
from nacs.evaluation import moved
from nacs.view.numbers import rounded

__all__ = ["circuits_part", "designs"]

BATCH = 32
MOST_LINKS = 4_000_000
"""Of all samples on the map together, so that it is drawn in seconds."""

MOST_SAMPLES = 256


def designs(
    model: AttentiveCircuit, split: Split, indices: Sequence[int]
) -> CircuitDesign:
    """The circuits of some samples, with a batch axis.

    Args:
        model: Conditional, in evaluation mode.
        split: Whose samples.
        indices: Which.
    """
    batch = moved(split.batch(list(indices)), next(model.parameters()))
    told = model.context_tokenizer
    if told is None:
        tokens, keep = model.tokenizer(batch.inputs, batch.keep)
    else:
        tokens, keep = told(batch.context, batch.context_keep)
    return model.design(tokens, keep)


@torch.no_grad()
def circuits_part(model: nn.Module, dataset: Dataset) -> dict[str, Any]:
    """Places of test samples: near each other where their circuits are alike.

    Args:
        model: In evaluation mode.
        dataset: Whose test split.

    Raises:
        UserError: If all samples have the same circuit.
    """
    if not isinstance(model, AttentiveCircuit) or (
        model.config.generator != "conditional" or model.config.graph == "complete"
    ):
        raise UserError("every sample has the same circuit: this one is unconditional.")
    modules, split = model.config.modules, dataset.test
    count = min(len(split), MOST_SAMPLES, max(2, MOST_LINKS // modules**2))
    drawn = np.sort(np.random.default_rng(0).permutation(len(split))[:count])
    rows = [
        model.links(designs(model, split, some.tolist())).flatten(1).cpu()
        for some in np.array_split(drawn, -(-count // BATCH))
    ]
    places, told = _principal(torch.cat(rows).numpy())
    return {
        "samples": drawn.tolist(),
        "ids": split.ids[drawn].tolist(),
        "targets": np.asarray(split.targets)[drawn].tolist() if dataset.classes else [],
        "places": rounded(places, 5),
        "told": rounded(told),
    }


def _principal(rows: ndarray) -> tuple[ndarray, ndarray]:
    """Places along the two directions of most variance, and their shares of it."""
    centred = rows.astype(np.float64) - rows.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    variance = size**2
    return (left * size)[:, :2], variance[:2] / max(1e-12, float(variance.sum()))
