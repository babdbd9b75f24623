"""`nacs.freeze`: any model for inference, its numbers unchanged."""

from jaxtyping import Bool
from torch import Tensor, nn

from nacs.attentive import AttentiveCircuit
from nacs.attentive import freeze as freeze_circuit
from nacs.neuronal import freeze as freeze_neuronal

__all__ = ["freeze"]


def freeze(
    model: nn.Module,
    context: Tensor | None = None,
    context_keep: Bool[Tensor, "1 context"] | None = None,
    *,
    sparse: bool = True,
    packed: bool = True,
) -> nn.Module:
    """The same model for inference: what its inputs do not change is computed once.

    Gives the numbers of the model in evaluation, to rounding; the model itself stays as
    it is. A model that is neither attentive nor neuronal has nothing to compute ahead
    and comes back as a copy in evaluation.

    Args:
        model: See `nacs.attentive.freeze` and `nacs.neuronal.freeze`.
        context: One context, for an attentive circuit that is written from one.
        context_keep: False where the context is padding.
        sparse: Whether an attentive circuit keeps few edges as a list where that is
            faster here; False for one that is to run elsewhere.
        packed: Whether it keeps large weights a second time, in the order that this
            processor's kernels read fastest.

    Raises:
        ValueError: If the circuit cannot be frozen, or a context is given to a model
            that takes none.

    Example:
        >>> import nacs
        >>> from nacs.neuronal import neuronal_model, presets
        >>> frozen = nacs.freeze(neuronal_model(presets.tiny()))
    """
    if isinstance(model, AttentiveCircuit):
        return freeze_circuit(
            model, context, context_keep, sparse=sparse, packed=packed
        )
    if context is not None:
        raise ValueError(
            f"a context is for a circuit that is written from one, got a "
            f"{type(model).__name__}; leave it out."
        )
    return freeze_neuronal(model)
