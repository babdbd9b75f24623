"""The card of a model: what it is, what its run measured, how to use and repeat it."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from nacs.models import config_from_json, count_parameters, lookup
from nacs.options import as_words, flat, train_command
from nacs.recipe import TrainConfig

__all__ = ["command", "model_card"]

TASKS = {
    "image": "image-classification",
    "bytes": "text-classification",
    "series": "time-series-forecasting",
}
"""Names that the Hub has for what a model does; for numbers it has few."""

DECIDED = re.compile(r"sizes\.(tokenizer|context|classes)\b")
"""Options that `nacs train` finds by looking at the data."""


def model_card(
    model: nn.Module, config: Mapping[str, Any], result: Mapping[str, Any]
) -> str:
    """README.md of a model, in the form that the Hub reads.

    Args:
        model: Counted, not run.
        config: What config.json of its run holds.
        result: What result.json of its run holds; empty where it has none.
    """
    data = config.get("data", {})
    name = config["model"] + (f", {data['source']}" if data else "")
    figures = result.get("after", result)  # of a pruned run, after pruning
    measured = {
        key.removeprefix("test_"): value
        for key, value in figures.items()
        if key.removeprefix("test_") in ("accuracy", "rmse", "auroc", "auprc", "count")
    }
    rows = _rows(model, config, result, measured)
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    kind = type(model).__name__
    home = {"AttentiveCircuit": "nacs.attentive"}.get(kind, "nacs.sequence")
    parts = [
        f"---\n{_front(name, data, measured)}\n---",
        f"# {name}",
        f"A model of `nacs`, attentive and neuronal circuits in PyTorch.\n\n"
        f"| | |\n|---|---|\n{table}",
        f"## Use\n\n```python\nfrom {home} import {kind}\n\n"
        f'model = {kind}.from_pretrained("user/name")\n```\n\n'
        "Inputs are scaled as `data` in config.json says.",
    ]
    if result.get("epochs") and "start" not in config:
        repeat = command(config)
        parts.append(f"## Train it again\n\n```sh\n{repeat}\n```")
    return "\n\n".join(parts) + "\n"


def _rows(
    model: nn.Module,
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    """What the table of the card says."""
    data = config.get("data", {})
    rows: dict[str, Any] = {}
    if data:
        classes = data["classes"]
        what = f"{len(classes)} classes" if classes else "numbers"
        shape = " × ".join(map(str, data["shape"]))
        rows["data"] = f"{data['source']}: {data['kind']}, {shape}, {what}"
    if "start" in config:
        before = config["start"].get("data", {}).get("source", "other data")
        rows["started from"] = f"weights of a run on {before}"
    count = measured.get("count")
    for name, value in measured.items():
        if name != "count":
            rows[f"test {name}"] = f"{value:.4g}" + (
                f" on {count} samples" * bool(count)
            )
    rows["parameters"] = f"{count_parameters(model):,}"
    rows |= {each: result[each] for each in ("epochs", "seed") if each in result}
    if "seconds" in result:
        rows["training"] = f"{result['seconds']:.0f} s on {result.get('machine', '?')}"
    versions = result.get("versions", {})
    if versions:
        rows["versions"] = ", ".join(f"{k} {v}" for k, v in versions.items())
    if result.get("revision"):
        rows["revision"] = f"`{result['revision']}`"
    return rows


def _front(name: str, data: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """The YAML at the top of a card, with the figures where the Hub looks for them."""
    from huggingface_hub import EvalResult, ModelCardData

    task = TASKS.get(data.get("kind", ""), "other") if data.get("classes") else "other"
    found = [
        EvalResult(
            task_type=task,
            dataset_type=data["source"],
            dataset_name=data["source"],
            metric_type=name,
            metric_value=value,
        )
        for name, value in measured.items()
        if data and name != "count"
    ]
    told: dict[str, Any] = {"model_name": name, "eval_results": found} if found else {}
    card = ModelCardData(library_name="nacs", tags=["nacs", "pytorch"], **told)
    return card.to_yaml().strip()


def command(config: Mapping[str, Any]) -> str:
    """The command that trains a run with the sizes and numbers of its config.json."""
    row, data = lookup(config["model"]), config["data"]
    sizes = config_from_json(row.config, config["sizes"])
    training = config_from_json(TrainConfig, config["training"])
    now = flat(sizes, training)
    now = {name: value for name, value in now.items() if not DECIDED.match(name)}
    words = {
        name: as_words(now, flat(preset(), TrainConfig()))
        for name, preset in row.presets.items()
    }
    nearest = min(words, key=lambda name: len(words[name]))
    return train_command(
        data["source"],
        config["model"],
        nearest,
        words[nearest],
        size=data.get("size"),
        length=data.get("length"),
    )
