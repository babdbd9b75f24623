"""`nacs evaluate`: measure a trained run."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from nacs.console import parse, say
from nacs.data.again import other_data, own_data
from nacs.errors import UserError
from nacs.evaluation import evaluate
from nacs.runs import facts_of, load_run

__all__ = ["run"]


@dataclass
class Options:
    """Measure a trained run on the test split of its data, or of other data."""

    run: Positional[Path]
    """A run folder."""

    data: str = ""
    """Other data than it was trained on: a name or a path."""

    drop: float = 0.0
    """Leave out this share of the observations of every series, in [0, 1)."""

    json: bool = False
    """Print JSON."""


def run(arguments: list[str]) -> None:
    """Other data is read, scaled, labelled and cut as the training data was."""
    options = parse(Options, arguments, "evaluate", "nacs evaluate runs/demo --json")
    model, config = load_run(options.run)
    facts = facts_of(config)
    if not 0 <= options.drop < 1:
        raise UserError(f"--drop must lie in [0, 1), got {options.drop}.")
    dataset = other_data(options.data, facts) if options.data else own_data(facts)
    if options.drop and dataset.kind != "series":
        raise UserError(f"--drop is for series, {dataset.name} holds {dataset.kind}.")
    try:
        test = dataset.test.thinned(options.drop) if options.drop else dataset.test
        figures = evaluate(model, test)
    except ValueError as error:
        raise UserError(f"{dataset.name} does not fit this model: {error}") from error
    say(figures, options.json)
