"""What a search varies: names of options, and the values that each may take.

    "training.learning_rate": "1e-4..1e-2"    a range, by its logarithm from 1 to 10 on
    "sizes.attention.top_k":  "4,8,16"        some values
    "sizes.width":            "0.5x,1x,2x"    x: times what the preset has

Names are those of the options of `nacs train`, and so are the values that are found.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from nacs.attentive import AttentiveConfig
from nacs.baselines.rivals import RivalConfig
from nacs.baselines.transformer import TransformerConfig
from nacs.errors import UserError
from nacs.models import config_from_json
from nacs.neuronal import NeuronalModelConfig
from nacs.options import flat
from nacs.recipe import TrainConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["SPACES", "changed", "default_space", "distributions"]

TRAINING = {
    "training.learning_rate": "1e-4..1e-2",
    "training.weight_decay": "1e-3..0.3",
}
GRAPH = {
    "sizes.prior": "scale-free,planted-partition,ring-of-cliques,small-world",
    "sizes.bandwidth": "0.25..1",
    "training.graph_weight": "0.01..1",
}
SPACES: dict[type[Any], dict[str, str]] = {
    AttentiveConfig: {
        **TRAINING,
        "sizes.width": "0.5x,1x,2x",
        "sizes.modules": "0.5x,1x,2x",
        "sizes.layers": "0.5x,1x,2x",
        **GRAPH,
    },
    NeuronalModelConfig: {
        **TRAINING,
        "sizes.attention.width": "0.5x,1x,2x",
        "sizes.attention.top_k": "4,8,16,32",
        "sizes.layers": "1..3",
        "sizes.hidden": "0.5x,1x,2x",
    },
    RivalConfig: {
        **TRAINING,
        "sizes.tokenizer.width": "0.5x,1x,2x",
        "sizes.layers": "1..3",
        "sizes.hidden": "0.5x,1x,2x",
    },
    TransformerConfig: {
        **TRAINING,
        "sizes.width": "0.5x,1x,2x",
        "sizes.layers": "0.5x,1x,2x",
        "sizes.hidden": "0.5x,1x,2x",
    },
}
"""What is searched where nothing was asked for, a row a kind of model."""

FOLLOWS = {
    "sizes.tokenizer.width": "sizes.attention.width",
    "sizes.attention.motor": "sizes.attention.width",
    "sizes.code": "sizes.width",
}
"""Widths that stay equal to another one where they were."""


def default_space(sizes: Any) -> dict[str, str]:
    """The row of `SPACES` for a model, without what has no effect in it."""
    space = dict(SPACES[type(sizes)])
    if isinstance(sizes, AttentiveConfig) and sizes.graph != "learned":
        space = {name: text for name, text in space.items() if name not in GRAPH}
    if isinstance(sizes, NeuronalModelConfig) and not sizes.attention.top_k:
        del space["sizes.attention.top_k"]
    return space


def distributions(
    space: Mapping[str, str], sizes: Any, training: TrainConfig
) -> "dict[str, BaseDistribution]":
    """The space as Optuna has it.

    Args:
        space: A range or some values by the name of an option; see above.
        sizes: The model's configuration, for names, types and multiples.
        training: How it is trained, likewise.

    Raises:
        UserError: If there is no such option, or no sense in its values; if Optuna is
            not installed.
    """
    known = flat(sizes, training)
    found: dict[str, BaseDistribution] = {}
    for given, text in space.items():
        name = given.removeprefix("--").replace("-", "_")
        if isinstance(known.get(name), tuple):
            raise UserError(
                f"--search {given}: is several numbers, which are not searched; give "
                f"--{given.removeprefix('--')} itself"
            )
        if name not in known:
            near = get_close_matches(name, known, 1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(
                f"--search {given}: there is no such option of `nacs train`{hint}"
            )
        found[name] = _distribution(name, text, known[name])
    return found


def _distribution(name: str, text: str, base: Any) -> "BaseDistribution":
    try:
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )
    except ImportError as error:
        raise UserError(
            "a search needs Optuna; run pip install 'nacs[tune]'"
        ) from error
    if ".." not in text:
        # Twice the same, as half and once of 1, would be drawn twice as often.
        values = dict.fromkeys(_value(name, each, base) for each in text.split(","))
        return CategoricalDistribution(list(values))
    low, high = (_value(name, each, base) for each in text.split("..", 1))
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    if not numbers or not low < high < math.inf:
        raise UserError(
            f"--search {name}={text}: expected LOW..HIGH, the lower number first, as "
            f"in {name}=1..4"
        )
    log = low > 0 and high >= 10 * low
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _value(name: str, text: str, base: Any) -> Any:
    """A value of the type that the option has."""
    text = text.strip()
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if isinstance(base, str):
        return text
    try:
        if text.endswith("x") and base is not None:
            value = float(text[:-1]) * base
            return max(1, round(value)) if isinstance(base, int) else value
        return int(text) if isinstance(base, int) else float(text)
    except ValueError as error:
        kind = type(base).__name__ if base is not None else "number"
        raise UserError(
            f"--search {name}: expected a value of type {kind}, got {text!r}"
        ) from error


def changed(
    sizes: Any, training: TrainConfig, values: Mapping[str, Any]
) -> tuple[Any, TrainConfig]:
    """A model's configuration and its training with some options changed.

    Widths that were equal to a changed one and have to be stay equal to it.

    Raises:
        UserError: If the values do not go together.
    """
    before = flat(sizes, training)
    after = dict(values)
    for follower, leader in FOLLOWS.items():
        together = leader in after and before.get(follower) == before[leader]
        if together and follower not in after:
            after[follower] = after[leader]
    # Through JSON: `config_from_json` reads lists where a configuration has tuples.
    plain = json.dumps({"sizes": asdict(sizes), "training": asdict(training)})
    found = json.loads(plain)
    for name, value in after.items():
        *path, last = name.split(".")
        part = found
        for each in path:
            part = part[each]
        part[last] = value
    return (
        config_from_json(type(sizes), found["sizes"]),
        config_from_json(TrainConfig, found["training"]),
    )
