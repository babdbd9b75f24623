"""Multiply-adds of a model, counted on shapes alone.

The paper's "GFLOPs" are multiply-adds per sample at batch 64.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["multiply_adds"]


def multiply_adds(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of one forward pass in evaluation, matrix products only.

    Nothing is computed: the model is copied to the meta device.

    Args:
        model: Any module; it stays where it is.
        inputs: What its forward takes; shapes and dtypes matter, values do not.
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    # The counter needs gradients on, or it cannot tell the modules apart.
    with (
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        shapes(*(each.to("meta") for each in inputs))
    return counter.get_total_flops() // 2
