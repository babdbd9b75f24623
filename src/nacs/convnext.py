"""The parts of ConvNeXt that the paper's convolutional stem is made of.

References:
    Liu et al., A ConvNet for the 2020s, CVPR 2022. https://arxiv.org/abs/2201.03545
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ChannelNorm", "ConvNeXtBlock"]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of channels-first features."""

    def forward(
        self, input: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Every pixel by itself."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, two pointwise layers, a gain, a residual.

    Args:
        width: Channels.
        kernel: Height and width of what a pixel hears, odd.
    """

    def __init__(self, width: int, kernel: tuple[int, int] = (7, 7)) -> None:
        super().__init__()
        around = (kernel[0] // 2, kernel[1] // 2)
        self.depthwise = nn.Conv2d(width, width, kernel, padding=around, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.gain = nn.Parameter(torch.ones(width))

    def forward(
        self, features: Float[Tensor, "batch width height breadth"]
    ) -> Float[Tensor, "batch width height breadth"]:
        """The features with what each pixel hears added."""
        mixed = self.norm(self.depthwise(features).movedim(1, -1))
        out = self.gain * self.contract(F.gelu(self.expand(mixed)))
        return features + out.movedim(-1, 1)
