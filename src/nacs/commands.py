"""What the verbs of the command line do."""

import csv
import json
import math
import sys
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import nn
from tyro.conf import Positional

from nacs import data as datasets
from nacs.attentive import AttentiveCircuit, drop_modules, eliminate_edges
from nacs.attentive.presets import PRESETS
from nacs.console import first_look, parse, say
from nacs.data.base import Dataset, Split
from nacs.errors import UserError
from nacs.evaluation import evaluate as measure
from nacs.evaluation import predict as logits_of
from nacs.flops import multiply_adds
from nacs.graph import circuit_graph
from nacs.models import MODELS, count_parameters, lookup
from nacs.recipe import TrainConfig
from nacs.runs import load_run, read_json, save_run, write_json
from nacs.tasks import default_preset, tokenizer_for
from nacs.train import train as run_training

__all__ = ["data", "demo", "describe", "evaluate", "predict", "prune", "train"]


@dataclass
class TrainOptions:
    """Train a model on a named data set or a path, and leave a run folder."""

    source: Positional[str]
    """A name from `nacs data`, or the path of a file or folder."""

    model: str = "attentive"
    """Which model; see `nacs describe --models`."""

    preset: str = ""
    """Sizes; chosen by the data if not given."""

    out: Path | None = None
    """Run folder; runs/SOURCE-MODEL if not given."""

    json: bool = False
    """Print the result as JSON."""


def train(arguments: list[str]) -> None:
    """`nacs train`: the configuration classes are options, presets the defaults."""
    example = "nacs train mnist-5k --preset demo --training.epochs 10"
    plain = [each for each in arguments if each not in {"-h", "--help"}]
    if plain == arguments:
        first = first_look(TrainOptions, plain, "train")
        dataset = datasets.load(first.source)
        preset = first.preset or default_preset(dataset)
        sizes = _sized(first.model, preset, dataset)
    else:
        sizes = lookup("attentive").preset("demo")
    kind = make_dataclass(
        "Train",
        [
            ("sizes", type(sizes), field(default=sizes)),
            ("training", TrainConfig, field(default=TrainConfig())),
        ],
        bases=(TrainOptions,),
        kw_only=True,
    )
    kind.__doc__ = TrainOptions.__doc__
    options = parse(kind, arguments, "train", example)
    dataset = datasets.load(options.source)
    name = Path(options.source).stem
    out = options.out or Path("runs") / f"{name}-{options.model}"
    result = run_training(options.model, options.sizes, dataset, options.training, out)
    say(result if options.json else _short(result, out), options.json)


def _sized(model: str, preset: str, dataset: Dataset) -> Any:
    row = lookup(model)
    if preset not in PRESETS:
        raise UserError(
            f"there is no preset '{preset}'; presets: {', '.join(PRESETS)}."
        )
    sizes = row.preset(preset)
    tokenizer = tokenizer_for(dataset, sizes.tokenizer)
    return replace(sizes, tokenizer=tokenizer, classes=dataset.outputs)


def _short(result: dict[str, Any], out: Path) -> dict[str, Any]:
    shown = {k: v for k, v in result.items() if k.startswith("test_")}
    return shown | {"seconds": result["seconds"], "run": str(out)}


@dataclass
class EvaluateOptions:
    """Measure a trained run on the test split of its data, or of other data."""

    run: Positional[Path]
    """A run folder."""

    data: str = ""
    """Other data than it was trained on: a name or a path."""

    json: bool = False
    """Print JSON."""


def evaluate(arguments: list[str]) -> None:
    """`nacs evaluate`."""
    options = parse(
        EvaluateOptions, arguments, "evaluate", "nacs evaluate runs/demo --json"
    )
    model, config = load_run(options.run)
    dataset = datasets.load(options.data or config["data"])
    try:
        figures = measure(model, dataset.test)
    except ValueError as error:
        raise UserError(f"{dataset.name} does not fit this model: {error}") from error
    say(figures, options.json)


@dataclass
class PredictOptions:
    """Class probabilities (or targets) for the test split of a data set or path."""

    run: Positional[Path]
    """A run folder."""

    source: Positional[str]
    """A name or a path that `nacs train` reads."""

    format: Literal["csv", "json"] = "csv"
    """What is printed."""


def predict(arguments: list[str]) -> None:
    """`nacs predict`."""
    options = parse(
        PredictOptions, arguments, "predict", "nacs predict runs/demo mnist-5k"
    )
    model, _ = load_run(options.run)
    known = read_json(options.run / "data.json")
    dataset = datasets.load(options.source)
    split = _scaled(dataset.test, known)
    try:
        logits = logits_of(model, split)
    except ValueError as error:
        raise UserError(f"{options.source} does not fit: {error}") from error
    names = known["classes"] or [f"target_{i}" for i in range(logits.shape[-1])]
    values = logits.softmax(-1) if known["classes"] else logits
    rows = [
        {"id": str(each), **dict(zip(names, row, strict=True))}
        for each, row in zip(split.ids, values.tolist(), strict=True)
    ]
    if options.format == "json":
        print(json.dumps(rows, indent=2))
        return
    writer = csv.DictWriter(sys.stdout, ["id", *names])
    writer.writeheader()
    writer.writerows(rows)


def _scaled(split: Split, known: dict[str, Any]) -> Split:
    """The split under the scale of the training data."""
    mean, deviation = (
        None if known[name] is None else np.asarray(known[name])
        for name in ("mean", "deviation")
    )
    return replace(split, mean=mean, deviation=deviation)


