"""The layers whose pairs compiled code works on, and how it is called (docs/adr/0009).

It does what `NeuronalAttention` does in torch, keeps nothing of a pair for the way back
and does the forward again there: the memory of training is that of the tokens.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor

from nacs.native.calls import attend
from nacs.native.parts import usable
from nacs.neuronal.config import NeuronalConfig
from nacs.neuronal.pairs import Pairs
from nacs.neuronal.sparse import Backbone

__all__ = ["Learned", "hear", "serves", "stamps"]


class Learned(NamedTuple):
    """What a layer has learned about pairs."""

    backbone: Backbone | None
    log_scale: Float[Tensor, " heads"] | None
    log_pace: Float[Tensor, " heads"] | None


def stamps(
    query_times: Num[Tensor, "batch queries"] | None,
    key_times: Num[Tensor, "batch keys"] | None,
    kind: torch.dtype,
) -> list[Tensor]:
    """Time stamps in a layer's type; of another, as time since the first key."""
    times = [x for x in (query_times, key_times) if x is not None]
    if key_times is None or all(x.dtype == kind for x in times):
        return times
    return [(x - key_times[:, :1]).to(kind) for x in times]


def serves(
    config: NeuronalConfig, q: Tensor, k: Tensor, v: Tensor, times: list[Tensor]
) -> bool:
    """Whether compiled code can do this layer's work on these tensors.

    Args:
        config: Of the layer.
        q: Queries, (batch heads queries head_width).
        k: Keys.
        v: Values.
        times: Time stamps; compiled code gives them no gradient.
    """
    used = times if config.timed else []
    return (
        not torch.compiler.is_exporting()  # a program has to run without nacs
        and config.solver in {"exact", "score"}
        and config.horizon != "gate"
        and config.integration == "none"
        and 0 < config.top_k < k.shape[2]
        and not any(x.requires_grad for x in used)
        and usable(q, k, v, *used)
    )


def hear(
    learned: Learned,
    q: Float[Tensor, "batch heads queries head_width"],
    k: Float[Tensor, "batch heads keys head_width"],
    v: Float[Tensor, "batch heads keys head_width"],
    pairs: Pairs,
    times: list[Tensor],
    *,
    from_score: bool,
) -> tuple[
    Float[Tensor, "batch heads queries head_width"],
    Float[Tensor, "batch heads queries pairs"],
]:
    """What the queries hear, and the weights of their pairs.

    Args:
        learned: Of the layer; without a backbone the score itself is the logit.
        q: Queries.
        k: Keys.
        v: Values.
        pairs: Selected keys.
        times: Time stamps of queries and keys; empty where the horizon is 1.
        from_score: Whether logits start from the score.
    """
    assert pairs.chosen is not None
    rows, circuit, backbone = [q, k, v], [], learned.backbone
    if backbone is not None:
        rows += [backbone.from_queries(q), backbone.from_keys(k)]
        bias = backbone.command.bias
        assert bias is not None
        command, recurrent = backbone.command.synapses, backbone.recurrent.synapses
        circuit = [command, bias, recurrent, *backbone.heads()]
    if learned.log_pace is not None and backbone is not None:
        times = [*times, learned.log_pace.exp()]
    else:
        times = []
    scale = None if learned.log_scale is None else learned.log_scale.exp()
    return attend(rows, pairs.chosen, pairs.alive, times, scale, circuit, from_score)
