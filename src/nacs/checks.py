"""What configurations check alike: sizes, choices, heads.

Raises ValueError with one line: what was expected, what came, what would work.
"""

import dataclasses
from typing import Any, Literal, get_args, get_origin

__all__ = ["check_choices", "check_heads", "check_least"]


def check_choices(config: Any) -> None:
    """Every field that is a `Literal` has one of its values.

    Args:
        config: A dataclass.
    """
    for field in dataclasses.fields(config):
        options, value = get_args(field.type), getattr(config, field.name)
        if get_origin(field.type) is Literal and value not in options:
            raise ValueError(
                f"`{field.name}` must be one of {', '.join(map(str, options))}, got "
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
