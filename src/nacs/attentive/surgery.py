"""Make a trained circuit smaller: drop modules, eliminate edges.

References:
    Rahaman et al., Neural Attentive Circuits, NeurIPS 2022, appendix F.
    https://arxiv.org/abs/2210.08031
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from nacs.attentive.config import AttentiveConfig
from nacs.attentive.links import importance
from nacs.attentive.model import AttentiveCircuit

__all__ = ["drop_modules", "eliminate_edges", "surviving_modules"]

Order = Literal["importance", "random", "reversed"]


def surviving_modules(
    model: AttentiveCircuit,
    keep: int,
    *,
    order: Order | Int[Tensor, " modules"] | Sequence[int] = "importance",
    seed: int = 0,
) -> Int[Tensor, " kept"]:
    """Which processors of an unconditional circuit stay, in ascending order.

    Args:
        model: A circuit that is the same for all samples.
        keep: How many stay, at least 1.
        order: "importance" drops the least connected first (eq 10), "reversed" the
            most connected, "random" any; a complete graph knows no other than random.
            Or all modules from the first that stays to the first that goes, as
            `nacs.attentive.ranked_by_effect` finds them.
        seed: Of the random order.

    Raises:
        ValueError: If there is no such order, or one's own has not every module once.
    """
    count = model.config.modules
    if not isinstance(order, str):
        order = torch.as_tensor(order)
        if sorted(order.tolist()) != list(range(count)):
            raise ValueError(
                f"`order` must have each of the {count} modules once, got "
                f"{order.tolist()}."
            )
        ranked = order.long()
    elif order not in get_args(Order):
        raise ValueError(
            f"`order` must be one of {', '.join(get_args(Order))} or a ranking of all "
            f"modules, got {order!r}."
        )
    elif order == "random" or model.config.graph == "complete":
        generator = torch.Generator().manual_seed(seed)
        ranked = torch.randperm(count, generator=generator)
    else:
        with torch.no_grad():
            strength = importance(model.links())
        ranked = strength.argsort(descending=order == "importance", stable=True)
    return ranked[:keep].sort().values


def drop_modules(
    model: AttentiveCircuit,
    keep: int,
    *,
    order: Order | Int[Tensor, " modules"] | Sequence[int] = "importance",
    seed: int = 0,
) -> AttentiveCircuit:
    """A really smaller circuit of the `keep` best connected processors.

    An unconditional circuit loses the rows of the others; a conditional one keeps, for
    every sample, the modules best connected in that sample's graph. The result is saved
    and loaded as any other circuit; the model given stays as it is.

    Args:
        model: A trained circuit.
        keep: Processors that stay.
        order: Which go first; see `surviving_modules`. Conditional circuits know
            "importance" only.
        seed: Of the random order.

    Raises:
        ValueError: If `keep` is not in [1, modules], or the order is not one.
    """
    config = model.config
    _check_live(model)
    most = config.kept or config.modules
    if not hasattr(keep, "__index__") or not 1 <= keep <= most:
        raise ValueError(
            f"`keep` must lie in [1, {most}], the modules of this circuit, a whole "
            f"number, got {keep}."
        )
    state = model.state_dict()
    if config.generator == "conditional":
        if not isinstance(order, str) or order != "importance":
            told = f'"{order}"' if isinstance(order, str) else "a ranking"
            raise ValueError(
                f'a conditional circuit drops modules by "importance", got {told}.'
            )
        return _rebuild(model, replace(config, kept=keep), state)
    index = surviving_modules(model, keep, order=order, seed=seed).to(
        next(model.parameters()).device
    )
    rows = ["generator.processors."]
    rows += ["generator.inputs."] if config.wiring == "released" else []
    for name, values in state.items():
        if name.startswith(tuple(rows)):
            state[name] = values[index]
    if "labels" in state:
        state["labels"] = torch.arange(keep, device=index.device)
    return _rebuild(model, replace(config, modules=keep, kept=0), state)


def eliminate_edges(model: AttentiveCircuit, removed: float) -> AttentiveCircuit:
    """The same circuit without the weakest edges between its processors.

    Args:
        model: A trained circuit; it stays as it is.
        removed: Share of the edges that go, in [0, 1]; a module still hears itself.
            For a conditional circuit the weakest edges of every sample's own graph.

    Raises:
        ValueError: If `removed` is not in [0, 1], or no edge is weaker than another.
    """
    _check_live(model)
    if removed and model.config.graph == "complete":
        raise ValueError(
            "all edges of a complete graph are alike: expected a circuit with a graph, "
            'got graph="complete"; drop_modules makes it smaller.'
        )
    return _rebuild(
        model, replace(model.config, edges_removed=removed), model.state_dict()
    )


def _check_live(model: AttentiveCircuit) -> None:
    if model.frozen:
        raise ValueError(
            "a frozen circuit stays as it is; make the circuit it was frozen from "
            "smaller, then freeze that."
        )


def _rebuild(
    model: AttentiveCircuit, config: AttentiveConfig, state: dict[str, Tensor]
) -> AttentiveCircuit:
    """A circuit of this config with these weights, where and as the model is."""
    other = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        smaller = AttentiveCircuit(config).to(other.device, other.dtype)
    smaller.load_state_dict(state)
    learns = {name: each.requires_grad for name, each in model.named_parameters()}
    for name, each in smaller.named_parameters():
        each.requires_grad_(learns[name])
    return smaller.train(model.training)
