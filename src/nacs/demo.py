"""The main job on real data: train a circuit on digits, then shrink it step by step.

digits  →  circuit trained here, Perceiver IO in a process beside it
        →  both shrunk: accuracy, throughput  →  table, pictures, result.json
"""

import contextlib
import io
import multiprocessing
import signal
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from nacs import data
from nacs.attentive import AttentiveCircuit, drop_modules, presets
from nacs.data.base import Dataset, Split
from nacs.draw import draw_drops, draw_graph
from nacs.errors import UserError
from nacs.evaluation import evaluate
from nacs.graph import circuit_graph
from nacs.models import count_parameters
from nacs.recipe import TrainConfig
from nacs.runs import write_json
from nacs.train import train
from nacs.tune import start_job

__all__ = ["DEMO_TRAINING", "demo", "drop_curve", "forward_seconds", "module_spread"]

DEMO_TRAINING = TrainConfig(
    epochs=30,
    batch=64,
    learning_rate=2e-3,
    warmup_epochs=2,
    signature_rate=10.0,
    label_smoothing=0.1,
    shift=2,
)
"""How both models of the demo are trained."""

SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of the modules that are dropped, from none to nearly all."""


def demo(
    out: Path, *, seed: int = 0, epochs: int = 0, module_dropout: float | None = None
) -> dict[str, Any]:
    """Train, evaluate and shrink an attentive circuit and a Perceiver IO of its size.

    Args:
        out: Run folder; the Perceiver IO's is `perceiver` inside it.
        seed: Of weights, batches and dropped modules.
        epochs: 0 for the demo's own number.
        module_dropout: Overrides the preset's; 0 trains without.

    Returns:
        What `result.json` holds: accuracies, curves, spreads, seconds.
    """
    console = Console()
    dataset = data.load("mnist-5k")
    training = replace(DEMO_TRAINING, seed=seed)
    training = replace(training, epochs=epochs) if epochs else training
    config = presets.demo()
    if module_dropout is not None:
        config = replace(config, module_dropout=module_dropout)
    latents, beside = presets.perceiver(config), out / "perceiver"
    circuit = ("attentive", config, dataset, training, out)
    rival = ("perceiver", latents, dataset, training, beside)
    console.print(f"training two models side by side on {len(dataset.train)} digits")
    with _beside(*rival):
        train(*circuit)
    runs = {"attentive circuit": ("", circuit), "Perceiver IO": ("perceiver_", rival)}
    result: dict[str, Any] = {}
    curves: dict[str, list[dict[str, Any]]] = {}
    for label, (prefix, run) in runs.items():
        result |= _prefixed(prefix, train(*run))  # it has only to be tested
        console.print(f"[bold]{label}[/bold] is trained; now its modules are dropped")
        model = _trained(run[-1])
        curves[label] = drop_curve(model, dataset.test, seed=seed)
        by_share = {row["dropped"]: row["accuracy"] for row in curves[label]}
        result[f"{prefix}test_accuracy"] = by_share[0.0]
        result[f"{prefix}dropped_80_accuracy"] = by_share[0.8]
        result[f"{prefix}parameters"] = count_parameters(model)
        result[f"{prefix}module_spread"] = module_spread(model, dataset)
        if label == "attentive circuit":
            graph = circuit_graph(model)
            draw_graph(graph, out / "graph.png", title="The learned graph of the demo")
            result["density"] = graph.density
            result["prior_density"] = graph.prior_density
    result["curves"] = curves
    draw_drops(curves, out / "drops.png")
    write_json(out / "result.json", result)
    _report(console, result, out)
    return result


@contextlib.contextmanager
def _beside(*run: Any) -> Generator[None, None, None]:
    """Train in another process, with half of the threads here, and wait for its end.

    Whatever ends it too early, the run can go on from its last epoch.
    """
    threads = torch.get_num_threads()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_trained_quietly, args=run, daemon=True)
    process.start()
    torch.set_num_threads(max(1, threads // 2))
    try:
        yield
        process.join()
    finally:
        process.terminate()
        torch.set_num_threads(threads)


def _trained_quietly(*run: Any) -> None:
    """One thread, no bar, nothing said: what is wrong, the other process says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_job()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(UserError):
        train(*run)


