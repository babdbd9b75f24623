"""Every model by name: its configuration and how it is built."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from torch import nn

from nacs.attentive import AttentiveCircuit, AttentiveConfig, presets
from nacs.baselines.transformer import Transformer, TransformerConfig
from nacs.errors import UserError
from nacs.tokenizers import TokenizerConfig

__all__ = ["MODELS", "Model", "config_from_json", "count_parameters", "lookup"]


@dataclass(frozen=True)
class Model:
    """A row of the table: a configuration class, what builds it, a preset by name."""

    config: type[Any]
    build: Callable[[Any], nn.Module]
    preset: Callable[[str], Any]


def _transformer_preset(name: str) -> TransformerConfig:
    like = presets.preset(name)
    return TransformerConfig(
        tokenizer=like.tokenizer,
        classes=like.classes,
        width=like.width,
        layers=like.layers,
        heads=like.heads,
        hidden=like.hidden,
    )


def _rung(rung: str) -> Callable[[str], AttentiveConfig]:
    return lambda name: presets.ablation(presets.preset(name))[rung]


MODELS: dict[str, Model] = {
    "attentive": Model(AttentiveConfig, AttentiveCircuit, presets.preset),
    "perceiver": Model(
        AttentiveConfig,
        AttentiveCircuit,
        lambda name: presets.perceiver(presets.preset(name)),
    ),
    "perceiver-modfc": Model(AttentiveConfig, AttentiveCircuit, _rung("+modfc")),
    "frozen-graph": Model(AttentiveConfig, AttentiveCircuit, _rung("+sparse-graph")),
    "transformer": Model(TransformerConfig, Transformer, _transformer_preset),
}


def lookup(name: str) -> Model:
    """The row of the table called `name`.

    Raises:
        UserError: If there is none; names the nearest and lists all.
    """
    if name in MODELS:
        return MODELS[name]
    near = get_close_matches(name, MODELS, 1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise UserError(
        f"There is no model '{name}'{hint} Models: {', '.join(sorted(MODELS))}."
    )


def config_from_json(kind: type[Any], values: dict[str, Any]) -> Any:
    """A configuration dataclass from its JSON, with every name and type checked.

    Raises:
        UserError: If a field is unknown or has a value of another type.
    """
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(
            f"{kind.__name__} has no field {', '.join(map(repr, unknown))}; "
            f"fields: {', '.join(hints)}."
        )
    made = {name: _coerce(hints[name], value, name) for name, value in values.items()}
    try:
        return kind(**made)
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from error


def _coerce(hint: Any, value: Any, name: str) -> Any:
    options = get_args(hint) or (hint,)
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(value, dict):
            assert isinstance(option, type)
            return config_from_json(option, value)
    if isinstance(value, list):
        return tuple(value)
    plain = {each for each in options if each in (int, float, str, bool)}
    if float in plain and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if plain and value is not None and type(value) not in plain:
        wanted = " or ".join(sorted(each.__name__ for each in plain))
        raise UserError(f"`{name}` must be {wanted}, got {value!r}.")
    return value


def fitted(config: Any, tokenizer: TokenizerConfig, classes: int) -> Any:
    """The configuration with a data set's tokenizer and number of answers."""
    return replace(config, tokenizer=tokenizer, classes=classes)


def count_parameters(model: nn.Module) -> int:
    """Parameters, trained or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())
