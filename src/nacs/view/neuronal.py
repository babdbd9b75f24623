"""A neuronal model as the page draws it: wiring in layers, activity, time constants."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.evaluation import moved
from nacs.neuronal.attention import NeuronalAttention
from nacs.neuronal.inspect import GROUPS, Activity, observe, synapses
from nacs.view.numbers import rounded
from nacs.view.sample import check_sample

__all__ = ["layers_of", "neuronal_part"]

MOST_SYNAPSES = 600
MOST_QUERIES = 256
PAIRS = 8


def layers_of(model: nn.Module) -> list[NeuronalAttention]:
    """The neuronal layers that have a circuit to look into, from input to output."""
    found = [each for each in model.modules() if isinstance(each, NeuronalAttention)]
    return [each for each in found if each.backbone is not None]


@torch.no_grad()
def neuronal_part(
    model: nn.Module, dataset: Dataset, index: int, number: int = 0
) -> dict[str, Any]:
    """What one layer's circuit did on one sample.

    Args:
        model: In evaluation mode.
        dataset: Whose test split the sample is of.
        index: Which.
        number: Of the layer, among `layers_of`.

    Raises:
        UserError: If there is no such sample or layer.
    """
    check_sample(dataset, index)
    layers = layers_of(model)
    if not 0 <= number < len(layers):
        raise UserError(f"layer must lie in [0, {len(layers) - 1}], got {number}.")
    tokens, times, keep = _heard(model, layers[number], dataset, index)
    layer = layers[number]
    activity = observe(layer, tokens, keep)
    wires = synapses(layer, activity)
    return {
        "layer": number,
        "groups": {name: _busy(getattr(activity, name)) for name in GROUPS},
        "synapses": [_wire(each) for each in wires[:MOST_SYNAPSES]],
        "synapse_count": len(wires),
        "activity": _along(activity),
        "times": None if times is None else rounded(times[0][:MOST_QUERIES]),
        "time_constants": _histogram(activity.time_constant),
        "logits": _by_query(activity),
    }


def _heard(
    model: nn.Module, layer: NeuronalAttention, dataset: Dataset, index: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Tokens, times and mask that the layer gets as the model runs on the sample."""
    got: dict[str, Any] = {}

    def listen(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        got.update(named, tokens=given[0])

    hook = layer.register_forward_pre_hook(listen, with_kwargs=True)
    batch = moved(dataset.test.batch([index]), next(model.parameters()))
    try:
        model(batch.inputs, batch.keep, batch.context, batch.context_keep)
    finally:
        hook.remove()
    return got["tokens"], got.get("query_times"), got.get("keep")


def _busy(states: Tensor) -> list[float]:
    return rounded(states.abs().flatten(0, -2).mean(0).cpu())


def _wire(each: Any) -> list[Any]:
    """Sender, receiver, weight and traffic."""
    return [each.source, each.target, round(each.weight, 4), round(each.flow, 6)]


def _along(activity: Activity) -> dict[str, list[Any]]:
    """Mean activity (neurons, queries) over heads and pairs, without the sensory."""
    found: dict[str, list[Any]] = {}
    for name in GROUPS[1:]:
        states = getattr(activity, name)[0].mean((0, 2))[:MOST_QUERIES]
        found[name] = rounded(states.mT.cpu())
    return found


def _histogram(taken: Tensor) -> dict[str, Any]:
    values = taken.flatten().cpu().numpy()
    counts, edges = np.histogram(values[values <= np.quantile(values, 0.99)], 32)
    return {"edges": rounded(edges), "counts": counts.tolist()}


def _by_query(activity: Activity) -> dict[str, Any]:
    """Drive φ, time constant 1/ω and key of the first head's pairs (queries, pairs).

    The last queries, if there are more than `MOST_QUERIES`; `first` is their first.
    """
    queries = activity.drive.shape[2]
    part = (0, 0, slice(max(0, queries - MOST_QUERIES), queries), slice(PAIRS))
    return {
        "first": max(0, queries - MOST_QUERIES),
        "keys": activity.chosen[part].tolist(),
        "drive": rounded(activity.drive[part].cpu()),
        "time_constant": rounded(activity.time_constant[part].cpu()),
    }
