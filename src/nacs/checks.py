"""What is checked alike in many places: sizes, choices, heads, shapes.

Raises ValueError with one line: what was expected, what came, what would work.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:  # configurations need no torch
    import torch
    from torch import Tensor

__all__ = ["check_choice", "check_choices", "check_heads", "check_least", "expect"]


def check_choices(config: Any) -> None:
    """Every field that is a `Literal` has one of its values.

    Args:
        config: A dataclass.
    """
    for field in dataclasses.fields(config):
        if get_origin(field.type) is Literal:
            options, value = get_args(field.type), getattr(config, field.name)
            check_choice(field.name, value, options)


def check_choice(name: str, value: Any, options: tuple[Any, ...]) -> None:
    """A value is one of the options."""
    if value not in options:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(str, options))}, got "
            f"{value!r:.80}."
        )


def check_least(config: Any, least: int, *names: str) -> None:
    """These fields are whole numbers and no smaller than `least`."""
    for name in names:
        value = getattr(config, name)
        if not hasattr(value, "__index__"):
            raise ValueError(f"`{name}` must be a whole number, got {value!r:.80}.")
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def check_heads(width: int, heads: int) -> None:
    """There are heads, and they can share a width evenly."""
    if heads < 1:
        raise ValueError(f"`heads` must be at least 1, got {heads}.")
    if width < 1 or width % heads:
        low = max(heads, width - width % heads)
        near = " and ".join(map(str, (low, low + heads)))
        raise ValueError(
            f"`width` must be a multiple of `heads`, got width={width} and "
            f"heads={heads}; the nearest multiples are {near}."
        )


def expect(
    name: str,
    found: "Tensor",
    shape: tuple[int, ...],
    kind: "torch.dtype | None" = None,
) -> None:
    """A tensor is of this shape: torch would broadcast another, C read past its end.

    Args:
        name: What the message calls it.
        found: What came.
        shape: What it has to be.
        kind: Its type, where that counts.
    """
    if found.shape != shape or (kind is not None and found.dtype != kind):
        wanted, came = (
            f"{tuple(size)}{'' if kind is None else f' of {what}'}"
            for size, what in ((shape, kind), (found.shape, found.dtype))
        )
        raise ValueError(f"expected {name} of shape {wanted}, got {came}.")
