"""Look into a trained layer: what its neurons do, and who drives whom.

The circuit of a layer is small enough to be read neuron by neuron: `observe` runs it
on some tokens and keeps what every neuron did for every pair, `synapses` lists who is
wired to whom and how much of it was used.

References:
    Lechner et al., Neural circuit policies enabling auditable autonomy, 2020.
    https://doi.org/10.1038/s42256-020-00237-3
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nacs.attentive.attention import split_heads
from nacs.neuronal.attention import NeuronalAttention
from nacs.neuronal.pairs import gather, top_k
from nacs.neuronal.sparse import Backbone
from nacs.tokenizers import without_padding

__all__ = ["GROUPS", "Activity", "Synapse", "observe", "synapses"]

GROUPS = ("sensory", "inter", "command", "motor")
"""Groups of neurons, from input to output."""


class Activity(NamedTuple):
    """What a layer did, pair by pair."""

    chosen: Int[Tensor, "batch heads queries pairs"]
    """Positions of the keys."""

    alive: Bool[Tensor, "#batch #heads #queries pairs"] | None
    """False where a position only fills up, see `Pairs`; None where all count."""

    sensory: Float[Tensor, "batch heads queries pairs sensory"]
    """The pair itself: the query's channels, then the key's."""

    inter: Float[Tensor, "batch heads queries pairs inter"]
    before: Float[Tensor, "batch heads queries pairs command"]
    """Command neurons before they heard each other."""

    command: Float[Tensor, "batch heads queries pairs command"]
    motor: Float[Tensor, "batch heads queries pairs motor"]

    drive: Float[Tensor, "batch heads queries pairs"]
    """φ: where the logit is pulled."""

    time_constant: Float[Tensor, "batch heads queries pairs"]
    """1/ω: how long it takes, in units of the horizon."""


@dataclass(frozen=True, slots=True)
class Synapse:
    """One connection of the circuit."""

    source: str
    """Group and number of the sender, as in inter 3."""

    target: str
    """Group and number of the receiver."""

    weight: float
    """As trained; positive excites, negative inhibits."""

    flow: float
    """Mean of |weight · sender's activity| over the pairs observed."""


@torch.no_grad()
def observe(
    layer: NeuronalAttention,
    tokens: Float[Tensor, "batch tokens width"],
    keep: Bool[Tensor, "batch tokens"] | None = None,
) -> Activity:
    """Run self-attention's circuit on tokens and keep what every neuron did.

    Args:
        layer: A layer that has a circuit.
        tokens: What it attends over.
        keep: False where a token is padding.

    Raises:
        ValueError: If the layer is a control without a circuit.
    """
    backbone = _backbone(layer)
    tokens = without_padding(tokens, keep)
    q, k = (
        split_heads(gate(tokens), layer.config.heads)
        for gate in (layer.query, layer.key)
    )
    config = layer.config
    if config.selection == "blocks":
        found, alive = layer.by_blocks(q, k, keep)
    else:
        found, alive = top_k(
            q,
            k,
            None,
            config.top_k,
            keep=keep,
            causal=config.causal,
            window=config.window,
        )
    if found is None:
        count = torch.arange(k.shape[2], device=k.device)
        found = count.expand(*q.shape[:3], -1)
    asked, told = q.unsqueeze(3).expand(*found.shape, -1), gather(k, found)
    inter, before, command = backbone.stages(
        backbone.from_queries(asked), backbone.from_keys(told)
    )
    drive, rate = backbone.gates(command)
    return Activity(
        chosen=found,
        alive=alive,
        sensory=torch.cat([asked, told], -1),
        inter=inter,
        before=before,
        command=command,
        motor=backbone.motor(command),
        drive=drive,
        time_constant=1 / rate,
    )


@torch.no_grad()
def synapses(layer: NeuronalAttention, activity: Activity) -> list[Synapse]:
    """Every synapse of the circuit with the traffic it carried, the busiest first.

    Args:
        layer: The layer that was observed.
        activity: What it did.
    """
    backbone = _backbone(layer)
    there = torch.ones_like(activity.chosen, dtype=torch.bool)
    if activity.alive is not None:
        there &= activity.alive
    there = there.flatten()
    first = torch.cat(
        [backbone.from_queries.synapses, backbone.from_keys.synapses], dim=1
    )
    wires = (
        ("sensory", "inter", first, activity.sensory),
        ("inter", "command", backbone.command.synapses, activity.inter),
        ("command", "command", backbone.recurrent.synapses, activity.before),
        ("command", "motor", backbone.motor.synapses, activity.command),
    )
    found: list[Synapse] = []
    for source, target, weights, sent in wires:
        busy = sent.abs().flatten(0, -2)[there].sum(0) / there.sum().clamp(min=1)
        for receiver, sender in weights.nonzero().tolist():
            weight = weights[receiver, sender].item()
            found.append(
                Synapse(
                    f"{source} {sender}",
                    f"{target} {receiver}",
                    weight,
                    abs(weight) * busy[sender].item(),
                )
            )
    return sorted(found, key=lambda each: -each.flow)


def _backbone(layer: NeuronalAttention) -> Backbone:
    if layer.backbone is None:
        raise ValueError(
            f"a layer with solver={layer.config.solver!r} has no circuit to look into; "
            "use exact, euler or steady."
        )
    return layer.backbone
