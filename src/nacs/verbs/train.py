"""`nacs train`: the configuration classes are its options, presets the defaults."""

from dataclasses import asdict, dataclass, field, make_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from nacs import data
from nacs.console import first_look, parse, say
from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.models import config_from_json, lookup
from nacs.recipe import TrainConfig
from nacs.runs import read_json
from nacs.tasks import default_preset, fitted

__all__ = ["called", "check_options", "example_of", "run", "with_sizes"]


@dataclass
class Options:
    """Train a model on a named data set or a path, and leave a run folder.

    A run that was interrupted goes on when the same command is given again.
    """

    source: Positional[str]
    """A name from `nacs data list`, or the path of a file or folder."""

    model: str = "attentive"
    """Which model; see `nacs describe --models`."""

    preset: str = ""
    """Sizes; chosen by the data if not given."""

    size: int | None = None
    """Scale image files to squares of this many pixels, frames to this height."""

    length: int | None = None
    """Keep no more of a text, series or cloud than this many bytes, steps or points."""

    start: Path | None = None
    """Folder of a run whose weights it starts from: of the same model, in its sizes."""

    out: Path | None = None
    """Run folder; runs/SOURCE-MODEL if not given."""

    json: bool = False
    """Print the result as JSON."""


SEEN = ("kind", "channels", "size", "features")
"""What of a tokenizer must be as the data are."""

EXAMPLE = "nacs train mnist-5k --preset demo --training.epochs 10"


def run(arguments: list[str]) -> None:
    """Look at the data first, because the defaults of the sizes depend on it."""
    if {"-h", "--help"} & set(arguments):
        parse(with_sizes(Options, example_of(arguments)), arguments, "train", EXAMPLE)
        return
    first = first_look(Options, arguments, "train")
    dataset = data.load(first.source, size=first.size, length=first.length)
    preset = first.preset or default_preset(dataset, lookup(first.model).presets)
    sizes = fitted(lookup(first.model).preset(preset), dataset)
    if first.start is not None and not first.preset:
        sizes = _sizes_of(first.start, first.model, dataset)
    options = parse(with_sizes(Options, sizes), arguments, "train", EXAMPLE)
    check_options(options.sizes, options.training, sizes, dataset)
    from accelerate import PartialState  # here: --help is quicker without

    from nacs.train import train

    out = options.out or Path("runs") / f"{called(options.source)}-{options.model}"
    result = train(
        options.model,
        options.sizes,
        dataset,
        options.training,
        out,
        start=options.start,
    )
    if PartialState().is_main_process:
        say(result if options.json else _short(result, out), options.json)


def example_of(arguments: list[str]) -> Any:
    """The sizes of the model that arguments name, for its help; a circuit's without."""
    words = [word for each in arguments for word in each.split("=", 1)]
    given = dict(pairwise(words))
    model = lookup(given.get("--model", "attentive"))
    usual = "demo" if "demo" in model.presets else "small"
    return model.preset(given.get("--preset", usual))


def called(source: str) -> str:
    """What a run is called after: a file without its ending, a folder as it is."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else path.stem


def check_options(sizes: Any, training: TrainConfig, fit: Any, data: Dataset) -> None:
    """Raise UserError for options that do not go with the data.

    Args:
        sizes: As given.
        training: As given.
        fit: Sizes that fit the data.
        data: What is trained on.
    """
    wrong = {"classes": (sizes.classes, fit.classes)} | {
        f"tokenizer.{name}": (getattr(sizes.tokenizer, name), wanted)
        for name, wanted in asdict(fit.tokenizer).items()
        if name in SEEN
    }
    for name, (given, wanted) in wrong.items():
        if given != wanted and not {given, wanted} <= {"conv", "patches"}:
            raise UserError(
                f"--sizes.{name.replace('_', '-')} must be {wanted}, as {data.name} "
                f"has it, got {given}; leave it out"
            )
    plain = TrainConfig()
    for name in IMAGES_ALONE:
        if data.kind != "image" and getattr(training, name) != getattr(plain, name):
            raise UserError(
                f"--training.{name.replace('_', '-')} changes images, {data.name} "
                f"holds {data.kind}; leave it out"
            )
    for name in ("label_smoothing", "mixup"):
        if getattr(training, name) and not data.classes:
            raise UserError(
                f"--training.{name.replace('_', '-')} is for classes, {data.name} has "
                "numbers; leave it out"
            )
    if training.mixup and data.train.ragged:
        raise UserError(
            f"--training.mixup mixes samples of one shape, those of {data.name} differ "
            "in length; leave it out"
        )


IMAGES_ALONE = ("shift", "randaugment", "erasing", "cutmix")
"""Fields of `TrainConfig` that do nothing to other data."""


def with_sizes(options: type[Any], sizes: Any) -> type[Any]:
    """A verb's options with the model's sizes and the training's numbers among them."""
    kind = make_dataclass(
        "Train",
        [
            ("sizes", type(sizes), field(default=sizes)),
            ("training", TrainConfig, field(default=TrainConfig())),
        ],
        bases=(options,),
        kw_only=True,
    )
    kind.__doc__ = options.__doc__
    return kind


def _sizes_of(start: Path, model: str, dataset: Dataset) -> Any:
    """The sizes of a run to start from."""
    told = read_json(start / "config.json")
    if told.get("model") != model:
        raise UserError(
            f"{start}: expected a run of {model} to start from, got one of "
            f"{told.get('model')}; --model says of which"
        )
    sizes = config_from_json(lookup(model).config, told.get("sizes", {}))
    wanted = fitted(sizes, dataset)
    mine, read = asdict(sizes.tokenizer), asdict(wanted.tokenizer)
    same = wanted.classes == sizes.classes and all(mine[k] == read[k] for k in SEEN)
    if not same or mine["vocabulary"] < read["vocabulary"]:
        raise UserError(
            f"{start}: expected a run on data of the shape and with the classes of "
            f"{dataset.name}, got one on other data"
        )
    return sizes


def _short(result: dict[str, Any], out: Path) -> dict[str, Any]:
    shown = {k: v for k, v in result.items() if k.startswith("test_")}
    return shown | {"seconds": result["seconds"], "run": str(out)}