def _prefixed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in values.items()}


def _trained(folder: Path) -> AttentiveCircuit:
    from nacs.runs import load_run

    model = load_run(folder)[0]
    assert isinstance(model, AttentiveCircuit)
    return model.eval()


def drop_curve(
    model: AttentiveCircuit, split: Split, *, seed: int = 0
) -> list[dict[str, Any]]:
    """Accuracy and throughput as modules are dropped, without retraining.

    Args:
        model: A trained circuit; least connected modules go first (eq 10), latents of
            a Perceiver IO, which have no links, at random.
        split: What accuracy is measured on.
        seed: Of the random order.

    Returns:
        Per share: `dropped`, `modules`, `accuracy` and `speedup`, the median over
        rounds in which all sizes take turns of the time of one batch, relative to the
        whole model in the same round.
    """
    count = model.config.modules
    kept = [max(1, round(count * (1 - share))) for share in SHARES]
    smaller = [drop_modules(model, keep, seed=seed) for keep in kept]
    batch = split.batch(range(min(64, len(split)))).inputs
    seconds = forward_seconds(smaller, batch)
    rows: list[dict[str, Any]] = []
    for share, keep, each, times in zip(SHARES, kept, smaller, seconds, strict=True):
        ratios = torch.tensor(seconds[0]) / torch.tensor(times)
        rows.append(
            {
                "dropped": share,
                "modules": keep,
                "accuracy": evaluate(each, split)["accuracy"],
                "speedup": ratios.median().item(),
            }
        )
    return rows


@torch.inference_mode()
def forward_seconds(
    models: list[AttentiveCircuit], batch: torch.Tensor, rounds: int = 7
) -> list[list[float]]:
    """Processor seconds of one forward pass, per model and round."""
    seconds: list[list[float]] = [[] for _ in models]
    for turn in range(rounds + 1):
        for times, model in zip(seconds, models, strict=True):
            start = time.process_time()
            model(batch)
            if turn:  # the first round warms up
                times.append(time.process_time() - start)
    return seconds


@torch.inference_mode()
def module_spread(model: AttentiveCircuit, dataset: Dataset) -> float:
    """Variance between modules over total variance of their final states, in [0, 1].

    Modules that are copies of each other have 0, and their flat drop curve would
    prove nothing.
    """
    states: list[torch.Tensor] = []
    last: nn.Module = model.propagators[-1]
    hook = last.register_forward_hook(lambda *call: states.append(call[2]))
    model(dataset.val.batch(range(min(64, len(dataset.val)))).inputs)
    hook.remove()
    final = states[0]  # batch modules width
    between = final.var(dim=1, correction=0).mean()
    total = final.var(dim=(0, 1), correction=0).mean()
    return (between / total.clamp(min=1e-12)).item()


def _report(console: Console, result: dict[str, Any], out: Path) -> None:
    table = Table(title="test accuracy, %, and throughput as modules are dropped")
    table.add_column("dropped, %", justify="right")
    for label in result["curves"]:
        table.add_column(label, justify="right")
        table.add_column("×", justify="right")
    for rows in zip(*result["curves"].values(), strict=True):
        cells = [f"{100 * rows[0]['dropped']:.0f}"]
        for row in rows:
            cells += [f"{100 * row['accuracy']:.1f}", f"{row['speedup']:.1f}"]
        table.add_row(*cells)
    console.print(table)
    print(f"pictures: {out / 'graph.png'}, {out / 'drops.png'}")
    print(
        "next:\n"
        f"  nacs describe {out}\n"
        f"  nacs prune {out} --keep 0.2 --out {out}-small\n"
        "  nacs train digits --out runs/digits"
    )
