"""`nacs reproduce`: a table or figure of the paper, from nothing to its picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tyro.conf import Positional

from nacs.console import parse
from nacs.errors import UserError
from nacs.experiments import NAMES, find
from nacs.experiments.page import page
from nacs.experiments.workshop import Experiment, Scale, Workshop
from nacs.runs import provenance, write_json, written

__all__ = ["run"]


@dataclass
class Options:
    """Do tables and figures of Neural Attentive Circuits again.

    What was trained or measured before is kept: a run that was killed goes on when the
    same command is given again.
    """

    names: Positional[tuple[str, ...]]
    """Which: table-1, figure-4, figure-5, figure-10, table-2, table-3, figure-6,
    collapse, or all."""

    scale: Scale = "here"
    """smoke: a minute each; here: hours on two processor cores; paper: the recipe of
    tables 4 and 5, for GPUs under `accelerate launch`."""

    data: Path | None = None
    """Folder of data files, so that they are not downloaded."""

    out: Path = Path("runs/reproduce")
    """Folder of the trained runs."""

    results: Path | None = None
    """Folder of NAME.json and NAME.png, beside which the page is written; OUT/SCALE/
    results if not given."""


EXAMPLE = "nacs reproduce table-1 --scale smoke"


def run(arguments: list[str]) -> None:
    """Do what is asked, one after another, and write the page after each."""
    options = parse(Options, arguments, "reproduce", EXAMPLE)
    names = tuple(NAMES) if "all" in options.names else options.names
    if not names:
        raise UserError(f"expected a name: all, {', '.join(NAMES)}.")
    experiments = {name: find(name) for name in names}
    if options.data is not None and not options.data.is_dir():
        raise UserError(f"{options.data}: no such folder.")
    folder = options.out / options.scale
    results = options.results or folder / "results"
    for name, experiment in experiments.items():
        found = experiment.run(Workshop(folder, options.scale, options.data))
        if Accelerator().is_main_process:
            told = {"command": f"nacs reproduce {name} --scale {options.scale}"}
            write_json(results / f"{name}.json", told | provenance() | {"found": found})
            _write(name, experiment, found, results)
    if Accelerator().is_main_process:
        print(f"page: {results.with_suffix('.md')}")


def _write(name: str, experiment: Experiment, found: Any, results: Path) -> None:
    """The picture, the page, and the figures on the screen."""
    if experiment.draw is not None:
        experiment.draw(found, results / f"{name}.png")
    with written(results.with_suffix(".md")) as beside:
        beside.write_text(page(results), encoding="utf-8")
    print(f"{results / f'{name}.json'}\n\n{experiment.tell(found)}")
