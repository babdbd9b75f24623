"""The tables and figures of Neural Attentive Circuits, each done again by name.

A module of this package is one experiment: `run` finds the figures, `tell` writes them
as Markdown, `draw` draws them.
"""

from importlib import import_module

from nacs.errors import UserError
from nacs.experiments.workshop import Experiment

__all__ = ["NAMES", "find"]

NAMES = {
    "table-1": "ladder",
    "figure-4": "few_shot",
    "figure-5": "drops",
    "figure-10": "edges",
    "table-2": "points",
    "table-3": "text",
    "figure-6": "conditional",
    "collapse": "collapse",
}
"""Modules by the name of what they do again, in the order of the page."""


def find(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        UserError: If there is none; lists all.
    """
    if name not in NAMES:
        raise UserError(
            f"there is no experiment '{name}'; experiments: all, {', '.join(NAMES)}."
        )
    return import_module(f"nacs.experiments.{NAMES[name]}").EXPERIMENT
