"""Parameter groups, learning rate and repeated augmentation of the papers' recipe.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, appendix C, tables 4, 5.
"""

import math
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

__all__ = ["learning_rate", "parameter_groups", "repeated_augmentation"]

PLAIN = ("codes", "signatures", "states", "queries", "positions")
"""Last names of parameters that no weight decay pulls to zero."""


def parameter_groups(
    model: nn.Module, *, weight_decay: float, signature_rate: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for AdamW; each has a `factor` on the learning rate.

    No weight decay on parameters of at most one dimension, codes, signatures, latents
    and positions.

    Args:
        model: Whose trained parameters.
        weight_decay: Of all others.
        signature_rate: Factor on the learning rate of signatures.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        last = name.rpartition(".")[2]
        decay = 0.0 if parameter.ndim < 2 or last in PLAIN else weight_decay
        factor = signature_rate if last == "signatures" else 1.0
        groups.setdefault((decay, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in groups.items()
    ]


def learning_rate(
    epoch: float,
    *,
    epochs: int,
    peak: float,
    least: float = 0.0,
    warmup_epochs: float = 0,
    warmup: float = 1e-6,
) -> float:
    """Linear warm-up, then a cosine that counts from the start of training.

    The cosine is therefore already part-way down when the warm-up ends, as in the
    released code.

    Args:
        epoch: Epochs done, whole or not.
        epochs: Of the whole training.
        peak: Highest rate.
        least: Rate at the end.
        warmup_epochs: Length of the warm-up.
        warmup: Rate it starts from.
    """
    if epoch < warmup_epochs:
        return warmup + epoch * (peak - warmup) / warmup_epochs
    return least + (peak - least) / 2 * (1 + math.cos(math.pi * epoch / epochs))


def repeated_augmentation(
    count: int, *, epoch: int, rank: int = 0, replicas: int = 1, repeats: int = 3
) -> Int[Tensor, " indices"]:
    """Samples of one epoch for one replica, each repeated to be augmented differently.

    A permutation seeded by the epoch, every index `repeats` times in a row, dealt to
    the replicas in turn; of each replica's share only ⌊count/256⌋ · 256 / replicas.
    """
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(count, generator=generator).repeat_interleave(repeats)
    short = -len(order) % replicas
    order = torch.cat([order, order[:short]])
    kept = count // 256 * 256 // replicas if count >= 256 else -(-count // replicas)
    return order[rank::replicas][:kept]
