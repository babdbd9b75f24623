"""`nacs data list`: the data sets known by name."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from nacs.console import parse, say
from nacs.data import NAMES

__all__ = ["run"]


@dataclass
class Options:
    """List the data sets known by name."""

    action: Positional[Literal["list"]] = "list"
    """What to do."""

    json: bool = False
    """Print JSON."""


def run(arguments: list[str]) -> None:
    """List them with a line of description each."""
    options = parse(Options, arguments, "data", "nacs data list")
    say(dict(NAMES), options.json)
