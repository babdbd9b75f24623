"""What training does to a batch: shifts, RandAugment, erasing, mixup, CutMix.

    shifted  →  RandAugment  →  erased  →  mixup or CutMix, with smoothed targets

References:
    Cubuk et al., RandAugment, 2020. https://arxiv.org/abs/1909.13719
    Zhong et al., Random Erasing, 2020. https://arxiv.org/abs/1708.04896
    Zhang et al., mixup, 2018. https://arxiv.org/abs/1710.09412
    Yun et al., CutMix, 2019. https://arxiv.org/abs/1905.04899
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nacs.data.base import Array, Batch, Dataset
from nacs.errors import UserError
from nacs.recipe import TrainConfig

__all__ = ["augmented", "distorted", "mix", "shifted", "soften"]


PARTS = 8
"""Parts of a batch that draw operations of their own."""


def augmented(
    batch: Batch, dataset: Dataset, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a training batch; unchanged if nothing is asked for.

    Raises:
        UserError: If RandAugment or erasing is asked for and kornia is missing.
    """
    inputs, targets, images = batch.inputs, batch.targets, dataset.kind == "image"
    if images:
        inputs = shifted(inputs, config.shift)
    if images and (config.randaugment or config.erasing):
        mean = _like(dataset.train.mean, inputs, otherwise=0.0)
        deviation = _like(dataset.train.deviation, inputs, otherwise=1.0)
        pixels = inputs * deviation + mean
        pixels = distorted(pixels, config.randaugment, config.erasing, fill=mean)
        inputs = (pixels - mean) / deviation
    if not dataset.classes:
        return inputs, targets
    return mix(
        inputs,
        targets,
        classes=len(dataset.classes),
        smoothing=config.label_smoothing,
        mixup=config.mixup if batch.keep is None else 0.0,
        cutmix=config.cutmix if images else 0.0,
    )


def _like(scale: Array | None, inputs: Tensor, *, otherwise: float) -> Tensor:
    return torch.as_tensor(otherwise if scale is None else scale).to(inputs)


def distorted(
    pixels: Float[Tensor, "batch channels height width"],
    magnitude: int,
    erasing: float,
    *,
    fill: Tensor,
) -> Float[Tensor, "batch channels height width"]:
    """RandAugment (two operations, drawn for every eighth) and erasing, by kornia.

    kornia draws one pair of operations a call, and a call for every image is slow: a
    batch is therefore cut into eight parts, each with operations of its own.

    Args:
        pixels: Values in [0, 1].
        magnitude: Of RandAugment, below 30; 0 for none.
        erasing: Probability that an image loses a rectangle.
        fill: What the rectangle becomes; broadcasts against an image.

    Raises:
        UserError: If kornia is missing.
    """
    try:
        from kornia.augmentation import RandomErasing
        from kornia.augmentation.auto import RandAugment
    except ImportError as error:
        raise UserError(
            "`randaugment` and `erasing` need kornia: pip install 'nacs[vision]'."
        ) from error
    if magnitude:
        operations = RandAugment(n=2, m=magnitude)
        grey, parts = pixels.shape[1] == 1, pixels.clamp(0, 1).chunk(PARTS)
        # Some operations turn colours and know three channels only.
        parts = [x.expand(-1, 3, -1, -1) for x in parts] if grey else parts
        pixels = torch.cat([operations(x) for x in parts])
        pixels = pixels[:, :1] if grey else pixels
    if erasing:
        hole = RandomErasing(p=erasing)(torch.ones_like(pixels))
        pixels = torch.where(hole > 0, pixels, fill)
    return pixels


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
