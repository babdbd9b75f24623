"""`nacs prune`: a smaller circuit from a trained one."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor
from tyro.conf import Positional

from nacs.attentive import (
    AttentiveCircuit,
    drop_modules,
    eliminate_edges,
    ranked_by_effect,
)
from nacs.console import parse, say
from nacs.data.again import own_data
from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.evaluation import evaluate, losses, moved
from nacs.models import count_parameters
from nacs.runs import facts_of, load_run, save_run, whole_folder, write_json

__all__ = ["run"]

SAMPLES = 256
"""Of training, by which effects are measured."""


@dataclass
class Options:
    """Drop modules or edges of a trained run, without retraining."""

    run: Positional[Path]
    """A run folder."""

    keep: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Share of the modules that stay, in (0, 1]."""

    edges: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Share of the edges that stay, in [0, 1]."""

    max_drop: Annotated[float | None, tyro.conf.arg(metavar="SHARE")] = None
    """Instead of --keep: search the fewest modules that lose at most this much
    validation accuracy, in [0, 1)."""

    by: Literal["importance", "effect"] = "importance"
    """Which modules go first: those least connected, as in the paper, or those on which
    the loss of some training samples depends least, which often costs less accuracy."""

    out: Path | None = None
    """Folder of the smaller run; RUN-pruned if not given."""

    json: bool = False
    """Print JSON."""


def run(arguments: list[str]) -> None:
    """Drop, measure before and after, and save the smaller run."""
    options = parse(Options, arguments, "prune", "nacs prune runs/demo --keep 0.2")
    _check(options)
    model, config = load_run(options.run)
    if not isinstance(model, AttentiveCircuit):
        raise UserError(
            f"{options.run}: only attentive circuits have modules to drop, this is "
            f"a {config['model']}."
        )
    facts = facts_of(config)
    run = options.run.resolve()  # "." has no name
    out = options.out or run.with_name(f"{run.name}-pruned")
    with whole_folder(out) as folder:
        dataset = own_data(facts)
        smaller = _pruned(model, options, dataset)
        figures = {
            "modules": smaller.config.kept or smaller.config.modules,
            "edges_removed": smaller.config.edges_removed,
            "parameters": count_parameters(smaller),
            "before": evaluate(model, dataset.test),
            "after": evaluate(smaller, dataset.test),
        }
        sizes = {"sizes": asdict(smaller.config)}
        save_run(folder, config | sizes, smaller.state_dict())
        write_json(folder / "result.json", figures)
    say(figures | {"run": str(out)}, options.json)


def _check(options: Options) -> None:
    """Raise UserError for shares that make no sense, alone or together."""
    keep, drop = options.keep, options.max_drop
    if keep is not None and not 0 < keep <= 1:
        raise UserError(f"--keep must lie in (0, 1], got {keep}; 0.2 keeps a fifth.")
    if not 0 <= options.edges <= 1:
        raise UserError(f"--edges must lie in [0, 1], got {options.edges}.")
    if drop is not None and not 0 <= drop < 1:
        raise UserError(f"--max-drop must lie in [0, 1), got {drop}; try 0.03.")
    if keep is not None and drop is not None:
        raise UserError("--keep and --max-drop exclude each other; give one of them.")
    if options.by == "effect" and keep is None and drop is None:
        raise UserError("--by effect is of modules; give --keep or --max-drop with it.")
    if keep is None and drop is None and options.edges == 1:
        raise UserError("nothing to prune; give --keep, --max-drop or --edges.")


def _pruned(
    model: AttentiveCircuit, options: Options, dataset: Dataset
) -> AttentiveCircuit:
    count = model.config.kept or model.config.modules
    if options.max_drop is None and options.keep is None:
        return eliminate_edges(model, 1 - options.edges)
    order = "importance" if options.by == "importance" else _ranking(model, dataset)
    if options.max_drop is not None:
        whole = evaluate(model, dataset.val).get("accuracy")
        if whole is None:
            raise UserError("--max-drop needs a classifier; use --keep instead.")
        low, high = 1, count
        while low < high:  # accuracy falls with modules, nearly always
            middle = (low + high) // 2
            smaller = drop_modules(model, middle, order=order)
            accuracy = evaluate(smaller, dataset.val)["accuracy"]
            good = accuracy >= whole - options.max_drop
            low, high = (low, middle) if good else (middle + 1, high)
        model = drop_modules(model, high, order=order)
    elif options.keep is not None:
        model = drop_modules(model, max(1, round(count * options.keep)), order=order)
    return eliminate_edges(model, 1 - options.edges) if options.edges < 1 else model


def _ranking(model: AttentiveCircuit, dataset: Dataset) -> Tensor:
    """Modules from the most needed to the least, by some samples of training."""
    if model.config.generator == "conditional":
        raise UserError(
            "--by effect is for circuits that are the same for all samples, this one "
            "is written from a context; use --by importance."
        )
    train = dataset.train
    drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    batch = train.batch(drawn[:SAMPLES].numpy())
    batch = moved(batch, next(model.parameters()))
    return ranked_by_effect(model, lambda circuit: losses(circuit, batch))
