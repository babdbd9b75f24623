"""Multiply-adds of a model, counted on shapes alone.

The paper's "GFLOPs" are multiply-adds per sample at batch 64.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["multiply_adds"]


def multiply_adds(model: nn.Module, *inputs: Tensor | None) -> int:
    """Multiply-adds of one forward pass in evaluation, matrix products only.

    Nothing is computed: the model is copied to the meta device. Attention of a frozen
    circuit along a list of edges is no matrix product: freeze with `sparse=False` where
    it is to be counted, as of all pairs.

    Args:
        model: Any module; it stays where it is.
        inputs: What its forward takes; shapes and dtypes matter, values do not. None
            for what is left out.
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    # The counter needs gradients on, or it cannot tell the modules apart.
    with (
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        shapes(*(None if x is None else x.to("meta") for x in inputs))
    return counter.get_total_flops() // 2
