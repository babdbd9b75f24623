"""`nacs predict`: class probabilities, or numbers, for files without labels."""

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from nacs import data
from nacs.console import parse
from nacs.data.again import other_data
from nacs.data.base import DataFacts, Split
from nacs.data.download import expanded
from nacs.data.unlabelled import read_unlabelled
from nacs.errors import UserError
from nacs.evaluation import predict
from nacs.runs import facts_of, load_run

__all__ = ["run"]


MADE = ("events", "points", "times")
"""What `nacs.data.load` makes of other data, before a colon."""


@dataclass
class Options:
    """Class probabilities, or numbers, for files; labels in them are ignored."""

    run: Positional[Path]
    """A run folder."""

    paths: Positional[tuple[str, ...]]
    """Files or folders of the kind it was trained on, no shards; or the name of a data
    set, or points:, times: or events: before one, whose test split is then taken."""

    format: Literal["csv", "json"] = "csv"
    """What is printed."""


def run(arguments: list[str]) -> None:
    """One row a sample, or a frame: where it is, and a column a class or target."""
    options = parse(
        Options, arguments, "predict", "nacs predict runs/demo digit.png more-digits/"
    )
    model, config = load_run(options.run)
    facts = facts_of(config)
    if not options.paths:
        raise UserError("expected files, folders or the name of a data set, got none.")
    split = _asked(options.paths, facts)
    try:
        logits = predict(model, split)
    except ValueError as error:
        raise UserError(
            f"{', '.join(options.paths)}: does not fit this model: {error}"
        ) from error
    names = facts.classes or [f"target_{i}" for i in range(logits.shape[-1])]
    values = logits.softmax(-1) if facts.classes else logits
    ids = [str(each) for each in split.ids]
    if values.ndim == 3:  # an answer a frame
        ids = [f"{each} + {step}" for each in ids for step in range(values.shape[1])]
        values = values.flatten(0, 1)
    if values.shape[-1] != len(names):
        raise UserError(
            f"{options.run / 'config.json'}: expected {values.shape[-1]} classes, as "
            f"the model has, got {len(names)}."
        )
    rows = list(zip(ids, values.tolist(), strict=True))
    if options.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(["id", *names])
        writer.writerows([each, *row] for each, row in rows)
        return
    if len({"id", *names}) <= len(names):
        raise UserError(
            "JSON has one value a name, and a class is called id or as another; "
            "--format csv has a column for each."
        )
    told = [{"id": each, **dict(zip(names, row, strict=True))} for each, row in rows]
    print(json.dumps(told, indent=2))


def _asked(paths: tuple[str, ...], facts: DataFacts) -> Split:
    """The samples that were asked about, under the scale of the training data."""
    made = paths[0].partition(":")[0] in MADE and ":" in paths[0]
    if len(paths) == 1 and (paths[0] in data.NAMES or made):
        return other_data(paths[0], facts).test
    return read_unlabelled([expanded(path) for path in paths], facts)
