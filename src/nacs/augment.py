"""Mixup, CutMix and label smoothing, as soft targets.

References:
    Zhang et al., mixup, 2018. https://arxiv.org/abs/1710.09412
    Yun et al., CutMix, 2019. https://arxiv.org/abs/1905.04899
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mix", "shifted", "soften"]


def soften(
    targets: Int[Tensor, " batch"], classes: int, smoothing: float
) -> Float[Tensor, "batch classes"]:
    """One-hot targets with `smoothing` of their mass spread over all classes."""
    return F.one_hot(targets, classes) * (1 - smoothing) + smoothing / classes


def mix(
    inputs: Tensor,
    targets: Int[Tensor, " batch"],
    *,
    classes: int,
    smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a training batch; unchanged if nothing is asked for.

    With both mixup and CutMix each batch gets one of them at random.

    Args:
        inputs: The batch; CutMix needs images.
        targets: Class numbers.
        classes: How many there are.
        smoothing: Label smoothing, in [0, 1).
        mixup: Beta parameter, 0 for none; not for integer inputs.
        cutmix: Beta parameter, 0 for none.
    """
    mixup = mixup if inputs.is_floating_point() else 0.0
    if not (smoothing or mixup or cutmix):
        return inputs, targets
    soft = soften(targets, classes, smoothing)
    if not (mixup or cutmix):
        return inputs, soft
    cut = cutmix and (not mixup or torch.rand(()).item() < 0.5)
    alpha = torch.tensor(float(cutmix if cut else mixup))
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    other = torch.randperm(len(inputs), device=inputs.device)
    if cut:
        inputs, share = _pasted(inputs, inputs[other], share)
    else:
        inputs = share * inputs + (1 - share) * inputs[other]
    return inputs, share * soft + (1 - share) * soft[other]


def _pasted(
    images: Float[Tensor, "batch channels height width"], others: Tensor, share: float
) -> tuple[Tensor, float]:
    """A box of the others' pixels; the share of pixels that stayed."""
    height, width = images.shape[-2:]
    side = (1 - share) ** 0.5
    row, column = (int(torch.randint(size, ()).item()) for size in (height, width))
    top, bottom = (
        min(max(round(row + sign * side * height / 2), 0), height) for sign in (-1, 1)
    )
    left, right = (
        min(max(round(column + sign * side * width / 2), 0), width) for sign in (-1, 1)
    )
    images = images.clone()
    images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)


def shifted(
    images: Float[Tensor, "batch channels height width"], pixels: int
) -> Float[Tensor, "batch channels height width"]:
    """Every image moved by up to `pixels` each way; its border is repeated.

    Args:
        images: The batch.
        pixels: Largest move; 0 for none.
    """
    if not pixels:
        return images
    height, width = images.shape[-2:]
    moves = torch.randint(-pixels, pixels + 1, (2, len(images), 1))
    rows = (torch.arange(height) + moves[0]).clamp(0, height - 1).to(images.device)
    columns = (torch.arange(width) + moves[1]).clamp(0, width - 1).to(images.device)
    moved = torch.take_along_dim(images, rows[:, None, :, None], 2)
    return torch.take_along_dim(moved, columns[:, None, None, :], 3)