@dataclass
class PruneOptions:
    """Drop modules or edges of a trained run, without retraining."""

    run: Positional[Path]
    """A run folder."""

    keep: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Share of the modules that stay, in (0, 1]."""

    edges: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Share of the edges that stay, in [0, 1]."""

    max_drop: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.0
    """Search the fewest modules that lose at most this much validation accuracy."""

    out: Path | None = None
    """Folder of the smaller run; RUN-pruned if not given."""

    json: bool = False
    """Print JSON."""


def prune(arguments: list[str]) -> None:
    """`nacs prune`."""
    options = parse(PruneOptions, arguments, "prune", "nacs prune runs/demo --keep 0.2")
    for name, share in (("keep", options.keep), ("edges", options.edges)):
        if not 0 <= share <= 1:
            raise UserError(f"--{name} must lie in [0, 1], got {share}.")
    model, config = load_run(options.run)
    if not isinstance(model, AttentiveCircuit):
        raise UserError(
            f"{options.run}: only attentive circuits have modules to drop, this is "
            f"a {config['model']}."
        )
    dataset = datasets.load(config["data"])
    smaller = _pruned(model, options, dataset)
    out = options.out or options.run.with_name(f"{options.run.name}-pruned")
    if (out / "config.json").exists():
        raise UserError(f"{out}: already holds a run; give another --out.")
    save_run(out, config | {"sizes": asdict(smaller.config)}, smaller)
    write_json(out / "data.json", read_json(options.run / "data.json"))
    figures = {
        "modules": smaller.config.kept or smaller.config.modules,
        "edges_removed": smaller.config.edges_removed,
        "parameters": count_parameters(smaller),
        "before": measure(model, dataset.test),
        "after": measure(smaller, dataset.test),
    }
    write_json(out / "result.json", figures)
    say(figures | {"run": str(out)}, options.json)


def _pruned(
    model: AttentiveCircuit, options: PruneOptions, dataset: Dataset
) -> AttentiveCircuit:
    count = model.config.modules
    if options.max_drop:
        whole = measure(model, dataset.val).get("accuracy")
        if whole is None:
            raise UserError("--max-drop needs a classifier; use --keep instead.")
        steps = int(math.log2(count)) + 1
        low, high = 1, count
        for _ in range(steps):  # accuracy falls with modules, nearly always
            middle = (low + high) // 2
            small = measure(drop_modules(model, middle), dataset.val)["accuracy"]
            good = small >= whole - options.max_drop
            low, high = (low, middle) if good else (min(middle + 1, high), high)
        model = drop_modules(model, high)
    elif options.keep < 1:
        model = drop_modules(model, max(1, round(count * options.keep)))
    return eliminate_edges(model, 1 - options.edges) if options.edges < 1 else model


@dataclass
class DescribeOptions:
    """Configuration, parameters, multiply-adds and link density of a run or preset."""

    what: Positional[str] = "demo"
    """A run folder, or the name of a preset."""

    model: str = "attentive"
    """Which model, for a preset."""

    models: bool = False
    """List the models and presets instead."""

    json: bool = False
    """Print JSON."""


def describe(arguments: list[str]) -> None:
    """`nacs describe`."""
    options = parse(
        DescribeOptions, arguments, "describe", "nacs describe tiny-imagenet"
    )
    if options.models:
        say({"models": list(MODELS), "presets": list(PRESETS)}, options.json)
        return
    if Path(options.what).is_dir():
        model, config = load_run(Path(options.what))
        figures: dict[str, Any] = {"model": config["model"]}
        result = Path(options.what) / "result.json"
        if result.exists():
            figures |= {k: v for k, v in read_json(result).items() if "accuracy" in k}
    elif options.what in PRESETS:
        row = lookup(options.model)
        with torch.device("meta"):
            model = row.build(row.preset(options.what))
        figures = {"model": options.model}
    else:
        raise UserError(
            f"'{options.what}' is no run folder and no preset; presets: "
            f"{', '.join(PRESETS)}."
        )
    figures |= _figures(model)
    sizes = asdict(model.config)  # pyright: ignore[reportArgumentType]
    say(figures | ({"sizes": sizes} if options.json else sizes), options.json)


def _figures(model: nn.Module) -> dict[str, Any]:
    config: Any = model.config
    figures: dict[str, Any] = {"parameters": count_parameters(model)}
    if config.tokenizer.kind in {"conv", "patches"}:
        shape = (1, config.tokenizer.channels, *config.tokenizer.size)
        image = torch.empty(shape, device="meta")
        figures["multiply_adds"] = multiply_adds(model, image)
    own = getattr(config, "generator", "") == "unconditional"
    parameter = next(model.parameters())
    if isinstance(model, AttentiveCircuit) and own and not parameter.is_meta:
        figures["density"] = circuit_graph(model).density
    return figures


@dataclass
class DataOptions:
    """List the data sets known by name."""

    action: Positional[Literal["list"]] = "list"
    """What to do."""

    json: bool = False
    """Print JSON."""


def data(arguments: list[str]) -> None:
    """`nacs data list`."""
    options = parse(DataOptions, arguments, "data", "nacs data list")
    say(dict(datasets.NAMES), options.json)


@dataclass
class DemoOptions:
    """Train, evaluate and shrink a circuit on real digits, beside a Perceiver IO."""

    out: Path = Path("runs/demo")
    """Run folder."""

    seed: int = 0
    """Of weights, batches and dropped modules."""

    epochs: int = 0
    """0 for the demo's own number."""

    module_dropout: float | None = None
    """Largest share of modules dropped per training batch; the preset's by default."""


def demo(arguments: list[str]) -> None:
    """`nacs demo`."""
    from nacs.demo import demo as run_demo

    options = parse(DemoOptions, arguments, "demo", "nacs demo --seed 1")
    run_demo(
        options.out,
        seed=options.seed,
        epochs=options.epochs,
        module_dropout=options.module_dropout,
    )
