"""The training loop, to be read in a sitting.

    for epoch:  for batch:  loss = task loss + graph weight · regulariser;  step
                validate;  write the metrics;  save;  stop early if it got no better
    test once

Every epoch starts from a seed of its own, so a run that is killed at any moment and
started again ends with the numbers of one that never was.
"""

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.augment import mix, shifted
from nacs.data.base import Batch, Dataset
from nacs.errors import UserError
from nacs.evaluation import evaluate, moved
from nacs.models import lookup
from nacs.optim import learning_rate, parameter_groups
from nacs.runs import (
    claim,
    describe_run,
    load_tensors,
    provenance,
    read_json,
    save_run,
    save_tensors,
    write_json,
)

__all__ = ["TrainConfig", "train"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int = 30
    """Passes over the training split."""

    batch: int = 64
    """Samples a step, over all processes."""

    learning_rate: float = 1e-3
    """Highest rate of AdamW."""

    min_learning_rate: float = 1e-5
    """Rate at the end of the cosine."""

    warmup_epochs: float = 1.0
    """Epochs in which the rate rises linearly."""

    weight_decay: float = 0.05
    """Not on codes, signatures, positions and parameters of one dimension."""

    signature_rate: float = 1.0
    """Factor on the learning rate of signatures."""

    clip: float = 1.0
    """Largest norm of the gradient; 0 for no limit."""

    graph_weight: float = 0.1
    """Weight of the graph structure regulariser, a mean over pairs."""

    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""

    mixup: float = 0.0
    """Mixup's Beta parameter; 0 for none."""

    cutmix: float = 0.0
    """CutMix's Beta parameter, for images; 0 for none."""

    ema: float = 0.0
    """Decay per step of an average of the weights, which is then what is measured and
    kept; 0 for none, 0.999 is usual."""

    shift: int = 0
    """Largest random move of training images, in pixels."""

    patience: int = 0
    """Epochs without a better validation loss until it stops; 0 for never."""

    precision: Literal["no", "bf16"] = "no"
    """Autocast of the forward pass."""

    seed: int = 0
    """Of weights, batches and noise."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be at least 1, got {getattr(self, name)}."
                )
        if not 0 <= self.ema < 1:
            raise ValueError(f"`ema` must lie in [0, 1), got {self.ema}.")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(
                f"`learning_rate` must be positive, got {self.learning_rate}; 1e-3 is "
                "a good start."
            )


def train(
    name: str, sizes: Any, dataset: Dataset, config: TrainConfig, out: Path
) -> dict[str, Any]:
    """Train a model, or go on with a run that was interrupted, and test it once.

    Args:
        name: Of the model, in `nacs.models.MODELS`.
        sizes: Its configuration.
        dataset: The splits; the test split is used once, at the end.
        config: How it is trained.
        out: Run folder.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: If the folder is in use or belongs to another run, if the loss is
            not finite, or if the disk is full.
    """
    with claim(out):
        return _Run(name, sizes, dataset, config, out).finish()


class _Run:
    """The state of one training: model, optimiser, epoch, best validation loss."""

    def __init__(
        self, name: str, sizes: Any, dataset: Dataset, config: TrainConfig, out: Path
    ) -> None:
        self.dataset, self.config, self.out = dataset, config, out
        self.accelerator = Accelerator()
        self.described = describe_run(name, sizes, config, dataset.name)
        torch.manual_seed(config.seed)
        self.bare: nn.Module = lookup(name).build(sizes)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(
                self.bare,
                weight_decay=config.weight_decay,
                signature_rate=config.signature_rate,
            ),
            lr=config.learning_rate,
        )
        self.epoch, self.seconds, self.best, self.stale = 0, 0.0, math.inf, 0
        self.done = False
        self.kept = copy.deepcopy(self.bare) if config.ema else self.bare
        if not self._resume():
            prepare = getattr(self.bare, "prepare", None)
            if prepare is not None:
                prepare()
            self.kept.load_state_dict(self.bare.state_dict())
        self.kept.to(self.accelerator.device)
        self.model: nn.Module = self.accelerator.prepare_model(self.bare)

    def finish(self) -> dict[str, Any]:
        """All remaining epochs, then the test."""
        config = self.config
        with Progress(disable=not self.accelerator.is_main_process) as progress:
            bar = progress.add_task("training", total=config.epochs)
            progress.update(bar, completed=self.epoch)
            while self.epoch < config.epochs and not self.done:
                row = self._one_epoch()
                shown = f"loss {row['loss']:.3f}  validation {row['val_loss']:.3f}"
                progress.update(bar, advance=1, description=shown)
        result = evaluate(self.kept, self.dataset.test, batch=config.batch)
        result = {f"test_{key}": value for key, value in result.items()}
        result |= {"epochs": self.epoch, "seconds": self.seconds, "seed": config.seed}
        result |= {"best_val_loss": self.best, **provenance()}
        if self.accelerator.is_main_process:
            save_run(self.out, self.described, self.kept)
            write_json(self.out / "data.json", _data_facts(self.dataset))
            write_json(self.out / "result.json", result)
        return result

    def _one_epoch(self) -> dict[str, Any]:
        config, start = self.config, time.perf_counter()
        torch.manual_seed(config.seed * 1_000_003 + self.epoch)
        self.model.train()
        losses: list[Tensor] = []
        steps = -(-len(self.dataset.train) // config.batch)
        for step, batch in enumerate(self._batches()):
            rate = learning_rate(
                self.epoch + step / steps,
                epochs=config.epochs,
                peak=config.learning_rate,
                least=config.min_learning_rate,
                warmup_epochs=config.warmup_epochs,
            )
            losses.append(self._step(batch, rate, step))
        self.epoch += 1
        self.seconds += time.perf_counter() - start
        val = evaluate(self.kept, self.dataset.val, batch=config.batch)
        row = {"epoch": self.epoch, "loss": torch.stack(losses).mean().item()}
        row |= {f"val_{key}": value for key, value in val.items()}
        row |= {**_graph_figures(self.bare), "seconds": self.seconds}
        self.stale = 0 if val["loss"] < self.best else self.stale + 1
        self.best = min(self.best, val["loss"])
        self.done = bool(config.patience) and self.stale >= config.patience
        if self.accelerator.is_main_process:
            self._save(row)
        self.accelerator.wait_for_everyone()
        return row

    def _batches(self) -> Iterator[Batch]:
        """This process's share of every batch of a seeded permutation."""
        config, count = self.config, len(self.dataset.train)
        generator = torch.Generator().manual_seed(config.seed * 7919 + self.epoch)
        order = torch.randperm(count, generator=generator)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        for chosen in order.split(config.batch):
            mine = chosen[rank::world] if len(chosen) >= world else chosen
            batch = self.dataset.train.batch(mine.numpy())
            yield moved(batch, self.accelerator.device)

    def _step(self, batch: Batch, rate: float, step: int) -> Tensor:
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        classes = len(self.dataset.classes)
        inputs, targets = batch.inputs, batch.targets
        images = self.dataset.kind == "image"
        inputs = shifted(inputs, config.shift) if images else inputs
        if classes:
            inputs, targets = mix(
                inputs,
                targets,
                classes=classes,
                smoothing=config.label_smoothing,
                mixup=config.mixup,
                cutmix=config.cutmix if images else 0.0,
            )
        device, low = self.accelerator.device.type, config.precision == "bf16"
        with torch.autocast(device, torch.bfloat16, enabled=low):
            logits = self.model(inputs, batch.keep, batch.context, batch.context_keep)
        loss = _loss(logits.float(), targets, classes=bool(classes))
        regulariser = getattr(self.bare, "regulariser", None)
        if regulariser is not None and config.graph_weight:
            loss = loss + config.graph_weight * regulariser()
        if not torch.isfinite(loss):
            raise UserError(
                f"the loss is {loss.item()} in epoch {self.epoch + 1}, batch "
                f"{step + 1}; the checkpoint of epoch {self.epoch} is kept in "
                f"{self.out}. Check the data for huge values or lower the learning "
                f"rate ({config.learning_rate})."
            )
        self.optimiser.zero_grad()
        self.accelerator.backward(loss)
        if config.clip:
            nn.utils.clip_grad_norm_(self.bare.parameters(), config.clip)
        self.optimiser.step()
        self._average()
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the kept weights towards the trained ones."""
        if self.kept is self.bare:
            return
        for kept, now in zip(
            self.kept.state_dict().values(),
            self.bare.state_dict().values(),
            strict=True,
        ):
            if kept.is_floating_point():
                kept.lerp_(now, 1 - self.config.ema)
            else:
                kept.copy_(now)

    def _save(self, row: dict[str, Any]) -> None:
        """Everything to go on from, in one file; the metrics follow it."""
        state = {f"model.{k}": v for k, v in self.bare.state_dict().items()}
        if self.kept is not self.bare:
            state |= {f"kept.{k}": v for k, v in self.kept.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        progress = [self.epoch, self.stale, int(self.done)]
        state["progress"] = torch.tensor(progress)
        state["figures"] = torch.tensor([self.seconds, self.best], dtype=torch.float64)
        old = _metrics(self.out, self.epoch - 1)
        save_tensors(self.out / "checkpoint" / "training.safetensors", state)
        save_run(self.out, self.described, self.kept)
        text = "".join(json.dumps(each) + "\n" for each in [*old, row])
        (self.out / "metrics.jsonl").write_text(text, encoding="utf-8")

    def _resume(self) -> bool:
        """Go on from the last finished epoch, if the folder has one."""
        path = self.out / "checkpoint" / "training.safetensors"
        if not path.exists():
            return False
        before = read_json(self.out / "config.json")
        if before != json.loads(json.dumps(self.described)):
            raise UserError(
                f"{self.out}: holds a run with another configuration; give another "
                "--out, or remove that folder."
            )
        state = load_tensors(path)
        model = {k[6:]: v for k, v in state.items() if k.startswith("model.")}
        self.bare.load_state_dict(model)
        if self.kept is not self.bare:
            kept = {k[5:]: v for k, v in state.items() if k.startswith("kept.")}
            self.kept.load_state_dict(kept)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = value
        known = self.optimiser.state_dict()
        self.optimiser.load_state_dict(known | {"state": moments})
        self.epoch, self.stale, done = state["progress"].tolist()
        self.seconds, self.best = state["figures"].tolist()
        self.done = bool(done)
        return True


def _data_facts(dataset: Dataset) -> dict[str, Any]:
    """What a later `predict` must know of the data: its classes and its scale."""
    scale = {"mean": dataset.train.mean, "deviation": dataset.train.deviation}
    facts = {k: None if v is None else v.tolist() for k, v in scale.items()}
    return facts | {"kind": dataset.kind, "classes": list(dataset.classes)}


def _metrics(out: Path, epochs: int) -> list[dict[str, Any]]:
    """Lines of the first epochs; what a killed run wrote after them is dropped."""
    path = out / "metrics.jsonl"
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines()[:epochs]:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _loss(logits: Tensor, targets: Tensor, *, classes: bool) -> Tensor:
    """Cross-entropy in nats for classes, mean squared error for numbers."""
    if classes:
        return F.cross_entropy(logits, targets)
    return F.mse_loss(logits.view(targets.shape), targets.to(logits.dtype))


@torch.no_grad()
def _graph_figures(model: nn.Module) -> dict[str, float]:
    """Link density and signature spread of an unconditional circuit."""
    links = getattr(model, "links", None)
    config = getattr(model, "config", None)
    if links is None or getattr(config, "generator", "") != "unconditional":
        return {}
    p = links()
    count = len(p)
    off = (p.sum() - p.diagonal().sum()) / max(1, count * (count - 1))
    figures = {"density": off.item()}
    if getattr(config, "graph", "") == "learned":
        figures["graph_loss"] = model.regulariser().item()  # pyright: ignore[reportCallIssue]
        figures["link_spread"] = p.std().item()
    return figures
