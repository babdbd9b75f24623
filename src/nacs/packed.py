"""Linear layers with their weights in the order that oneDNN's kernels read them.

A processor's product of a few rows with a large matrix spends half its time on weights
that lie in an unsuitable order. Weights that no longer change are put into a better one
once, by the operators that torch's compiler uses for frozen weights (docs/adr/0010).
"""

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PackedLinear", "pack"]

OPERATORS: Any = torch.ops.mkldnn

KINDS = (torch.float32, torch.bfloat16)
"""Types that the operators work on."""

SMALLEST, FEWEST = 2**16, 8
"""Weights of a layer, and rows, below which calling the operators costs more than they
save; measured at 64 to 384 channels."""


class PackedLinear(nn.Linear):
    """A linear layer for inference on a processor; elsewhere a plain one.

    It keeps the weights as they are as well, for gradients of its input, for other
    devices and types, for compilers and exporters: they take their memory twice.

    Args:
        layer: Whose weights are taken.
        rows: How many a product usually has; others give the same numbers.
    """

    def __init__(self, layer: nn.Linear, rows: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.rows = rows
        self.packed: Any = self._in_order()

    def _in_order(self) -> Any:
        self.known: Any = (self.weight, _version(self.weight))
        if not _suits(self.weight):
            return None
        return OPERATORS._reorder_linear_weight(self.weight.detach(), self.rows)

    def _apply(self, *given: Any, **options: Any) -> Self:
        """Of another type or device: pack again, or no longer."""
        super()._apply(*given, **options)
        self.packed = self._in_order()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": None, "known": None}  # not to be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.packed = self._in_order()

    def forward(
        self,
        input: Float[Tensor, "*batch in"],
    ) -> Float[Tensor, "*batch out"]:
        """The same numbers as `nn.Linear`, to rounding."""
        if self._serves(input):
            return OPERATORS._linear_pointwise(
                input, self.packed, self.bias, "none", [], ""
            )
        return F.linear(input, self.weight, self.bias)

    def _serves(self, input: Tensor) -> bool:
        """Whether the packed weights are those of now, and do for this input."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return False
        weight = self.weight
        learning = torch.is_grad_enabled() and input.requires_grad
        return (
            self.packed is not None
            and self.known[0] is weight
            and self.known[1] == _version(weight)
            and input.dtype == weight.dtype
            and input.device == weight.device
            and not learning
            and not torch.is_autocast_enabled("cpu")
        )


@torch.no_grad()
def pack(model: nn.Module, rows: int) -> None:
    """Put the weights of large linear layers of a frozen model in order, where it pays.

    That is for `KINDS` on a processor, where torch has the operators for it.

    Args:
        model: In evaluation; weights that change later are used as they are.
        rows: How many rows a product usually has.
    """
    if rows < FEWEST or not hasattr(OPERATORS, "_reorder_linear_weight"):
        return
    for part in list(model.modules()):
        for name, layer in list(part.named_children()):
            if type(layer) is not nn.Linear or not _suits(layer.weight):
                continue
            if layer.weight.numel() >= SMALLEST:
                setattr(part, name, PackedLinear(layer, rows))


def _suits(weight: Tensor) -> bool:
    if weight.dtype not in KINDS or weight.device.type != "cpu":
        return False
    # The operators refuse bfloat16 where the processor has no instructions for it.
    half = weight.dtype == torch.bfloat16
    return not half or bool(OPERATORS._is_mkldnn_bf16_supported())


def _version(weight: Tensor) -> int:
    """It changes with the numbers, but in inference mode."""
    return 0 if weight.is_inference() else weight._version
