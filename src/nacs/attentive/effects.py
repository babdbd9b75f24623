"""How much a loss depends on every module, measured rather than read off the graph.

samples  →  what each module says  →  slope of the loss along it, squared
         →  the least of them go, a tenth at a time  →  a ranking

References:
    Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, eq 8.
    https://arxiv.org/abs/1906.10771
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nacs.attentive.model import AttentiveCircuit
from nacs.attentive.surgery import drop_modules

__all__ = ["effects", "ranked_by_effect"]


def effects(
    model: AttentiveCircuit, losses: Callable[[AttentiveCircuit], Tensor]
) -> Float[Tensor, " modules"]:
    """How much the loss depends on what each processor says to others.

    Put a gate of 1 on all values that a module sends, to processors and to the
    read-out: this is the slope of a sample's loss along the gate, squared, as a mean
    over the samples. It is 0 for a module that nobody listens to.

    Args:
        model: An unconditional circuit, in evaluation mode.
        losses: Runs the circuit once on some samples and gives the loss of each,
            (samples,); `nacs.evaluation.losses` is one.

    Returns:
        In the unit of the loss, squared.
    """
    said: list[Tensor] = []

    def listen(_layer: nn.Module, _inputs: object, values: Tensor) -> None:
        said.append(values if values.requires_grad else values.requires_grad_())

    hooks = [each.register_forward_hook(listen) for each in _senders(model)]
    try:
        with torch.enable_grad():
            total = losses(model).sum()
    finally:
        for hook in hooks:
            hook.remove()
    slopes = torch.autograd.grad(total, said)
    count = model.config.modules  # in the relay wiring readers come before them
    gates = sum(
        (values * slope).sum(-1)[..., -count:]
        for values, slope in zip(said, slopes, strict=True)
    )
    assert isinstance(gates, Tensor)
    return gates.detach().square().mean(0)


def ranked_by_effect(
    model: AttentiveCircuit, losses: Callable[[AttentiveCircuit], Tensor]
) -> Int[Tensor, " modules"]:
    """The processors from the most needed to the least, for `drop_modules`.

    A tenth of those that are left goes at a time, and what the others do is measured
    anew, for they take over what the first have done.

    Args:
        model: An unconditional circuit; it stays as it is.
        losses: As in `effects`; samples of training, so that no others choose.

    Raises:
        ValueError: If the circuit is conditional.

    Example:
        >>> from nacs.attentive import presets
        >>> model, images = AttentiveCircuit(presets.tiny()), torch.rand(8, 1, 8, 8)
        >>> ranking = ranked_by_effect(model, lambda circuit: circuit(images).std(-1))
        >>> drop_modules(model, 4, order=ranking).config.modules
        4
    """
    if model.config.generator == "conditional":
        raise ValueError(
            "a conditional circuit has modules of its own for every sample, expected "
            'an unconditional one; `drop_modules` drops its modules by "importance".'
        )
    training = model.training
    smaller = model.eval()
    left = torch.arange(model.config.modules)
    gone: list[Tensor] = []
    try:
        while len(left) > 1:
            least = effects(smaller, losses).argsort().cpu()
            few = max(1, len(left) // 10)
            gone.append(left[least[:few]])
            stay = least.flip(0)
            smaller = drop_modules(smaller, len(left) - few, order=stay)
            left = left[stay[:-few].sort().values]
    finally:
        model.train(training)
    return torch.cat([*gone, left]).flip(0)


def _senders(model: AttentiveCircuit) -> Iterable[nn.Module]:
    """What makes the values that processors send, layer by layer."""
    for layer in (*model.propagators, model.read_out):
        attention = layer.attention
        assert isinstance(attention, nn.Module)
        yield attention.get_submodule("value")
