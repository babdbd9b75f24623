"""Return of clones of the scripted CarRacing driver, driving in closed loop.

Run:  python benchmarks/car_racing.py     (the first time it records 100 laps: 10 min)

A pilot learns from the data set car-racing and drives 40 more tracks, where the
scripted driver says what it would do: these laps show what clones get wrong (DAgger).
Every model then learns from all laps with 3 seeds, at the parameters of `neuronal`, and
drives 20 tracks nobody recorded: `step` gets a frame each 1/25 s, and its action is all
that moves the car. Writes docs/results/car-racing.json, a row as each model is done,
and a strip of frames, docs/results/car-racing.png. A killed run goes on where it was.

References:
    Ross, Gordon, Bagnell, A Reduction of Imitation Learning to No-Regret Online
    Learning (DAgger), AISTATS 2011. https://arxiv.org/abs/1011.0686
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nacs.data.base import Array, Dataset
from nacs.data.download import cache_folder
from nacs.data.driving import LAPS, Driver, Policy, lap, read_recorded, record
from nacs.data.splits import assemble
from nacs.driving import clone
from nacs.models import MODELS, count_parameters
from nacs.neuronal import NeuronalModelConfig
from nacs.recipe import TrainConfig
from nacs.runs import load_run, provenance, read_json, write_json
from nacs.tasks import fitted
from nacs.train import train

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "car-racing"
RESULTS = ROOT / "docs" / "results"
TRACKS = range(100, 120)

ROUNDS = ((2000, 40, 500, (0.0, 0.1)),)
"""A row a pilot: seed of its first track, laps, actions a lap, noise lap by lap."""

SEEDS = (0, 1, 2)
MODELS_COMPARED: dict[str, dict[str, Any]] = {
    "neuronal": {},
    "softmax, all": {"solver": "score", "top_k": 0},
    "gru": {},
}
"""By what differs in their attention; other names are rivals."""

TRAINING = TrainConfig(
    epochs=12, batch=8, learning_rate=2e-3, weight_decay=0.05, ema=0.995
)


def kind(name: str) -> str:
    """The row of `MODELS` that builds a model."""
    return name if name in MODELS else "neuronal"


def sizes(name: str, dataset: Dataset, hidden: int | None = None) -> Any:
    """The configuration of a model."""
    config = fitted(MODELS[kind(name)].preset("small"), dataset)
    if isinstance(config, NeuronalModelConfig):
        attention = replace(config.attention, **MODELS_COMPARED[name])
        config = replace(config, attention=attention)
    return config if hidden is None else replace(config, hidden=hidden)


def parameters(name: str, config: Any) -> int:
    """How many a model of this configuration has."""
    return count_parameters(MODELS[kind(name)].build(config))


def matched(name: str, dataset: Dataset) -> Any:
    """The configuration with as many parameters as `neuronal`, by its hidden width."""
    wanted = parameters("neuronal", sizes("neuronal", dataset))
    low, high = (parameters(name, sizes(name, dataset, hidden)) for hidden in (8, 16))
    return sizes(name, dataset, max(8, 8 + round(8 * (wanted - low) / (high - low))))


def corrected() -> Dataset:
    """The data set car-racing, and laps of pilots that learned from it."""
    laps = record(cache_folder() / "car-racing", LAPS)
    for number, (first, count, longest, noise) in enumerate(ROUNDS):
        dataset = assemble(read_recorded(laps), seed=0)
        out = RUNS / f"pilot-{number}"
        train("neuronal", sizes("neuronal", dataset), dataset, TRAINING, out)
        pilot, _ = load_run(out)
        laps += record(
            RUNS / f"corrected-{number}",
            count,
            driver=clone(pilot, dataset.train),  # pyright: ignore
            noise=noise,
            first=first,
            longest=longest,
        )
    return assemble(read_recorded(laps), seed=0)


def drive(name: str, dataset: Dataset, seed: int, tracks: range) -> dict[str, Any]:
    """Train one model with one seed and drive it, or read what an earlier call left."""
    out = RUNS / name.replace(", ", "-") / str(seed)
    driven = out / "drive.json"
    found = read_json(driven) if driven.exists() else {"tracks": {}}
    if set(map(str, tracks)) <= set(found["tracks"]):
        return found
    training = replace(TRAINING, seed=seed)
    result = train(kind(name), matched(name, dataset), dataset, training, out)
    model, _ = load_run(out)
    found |= {"test_loss": result["test_loss"], "seconds": result["seconds"]}
    for track in tracks:
        if str(track) not in found["tracks"]:
            watched = _Watched(clone(model, dataset.train))  # pyright: ignore
            reward = lap(track, watched).reward
            found["tracks"][str(track)] = {"return": reward, **watched.figures()}
            write_json(driven, found)
            print(f"{name}, seed {seed}, track {track}: {reward:.0f}", flush=True)
    return found


class _Watched:
    """A driver whose observations and thinking times are kept."""

    def __init__(self, driver: Callable[[Any], Policy]) -> None:
        self.driver = driver
        self.seen: list[Array] = []
        self.took: list[float] = []

    def __call__(self, env: Any) -> Policy:
        policy = self.driver(env)

        def watched(observation: Array, seconds: float) -> Array:
            start = time.perf_counter()
            action = policy(observation, seconds)
            self.took.append(time.perf_counter() - start)
            self.seen.append(observation)
            return action

        return watched

    def figures(self) -> dict[str, float]:
        """How many actions, and the median time of one in milliseconds."""
        median = 1000 * statistics.median(self.took)
        return {"actions": len(self.took), "milliseconds": median}


def teacher(tracks: range) -> dict[str, float]:
    """Returns of the scripted driver on the same tracks."""
    path = RUNS / "teacher.json"
    found = read_json(path) if path.exists() else {}
    for track in tracks:
        if str(track) not in found:
            found[str(track)] = lap(track, Driver).reward
            write_json(path, found)
    return {str(track): found[str(track)] for track in tracks}


def strip(dataset: Dataset, track: int, path: Path) -> None:
    """12 frames of a lap of the first seed's model, a second apart, in rows of 6."""
    model, _ = load_run(RUNS / "neuronal" / "0")
    watched = _Watched(clone(model, dataset.train))  # pyright: ignore
    lap(track, watched)
    frames = [np.asarray(each) for each in watched.seen[12::25][:12]]
    rows = [np.concatenate(frames[row : row + 6], 1) for row in (0, 6)]
    Image.fromarray(np.concatenate([r for r in rows if r.size])).resize(
        (6 * 192, 2 * 192), Image.Resampling.NEAREST
    ).save(path)


