"""Build a model for a checkpoint that a stranger may have made.

    sizes  →  no number beyond what the checkpoint explains  →  shapes without memory
           →  are they the checkpoint's?  →  the model

So no memory is taken but what the checkpoint itself takes, whatever the sizes say.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nacs.errors import UserError

__all__ = ["sized"]

USUAL = 4096
"""Numbers up to this need no tensor of that length."""

FREE = ("seed", "wiring_seed", "length")
"""Numbers that nothing is as large as."""


def sized(
    build: Callable[[Any], nn.Module], sizes: Any, state: Mapping[str, Tensor]
) -> nn.Module:
    """The model of these sizes, if the checkpoint is of such a model.

    Args:
        build: From sizes to a model.
        sizes: The model's configuration.
        state: The checkpoint.

    Raises:
        UserError: If no model has these sizes, or its checkpoint has other shapes.
    """
    _check_numbers(sizes, state)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without neurons
            wanted = build(sizes).state_dict()
    except UserError:
        raise
    except Exception as error:  # there is no end to what senseless sizes lead to
        what = str(error).partition("\n")[0]
        raise UserError(f"no model can be built of its `sizes`: {what}") from error
    for name in (*wanted, *state):
        mine, found = (_shape(each, name) for each in (wanted, state))
        if mine != found:
            raise UserError(
                f"the checkpoint does not fit: expected {name} of {mine}, got {found}"
            )
    return build(sizes)


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    """As messages say it; FSDP leaves (1,) where the shape is ()."""
    if name not in state:
        return "no such tensor"
    shape = tuple(state[name].shape)
    return str(() if shape == (1,) else shape)


def _check_numbers(sizes: Any, state: Mapping[str, Tensor]) -> None:
    longest = max((side for each in state.values() for side in each.shape), default=0)
    for name, value in _numbers(sizes):
        most = len(state) if name == "layers" else max(USUAL, longest)
        if value > most:
            raise UserError(
                f"the checkpoint does not fit: expected `{name}` of at most {most}, "
                f"got {str(value)[:20]}"
            )


def _numbers(sizes: Any) -> Iterator[tuple[str, int]]:
    for field in dataclasses.fields(sizes):
        value = getattr(sizes, field.name)
        if dataclasses.is_dataclass(value):
            yield from _numbers(value)
        elif field.name not in FREE:
            several = value if isinstance(value, tuple) else (value,)
            yield from ((field.name, each) for each in several if type(each) is int)
