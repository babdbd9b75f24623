"""`nacs describe`: what a run or a preset is made of, and what it costs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tyro.conf import Positional

from nacs.attentive import AttentiveCircuit
from nacs.console import parse, say
from nacs.errors import UserError
from nacs.flops import multiply_adds
from nacs.graph import circuit_graph
from nacs.models import MODELS, count_parameters, lookup
from nacs.native import level
from nacs.neuronal import NeuronalModelConfig
from nacs.runs import load_run, read_json

__all__ = ["run"]


@dataclass
class Options:
    """Configuration, parameters, multiply-adds and link density of a run or preset."""

    what: Positional[str] = "demo"
    """A run folder, or the name of a preset."""

    model: str = "attentive"
    """Which model, for a preset."""

    models: bool = False
    """List the models and presets instead."""

    json: bool = False
    """Print JSON."""


def run(arguments: list[str]) -> None:
    """Figures of a trained run, or of a preset that is never built in memory."""
    options = parse(Options, arguments, "describe", "nacs describe tiny-imagenet")
    if options.models:
        listed = {name: list(row.presets) for name, row in MODELS.items()}
        shown = {name: ", ".join(presets) for name, presets in listed.items()}
        say(listed if options.json else shown, options.json)
        return
    if Path(options.what).is_dir():
        model, config = load_run(Path(options.what))
        figures: dict[str, Any] = {"model": config["model"]}
        result = Path(options.what) / "result.json"
        if result.exists():
            figures |= {k: v for k, v in read_json(result).items() if "accuracy" in k}
    else:
        row = lookup(options.model)
        if options.what not in row.presets:
            raise UserError(
                f"'{options.what}' is no run folder and no preset; presets of "
                f"{options.model}: {', '.join(row.presets)}."
            )
        with torch.device("meta"):
            model = row.build(row.preset(options.what))
        figures = {"model": options.model}
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
    if isinstance(config, NeuronalModelConfig):
        figures["compiled"] = level()  # see nacs.native
    parameter = next(model.parameters())
    if isinstance(model, AttentiveCircuit) and own and not parameter.is_meta:
        graph = circuit_graph(model)
        figures |= {"density": graph.density, "prior_density": graph.prior_density}
    return figures
