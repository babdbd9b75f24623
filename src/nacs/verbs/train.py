"""`nacs train`: the configuration classes are its options, presets the defaults."""

from dataclasses import asdict, dataclass, field, make_dataclass
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

__all__ = ["run", "with_sizes"]


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
        parse(
            with_sizes(Options, lookup("attentive").preset("demo")),
            arguments,
            "train",
            EXAMPLE,
        )
        return
    first = first_look(Options, arguments, "train")
    dataset = data.load(first.source, size=first.size, length=first.length)
    preset = first.preset or default_preset(dataset, lookup(first.model).presets)
    sizes = fitted(lookup(first.model).preset(preset), dataset)
    if first.start is not None and not first.preset:
        sizes = _sizes_of(first.start, first.model, dataset)
    options = parse(with_sizes(Options, sizes), arguments, "train", EXAMPLE)
    from accelerate import PartialState  # here: --help is quicker without

    from nacs.train import train

    name = Path(options.source).stem
    out = options.out or Path("runs") / f"{name}-{options.model}"
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
