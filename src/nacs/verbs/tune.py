"""`nacs tune`: a search over the options of `nacs train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from nacs import data
from nacs.console import first_look, parse, say
from nacs.models import config_from_json, lookup
from nacs.options import as_words, flat, train_command
from nacs.recipe import TrainConfig
from nacs.runs import write_json
from nacs.space import default_space
from nacs.tasks import default_preset, fitted
from nacs.verbs.train import called, check_options, example_of, with_sizes

__all__ = ["run"]

SHOWN = 5


@dataclass
class Options:
    """Search for the settings of a model by its validation figures.

    A search that was interrupted goes on when the same command is given again; so does
    a finished one with more trials. The test split is never looked at.
    """

    source: Positional[str]
    """A name from `nacs data list`, or the path of a file or folder."""

    model: str = "attentive"
    """Which model; see `nacs describe --models`."""

    preset: str = ""
    """Sizes to start from; chosen by the data if not given."""

    search: tuple[str, ...] = ()
    """What to vary, in place of the usual: NAME=LOW..HIGH, NAME=A,B,C, or NAME=0.5x,1x
    for multiples of the preset, with names as `training.learning-rate`."""

    metric: str = "loss"
    """Figure of the validation split to go by: loss, rmse, accuracy, auroc, auprc."""

    trials: int = 50
    """How many trials in all; those that are stopped early count."""

    jobs: int = 1
    """Processes, each of one thread if there are several."""

    timeout: float | None = None
    """Seconds after which the trials stop, to go on with the next start."""

    ray: bool = False
    """Let Ray Tune run the trials, on a cluster if there is one. Needs the extra
    `ray`."""

    size: int | None = None
    """Scale image files to squares of this many pixels, frames to this height."""

    length: int | None = None
    """Keep no more of a text, series or cloud than this many bytes, steps or points."""

    out: Path | None = None
    """Folder of the search; runs/tune-SOURCE-MODEL if not given."""

    json: bool = False
    """Print the result as JSON."""


EXAMPLE = (
    "nacs tune digits --model attentive --trials 20 --training.epochs 5 --search "
    "training.learning-rate=1e-4..1e-2 sizes.modules=8,16,32"
)


def run(arguments: list[str]) -> None:
    """As `nacs train`, the data is looked at first."""
    if {"-h", "--help"} & set(arguments):
        parse(with_sizes(Options, example_of(arguments)), arguments, "tune", EXAMPLE)
        return
    first = first_look(Options, arguments, "tune")
    dataset = data.load(first.source, size=first.size, length=first.length)
    row = lookup(first.model)
    preset = first.preset or default_preset(dataset, row.presets)
    base = fitted(row.preset(preset), dataset)
    options = parse(with_sizes(Options, base), arguments, "tune", EXAMPLE)
    check_options(options.sizes, options.training, base, dataset)
    from nacs.tune import Plan, tune

    space = dict(each.partition("=")[::2] for each in options.search)
    name = called(options.source)
    plan = Plan(
        model=options.model,
        sizes=options.sizes,
        training=options.training,
        dataset=dataset,
        space=space or default_space(options.sizes),
        metric=options.metric,
        out=options.out or Path("runs") / f"tune-{name}-{options.model}",
    )
    if options.ray:
        from nacs.tune_ray import tune_ray as tune
    found = tune(
        plan, trials=options.trials, jobs=options.jobs, timeout=options.timeout
    )
    found["command"] = _command(options, preset, base, found)
    write_json(plan.out / "best.json", found)
    say(found if options.json else _short(found, plan.out), options.json)


def _command(options: Any, preset: str, base: Any, found: dict[str, Any]) -> str:
    """The command that trains as the best trial did."""
    sizes = config_from_json(type(base), found["sizes"])
    training = config_from_json(TrainConfig, found["training"])
    return train_command(
        options.source,
        options.model,
        preset,
        as_words(flat(sizes, training), flat(base, TrainConfig())),
        size=options.size,
        length=options.length,
    )


def _short(found: dict[str, Any], out: Path) -> dict[str, Any]:
    """The best trials a line each, what mattered, and how to train like the best."""
    rows: dict[str, Any] = {}
    for place, trial in enumerate(found["best"][:SHOWN], 1):
        settings = (
            f"{name.rpartition('.')[2]} {value:.3g}"
            if isinstance(value, float)
            else f"{name.rpartition('.')[2]} {value}"
            for name, value in trial.items()
            if name != "trial"
        )
        rows[f"{place}. trial {trial['trial']}"] = ", ".join(settings)
    shares = (f"{name} {share:.0%}" for name, share in found["importance"].items())
    rows["importance"] = ", ".join(shares) or "too few trials to tell"
    counts = ("finished", "pruned", "given up")
    rows["trials"] = ", ".join(f"{found[name]} {name}" for name in counts)
    return rows | {"folder": str(out), "best": found["command"]}
