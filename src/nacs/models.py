"""Every model by name: its configuration and how it is built."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from nacs.attentive import AttentiveCircuit, AttentiveConfig, presets
from nacs.baselines.joint import JointPerceiver
from nacs.baselines.rivals import MIXERS, RivalConfig, rival
from nacs.baselines.transformer import Transformer, TransformerConfig
from nacs.checks import check_choice
from nacs.errors import UserError
from nacs.neuronal import NeuronalModelConfig, neuronal_model
from nacs.neuronal import presets as neuronal_presets
from nacs.neuronal.sparse import MaskedLinear

__all__ = ["MODELS", "Model", "config_from_json", "count_parameters", "lookup"]


@dataclass(frozen=True)
class Model:
    """A row of the table: a configuration class, what builds it, a preset by name."""

    config: type[Any]
    build: Callable[[Any], nn.Module]
    presets: Mapping[str, Callable[[], Any]]

    def preset(self, name: str) -> Any:
        """A configuration by name.

        Raises:
            UserError: If there is none; lists all.
        """
        if name not in self.presets:
            raise UserError(
                f"there is no preset '{name}'; presets: {', '.join(self.presets)}."
            )
        return self.presets[name]()


def _transformer(like: AttentiveConfig) -> TransformerConfig:
    return TransformerConfig(
        tokenizer=like.tokenizer,
        classes=like.classes,
        width=like.width,
        layers=like.layers,
        heads=like.heads,
        hidden=like.hidden,
    )


def _derived(
    change: Callable[[AttentiveConfig], Any],
) -> dict[str, Callable[[], Any]]:
    """Presets of the attentive circuit, changed into those of a rival of its size."""
    return {
        name: lambda like=like: change(like()) for name, like in presets.PRESETS.items()
    }


def _rival(mixer: Any) -> dict[str, Callable[[], RivalConfig]]:
    """Presets of a rival of the neuronal model, of the same widths and layers."""

    def like(config: NeuronalModelConfig) -> RivalConfig:
        return RivalConfig(
            mixer=mixer,
            tokenizer=config.tokenizer,
            classes=config.classes,
            heads=config.attention.heads,
            layers=config.layers,
            hidden=config.hidden,
            pooling=config.pooling,
        )

    return {
        "small": lambda: like(neuronal_presets.small()),
        "tiny": lambda: like(neuronal_presets.tiny()),
    }


MODELS: dict[str, Model] = {
    "attentive": Model(AttentiveConfig, AttentiveCircuit, presets.PRESETS),
    "neuronal": Model(NeuronalModelConfig, neuronal_model, neuronal_presets.PRESETS),
    "perceiver": Model(AttentiveConfig, AttentiveCircuit, _derived(presets.perceiver)),
    "joint-perceiver": Model(
        AttentiveConfig, JointPerceiver, _derived(presets.perceiver)
    ),
    "perceiver-modfc": Model(
        AttentiveConfig,
        AttentiveCircuit,
        _derived(lambda like: presets.ablation(like)["+modfc"]),
    ),
    "frozen-graph": Model(
        AttentiveConfig,
        AttentiveCircuit,
        _derived(lambda like: presets.ablation(like)["+sparse-graph"]),
    ),
    "transformer": Model(TransformerConfig, Transformer, _derived(_transformer)),
    **{name: Model(RivalConfig, rival, _rival(name)) for name in MIXERS},
}
"""A row a model. A rival is one file and one row."""


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
        named = ", ".join(map(repr, unknown))
        raise UserError(
            f"{kind.__name__} has no field {named:.200}; fields: {', '.join(hints)}."
        )
    try:
        made = {name: _coerce(hints[name], each, name) for name, each in values.items()}
        return kind(**made)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(str(error)) from error


def _coerce(hint: Any, value: Any, name: str) -> Any:
    options = get_args(hint) or (hint,)
    if get_origin(hint) is Literal:
        check_choice(name, value, options)
        return value
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return _tuple(options, value, name)
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(value, dict):
            assert isinstance(option, type)
            return config_from_json(option, value)
    if isinstance(value, list):
        several = next((each for each in options if get_origin(each) is tuple), None)
        return _tuple(get_args(several), value, name) if several else tuple(value)
    plain = {each for each in options if each in (int, float, str, bool)}
    if float in plain and isinstance(value, int) and not isinstance(value, bool):
        return _real(value, name)
    known = plain | {each for each in options if each is type(None)}
    known |= {dict for each in options if dataclasses.is_dataclass(each)}
    if known and type(value) not in known:
        wanted = " or ".join(sorted(each.__name__ for each in known))
        raise UserError(f"`{name}` must be {wanted}, got {value!r:.80}.")
    return value


def _real(value: int, name: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise UserError(f"`{name}` is too large, got {str(value)[:20]}...") from error


def _tuple(kinds: tuple[Any, ...], values: Sequence[Any], name: str) -> tuple[Any, ...]:
    """A tuple of as many values, and of those types, as its annotation says."""
    if Ellipsis in kinds:
        kinds = kinds[:1] * len(values)
    if len(kinds) != len(values):
        raise UserError(f"`{name}` must have {len(kinds)} values, got {len(values)}.")
    return tuple(_coerce(k, v, name) for k, v in zip(kinds, values, strict=True))


def count_parameters(model: nn.Module) -> int:
    """Parameters, trained or frozen; a synapse that a wiring removed is none."""
    masks = (part.mask for part in model.modules() if isinstance(part, MaskedLinear))
    removed = sum(
        int((~mask).sum().item())
        for mask in masks
        if mask is not None and not mask.is_meta
    )
    return sum(parameter.numel() for parameter in model.parameters()) - removed
