"""The options of `nacs train`, by name and as the words of a command line.

configurations  →  value by name  →  what differs from a preset  →  a command
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nacs.recipe import TrainConfig

__all__ = ["as_words", "flat", "train_command"]


def flat(sizes: Any, training: TrainConfig) -> dict[str, Any]:
    """Every option of a model and its training by its name, as in `nacs train`."""
    found: dict[str, Any] = {}

    def walk(prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                walk(f"{prefix}{name}.", value)
            else:
                found[prefix + name] = value

    walk("", {"sizes": asdict(sizes), "training": asdict(training)})
    return found


def as_words(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The words of a command line that turn some options into others.

    Args:
        now: From `flat`.
        before: Likewise; what is the same needs no words.
    """
    words: list[str] = []
    for name, value in now.items():
        if value == before.get(name, ...):
            continue
        path, _, last = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{path}.{'' if value else 'no-'}{last}")
        elif isinstance(value, tuple):
            words += [f"--{path}.{last}", *map(str, value)]
        else:
            words += [f"--{path}.{last}", str(value)]
    return words


def train_command(
    source: str,
    model: str,
    preset: str,
    words: Sequence[str],
    *,
    size: int | None,
    length: int | None,
) -> str:
    """The command that trains a model, as a shell reads it.

    Args:
        source: Name or path of the data.
        model: Its name in `nacs.models.MODELS`.
        preset: Of its sizes.
        words: From `as_words`.
        size: `--size`, where it was given.
        length: `--length`, likewise.
    """
    start = ["nacs", "train", source, "--model", model, "--preset", preset]
    for name, value in (("size", size), ("length", length)):
        start += [] if value is None else [f"--{name}", str(value)]
    return shlex.join([*start, *words])
