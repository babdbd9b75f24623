"""Accuracy of sequence models on one data set: equal parameters, epochs and seeds.

Run:  python benchmarks/rivals_table.py associative-recall       (or any name below)

Writes docs/results/NAME.json, a row as each model is done. A killed run goes on where
it stopped, a finished one is not trained again. Every model is brought to the
parameters of `neuronal` by the width of its feed-forward networks.
"""

import argparse
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nacs import data
from nacs.data.base import Dataset
from nacs.models import MODELS, count_parameters
from nacs.neuronal import NeuronalModelConfig
from nacs.recipe import TrainConfig
from nacs.runs import provenance, read_json, write_json
from nacs.tasks import tokenizer_for
from nacs.train import train
from torch_nac_rival import TORCH_NAC

ROOT = Path(__file__).resolve().parents[1]
MODELS["torch-nac"] = TORCH_NAC

CHANGES: dict[str, dict[str, Any]] = {
    "neuronal": {},
    "neuronal, paper": {
        "gate": "circuit",
        "start": "zero",
        "horizon": "gate",
        "integration": "gate",
        "logit_scale": False,
    },
    "neuronal, zero start": {"start": "zero"},
    "neuronal, elapsed": {"horizon": "elapsed"},
    "neuronal, quadrature": {"integration": "quadrature", "top_k": 0},
    "neuronal, all": {"top_k": 0},
    "neuronal, elapsed, all": {"horizon": "elapsed", "top_k": 0},
    "neuronal, gated, all": {"horizon": "gate", "top_k": 0},
    "top-k softmax": {"solver": "score"},
    "softmax, all": {"solver": "score", "top_k": 0},
    "uniform": {"solver": "uniform", "top_k": 0},
}
"""Neuronal models by what differs in their attention; other names are rivals."""


@dataclass(frozen=True)
class Task:
    """What is compared, and how it is trained."""

    models: tuple[str, ...]
    preset: str = "tiny"
    pooling: str = "mean"
    epochs: int = 20
    rate: float = 3e-3
    seeds: tuple[int, ...] = (0, 1, 2)


USUAL = ("neuronal", "neuronal, paper", "neuronal, zero start", "neuronal, elapsed")
CONTROLS = ("top-k softmax", "uniform", "torch-nac", "multi-head", "gru")
TASKS = {
    "associative-recall": Task((*USUAL, *CONTROLS), pooling="last"),
    "integral": Task(("neuronal, quadrature", *USUAL, *CONTROLS, "mtan", "cfc")),
    "noisy-sensors": Task(
        (
            "neuronal, elapsed, all",
            "neuronal, gated, all",
            "neuronal, all",
            "softmax, all",
            *USUAL,
            *CONTROLS,
            "mtan",
            "cfc",
        ),
        pooling="last",
        seeds=(0, 1, 2, 3, 4),
    ),
    "event-mnist": Task((*USUAL, *CONTROLS, "mtan", "cfc"), seeds=(0, 1, 2, 3, 4)),
    "japanese-vowels": Task((*USUAL, *CONTROLS, "mtan", "cfc"), seeds=(0, 1, 2, 3, 4)),
}


def sizes(name: str, task: Task, dataset: Dataset, hidden: int | None = None) -> Any:
    """The configuration of a model for a task."""
    row = MODELS["neuronal" if name in CHANGES else name]
    config = row.preset(task.preset)
    tokenizer = tokenizer_for(dataset, config.tokenizer)
    config = replace(
        config, tokenizer=tokenizer, classes=dataset.outputs, pooling=task.pooling
    )
    if isinstance(config, NeuronalModelConfig):
        attention = replace(config.attention, **CHANGES[name])
        config = replace(config, attention=attention)
    return config if hidden is None else replace(config, hidden=hidden)


def build(name: str, config: Any) -> Any:
    """The model of a configuration."""
    return MODELS["neuronal" if name in CHANGES else name].build(config)


def matched(name: str, task: Task, dataset: Dataset, wanted: int) -> Any:
    """The configuration whose parameters are nearest to those wanted."""
    small, large = (
        count_parameters(build(name, sizes(name, task, dataset, h))) for h in (8, 16)
    )
    hidden = 8 + round((wanted - small) / ((large - small) / 8))
    return sizes(name, task, dataset, max(8, hidden))


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation, and the values."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return {"mean": statistics.fmean(values), "deviation": deviation, "seeds": values}


def run(name: str, task: Task, dataset: Dataset, config: Any, seed: int) -> Any:
    """Train one model with one seed, or read what an earlier call left."""
    folder = ROOT / "runs" / "rivals" / dataset.name / name.replace(", ", "-")
    out = folder / str(seed)
    if (out / "result.json").exists():
        return read_json(out / "result.json")
    training = TrainConfig(
        epochs=task.epochs, batch=64, learning_rate=task.rate, seed=seed
    )
    kind = "neuronal" if name in CHANGES else name
    return train(kind, config, dataset, training, out)


def main() -> None:
    """All models of one task with all seeds, and the table of what they reached."""
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("task", choices=TASKS)
    options.add_argument("--seeds", type=int, default=None)
    given = options.parse_args()
    task, dataset = TASKS[given.task], data.load(given.task)
    seeds = task.seeds if given.seeds is None else tuple(range(given.seeds))
    wanted = count_parameters(build("neuronal", sizes("neuronal", task, dataset)))
    key = "test_accuracy" if dataset.classes else "test_loss"
    rows: dict[str, Any] = {}
    for name in task.models:
        config = matched(name, task, dataset, wanted)
        found = [run(name, task, dataset, config, seed) for seed in seeds]
        rows[name] = {
            key: spread([each[key] for each in found]),
            "parameters": count_parameters(build(name, config)),
            "seconds": statistics.fmean(each["seconds"] for each in found),
        }
        first = rows[task.models[0]][key]["seeds"]
        differences = [
            a - b for a, b in zip(first, rows[name][key]["seeds"], strict=True)
        ]
        rows[name][f"{task.models[0]} minus this"] = spread(differences)
        print(f"{name:28s} {key} {rows[name][key]['mean']:.4f}", flush=True)
        command = f"python benchmarks/rivals_table.py {given.task}"
        how = {"command": command, "epochs": task.epochs, **provenance()}
        table = how | {"models": rows}
        write_json(ROOT / "docs" / "results" / f"{given.task}.json", table)


if __name__ == "__main__":
    main()