def spread(returns: list[list[float]]) -> dict[str, Any]:
    """Mean of all laps, deviation of the seeds' means, worst lap, and the means."""
    means = [statistics.fmean(each) for each in returns]
    return {
        "mean": statistics.fmean(means),
        "deviation": statistics.stdev(means) if len(means) > 1 else None,
        "worst": min(map(min, returns)),
        "seeds": means,
    }


def main() -> None:
    """All models with all seeds, and the table of what they returned."""
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", nargs="*", default=list(MODELS_COMPARED))
    options.add_argument("--seeds", type=int, default=len(SEEDS))
    given = options.parse_args()
    dataset = corrected()
    rows: dict[str, Any] = {}
    for name in given.models:
        runs = [drive(name, dataset, seed, TRACKS) for seed in SEEDS[: given.seeds]]
        laps = [list(run["tracks"].values()) for run in runs]
        rows[name] = {
            "return": spread([[each["return"] for each in lap] for lap in laps]),
            "test_loss": [run["test_loss"] for run in runs],
            "milliseconds": statistics.median(
                x["milliseconds"] for y in laps for x in y
            ),
            "parameters": parameters(name, matched(name, dataset)),
            "training seconds": statistics.fmean(run["seconds"] for run in runs),
            "tracks": [run["tracks"] for run in runs],
        }
        print(f"{name:14s} {rows[name]['return']}", flush=True)
        how = {"command": "python benchmarks/car_racing.py", **provenance()}
        scripted = teacher(TRACKS)
        how |= {
            "teacher": scripted,
            "teacher mean": statistics.fmean(scripted.values()),
        }
        write_json(RESULTS / "car-racing.json", how | {"models": rows})
    strip(dataset, TRACKS[0], RESULTS / "car-racing.png")


if __name__ == "__main__":
    main()
