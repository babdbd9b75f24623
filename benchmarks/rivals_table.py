"""Accuracy of sequence models on one data set: equal parameters, epochs and seeds.

Run:  python benchmarks/rivals_table.py japanese-vowels       (or any other task)

Writes docs/results/NAME.json, a row as each model is done. A killed run goes on where
it stopped; a row is kept as long as the task stays as it is. Every model is brought to
one number of parameters by the width of its feed-forward networks: that of the model
that has most when its own are 8 wide.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.evaluation import evaluate
from nacs.models import MODELS, count_parameters
from nacs.neuronal import NeuronalModelConfig
from nacs.recipe import TrainConfig
from nacs.runs import load_run, provenance, read_json, write_json
from nacs.tasks import fitted
from nacs.train import train
from rivals_tasks import CHANGES, TASKS, Task, load, times_alone
from torch_nac_rival import TORCH_NAC

ROOT = Path(__file__).resolve().parents[1]
MODELS["torch-nac"] = TORCH_NAC
OURS = ("neuronal", "neuronal, paper")
"""Those whose paired differences to every row are in the table, beside the first."""

VARIANTS = ("neuronal", "neuronal, 32 keys", "neuronal, elapsed, 32 keys")
"""Of which the best on the validation splits is the one chosen for a task."""


def kind(name: str) -> str:
    """The key of `MODELS`."""
    return "neuronal" if name in CHANGES else name


def sizes(name: str, task: Task, dataset: Dataset, hidden: int | None = None) -> Any:
    """The configuration of a model for a task."""
    config = fitted(MODELS[kind(name)].preset(task.preset), dataset)
    if not dataset.dense:
        config = replace(config, pooling=task.pooling)
    if isinstance(config, NeuronalModelConfig):
        attention = replace(config.attention, **CHANGES[name])
        config = replace(config, attention=attention)
    return config if hidden is None else replace(config, hidden=hidden)


def build(name: str, config: Any) -> Any:
    """The model of a configuration."""
    return MODELS[kind(name)].build(config)


def matched(name: str, task: Task, dataset: Dataset, wanted: int) -> Any:
    """The configuration whose parameters are nearest to those wanted."""
    small, large = (
        count_parameters(build(name, sizes(name, task, dataset, h))) for h in (8, 16)
    )
    hidden = 8 + round((wanted - small) / ((large - small) / 8))
    return sizes(name, task, dataset, max(8, hidden))


def common(task: Task, dataset: Dataset) -> int:
    """The parameters that all models of a task are brought to."""
    if not task.equal:
        return count_parameters(build("neuronal", sizes("neuronal", task, dataset)))
    least = (sizes(name, task, dataset, 8) for name in task.models)
    built = zip(task.models, least, strict=True)
    return max(count_parameters(build(name, config)) for name, config in built)


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation, and the values."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return {"mean": statistics.fmean(values), "deviation": deviation, "seeds": values}


class Runs:
    """The runs of one model on one task, trained when first asked for."""

    def __init__(self, name: str, task: Task, folder: Path, config: Any) -> None:
        self.name, self.task, self.config = name, task, config
        self.folder = folder / name.replace(", ", "-")
        self.rate = task.rates[0]

    def choose(self, dataset: Dataset) -> None:
        """Take the learning rate that is best on the validation split."""
        if len(self.task.rates) > 1:
            found = {r: self.train(dataset, 0, r) for r in self.task.rates}
            self.rate = min(found, key=lambda rate: found[rate]["best_val_loss"])

    def train(self, dataset: Dataset, seed: int, rate: float) -> dict[str, Any]:
        """What one training reached, or what an earlier call left of it."""
        out = self.folder / f"{seed}-{rate}"
        if (out / "result.json").exists():
            return read_json(out / "result.json")
        training = TrainConfig(
            epochs=self.task.epochs,
            batch=self.task.batch,
            learning_rate=rate,
            seed=seed,
            patience=self.task.epochs if self.task.keep_best else 0,
        )
        return train(kind(self.name), self.config, dataset, training, out)

    def result(self, dataset: Dataset, seed: int) -> dict[str, Any]:
        """The figures of one seed, those with observations dropped among them."""
        result = dict(self.train(dataset, seed, self.rate))
        if self.task.drops:
            model, _ = load_run(self.folder / f"{seed}-{self.rate}")
            for share in self.task.drops:
                thinned = dataset.test.thinned(share, seed=seed)
                figures = evaluate(model, thinned)
                result[f"dropped_{share:.0%}"] = figures[self.task.score]
        return result


def row(runs: Runs, datasets: Callable[[int], Dataset]) -> dict[str, Any]:
    """What one model reached over all seeds."""
    task, score = runs.task, f"test_{runs.task.score}"
    runs.choose(datasets(0))
    found = [runs.result(datasets(seed), seed) for seed in task.seeds]
    keys = [key for key in found[0] if key.startswith(("test_", "dropped_"))]
    keys = [score, *(k for k in keys if k not in (score, "test_count"))]
    spreads = {key: spread([each[key] for each in found]) for key in keys}
    spreads["val_loss"] = spread([each["best_val_loss"] for each in found])
    return spreads | {
        "parameters": count_parameters(build(runs.name, runs.config)),
        "rate": runs.rate,
        "seconds": statistics.fmean(each["seconds"] for each in found),
    }


def compare(rows: dict[str, Any], score: str) -> None:
    """Write into every row how much the first and ours differ from it, seed by seed."""
    references = {name: name for name in {next(iter(rows)), *OURS} & set(rows)}
    if best := chosen(rows):
        references["chosen"] = best
    for called, reference in references.items():
        first = rows[reference][score]["seeds"]
        for each in rows.values():
            pairs = zip(first, each[score]["seeds"], strict=True)
            each[f"{called} minus this"] = spread([a - b for a, b in pairs])


def chosen(rows: dict[str, Any]) -> str | None:
    """The variant of ours with the least mean validation loss, once all are there."""
    if not set(VARIANTS) <= set(rows):
        return None
    return min(VARIANTS, key=lambda name: rows[name]["val_loss"]["mean"])


def table(name: str, folder: Path, models: tuple[str, ...] | None) -> None:
    """All models of one task with all seeds."""
    task, score = TASKS[name], f"test_{TASKS[name].score}"
    splits = {seed: load(name, folder, seed) for seed in task.seeds}
    wanted = common(task, splits[0])
    path = ROOT / "docs" / "results" / f"{name}.json"
    how = json.loads(json.dumps({**asdict(task), "parameters": wanted}))
    before = read_json(path) if path.exists() else {}
    same = before.get("task", {}) | {"models": how["models"]} == how
    rows: dict[str, Any] = before["models"] if same else {}
    for model in models or task.models:
        if "val_loss" in rows.get(model, {}):
            continue
        seen = {
            s: times_alone(d) if model == "times alone" else d
            for s, d in splits.items()
        }
        config = matched(model, task, seen[0], wanted)
        runs = Runs(model, task, ROOT / "runs" / "rivals" / name, config)
        rows[model] = row(runs, seen.__getitem__)
        compare(rows, score)
        found = rows[model][score]
        print(
            f"{model:24s} {score} {found['mean']:.4f} ± {found['deviation']:.4f} "
            f"at {runs.rate}, {rows[model]['seconds']:.0f} s",
            flush=True,
        )
        command = f"python benchmarks/rivals_table.py {name}"
        found = {"command": command, "task": how, **provenance()}
        found |= {"chosen": chosen(rows), "models": rows}
        write_json(path, found)


def markdown(found: dict[str, Any]) -> str:
    """The table of a result: score, ours minus each ± standard error, dropped."""
    rows: dict[str, Any] = found["models"]
    score = next(iter(next(iter(rows.values()))))
    drops = [key for key in next(iter(rows.values())) if key.startswith("dropped_")]
    references = {
        f"{name.split(', ')[-1]} − this": name for name in OURS if name in rows
    }
    if best := found.get("chosen"):
        references[f"chosen ({best}) − this"] = "chosen"
    heads = [score.removeprefix("test_"), *references]
    heads += [f"{key.removeprefix('dropped_')} dropped" for key in drops]
    lines = ["| model | " + " | ".join([*heads, "parameters"]) + " |"]
    lines.append("|" + "---|" * (len(heads) + 2))
    for name, each in rows.items():
        cells = [f"{each[score]['mean']:.3f} ± {each[score]['deviation']:.3f}"]
        for reference in references.values():
            off = each[f"{reference} minus this"]
            error = off["deviation"] / math.sqrt(len(off["seeds"]))
            cells.append(f"{off['mean']:+.3f} ± {error:.3f}")
        cells += [f"{each[key]['mean']:.3f}" for key in drops]
        lines.append(
            f"| {name} | " + " | ".join(cells) + f" | {each['parameters']:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line."""
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("task", choices=TASKS)
    options.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    options.add_argument("--models", nargs="*", default=None)
    options.add_argument("--markdown", action="store_true", help="print what is there")
    given = options.parse_args()
    if given.markdown:
        print(markdown(read_json(ROOT / "docs" / "results" / f"{given.task}.json")))
        return
    try:
        table(given.task, given.data, given.models)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
