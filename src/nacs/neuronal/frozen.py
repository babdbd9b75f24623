"""A neuronal model that no longer learns: what only training needs is gone.

    masked weights → weights;  motor neurons and heads → one layer
    query, key and value projections of self-attention → one layer

The layers are the same; they find these in place of what would compute them.
"""

import copy

from torch import nn

from nacs.neuronal.attention import NeuronalAttention
from nacs.neuronal.sparse import Backbone, MaskedLinear

__all__ = ["freeze"]


def freeze(model: nn.Module) -> nn.Module:
    """The same model or layer for inference: faster, most of all in a stream.

    Gives the numbers of the model in evaluation, to rounding. The model itself stays as
    it is.

    Args:
        model: With neuronal attention in it.

    Example:
        >>> import torch
        >>> from nacs.neuronal import neuronal_model, presets
        >>> frozen = freeze(neuronal_model(presets.tiny()))
        >>> frozen(torch.rand(2, 30, 1)).shape
        torch.Size([2, 2])
    """
    frozen = copy.deepcopy(model).eval()
    for part in frozen.modules():
        if isinstance(part, MaskedLinear | Backbone | NeuronalAttention):
            part.fix()
    return frozen.requires_grad_(requires_grad=False)
