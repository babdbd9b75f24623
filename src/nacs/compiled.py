"""Layers that torch compiles, each kind once, for batches of all sizes."""

from torch import nn
from torch.fx.experimental import _config as shapes

__all__ = ["compile_parts"]


def compile_parts(model: nn.Module, backend: str = "inductor") -> None:
    """Have torch compile a model's layers when they first run; names stay as they are.

    Layers of the same kind share one compilation, whose time does not grow with their
    number, and no size of a batch but 1 has one of its own.

    Args:
        model: Any model; one without propagators is compiled as a whole.
        backend: Of `torch.compile`.
    """
    # Else a batch that happens to be as large as a width is taken for that width.
    shapes.use_duck_shape = False
    for part in getattr(model, "propagators", [model]):
        part.compile(dynamic=True, backend=backend)
