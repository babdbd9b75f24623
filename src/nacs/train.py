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
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from nacs.augment import augmented
from nacs.compiled import compile_parts
from nacs.data.base import Batch, Dataset
from nacs.data.stored import Stored
from nacs.errors import DivergenceError, UserError
from nacs.evaluation import evaluate, moved
from nacs.graph import graph_figures
from nacs.models import lookup
from nacs.optim import learning_rate, parameter_groups, repeated_augmentation
from nacs.recipe import TrainConfig
from nacs.runs import (
    claim,
    completed,
    curve_board,
    describe_run,
    load_tensors,
    provenance,
    read_json,
    read_metrics,
    save_run,
    save_tensors,
    take_weights,
    write_json,
    write_metrics,
)
from nacs.sharded import check_sharding, partners, parts, shard, whole

__all__ = ["TrainConfig", "train"]

LOOK = 50
"""Steps from one look at the losses to the next: a look waits for the device."""


def train(
    name: str,
    sizes: Any,
    dataset: Dataset,
    config: TrainConfig,
    out: Path,
    *,
    start: Path | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train a model, or go on with a run that was interrupted, and test it once.

    Args:
        name: Of the model, in `nacs.models.MODELS`.
        sizes: Its configuration.
        dataset: The splits; the test split is used once, at the end.
        config: How it is trained.
        out: Run folder.
        start: Folder of a run of the same model, whose weights it starts from.
        report: For a search: is told the figures of every epoch once they are saved,
            and may raise to stop there. The test split is then left alone, and the
            final figures are of the validation split.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: If the folder is in use or belongs to another run, if the start is
            another model, if the loss is not finite, if the disk is full, or if another
            process of the run ends.
    """
    accelerator = Accelerator()
    check_sharding(accelerator, ema=config.ema, compiles=config.compile)
    own = claim(out) if accelerator.is_main_process else nullcontext()
    with own, partners(accelerator, out):
        run = _Run(accelerator, name, sizes, dataset, config, out, start)
        return run.finish(report)


class _Run:
    """The state of one training: model, optimiser, epoch, best validation loss."""

    def __init__(
        self,
        accelerator: Accelerator,
        name: str,
        sizes: Any,
        dataset: Dataset,
        config: TrainConfig,
        out: Path,
        start: Path | None,
    ) -> None:
        self.dataset, self.config, self.out = dataset, config, out
        self.accelerator = accelerator
        self.described = describe_run(name, sizes, config, dataset, start)
        torch.manual_seed(config.seed)
        self.bare: nn.Module = lookup(name).build(sizes)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(
                self.bare,
                weight_decay=config.weight_decay,
                signature_rate=config.signature_rate,
            ),
            lr=config.learning_rate,
            fused=True,
        )
        self.epoch, self.seconds, self.best, self.stale = 0, 0.0, math.inf, 0
        self.done = False
        self.best_weights: dict[str, Tensor] = {}  # filled where it may stop early
        self.kept = copy.deepcopy(self.bare) if config.ema else self.bare
        if not self._resume():
            prepare = getattr(self.bare, "prepare", None)
            if prepare is not None:
                prepare()
            if start is not None:
                take_weights(self.bare, start)
            self.kept.load_state_dict(self.bare.state_dict())
        self.kept.to(self.accelerator.device)
        if config.compile:
            compile_parts(self.bare)
        self.model: nn.Module = (
            shard(accelerator, self.bare, self.optimiser)
            if accelerator.is_fsdp2
            else accelerator.prepare_model(self.bare)
        )
        shown = config.tensorboard and accelerator.is_main_process
        self.board = curve_board(out, self.epoch) if shown else None

    def finish(self, report: Callable[[dict[str, Any]], None] | None) -> dict[str, Any]:
        """All remaining epochs, then the test."""
        config = self.config
        main = self.accelerator.is_main_process
        quiet = not main or report is not None
        with Progress(console=Console(stderr=True), disable=quiet) as progress:
            bar = progress.add_task("training", total=config.epochs)
            progress.update(bar, completed=self.epoch)
            while self.epoch < config.epochs and not self.done:
                row = self._one_epoch()
                shown = f"loss {row['loss']:.3f}  validation {row['val_loss']:.3f}"
                progress.update(bar, advance=1, description=shown)
                if report is not None:
                    report(row)
        weights = self._weights()
        self.kept.load_state_dict(parts(weights, self.kept.state_dict()))
        with torch.compiler.set_stance("force_eager"):
            part = "test" if report is None else "val"
            split = getattr(self.dataset, part)
            result = evaluate(self.kept, split, batch=config.batch)
        result = {f"{part}_{key}": value for key, value in result.items()}
        result |= {"epochs": self.epoch, "seconds": self.seconds, "seed": config.seed}
        result |= {"best_val_loss": self.best, **provenance()}
        if main:
            save_run(self.out, self.described, weights)
            write_json(self.out / "result.json", result)
        return result

    def _one_epoch(self) -> dict[str, Any]:
        config, start = self.config, time.perf_counter()
        rank = self.accelerator.process_index  # every process has noise of its own
        torch.manual_seed(config.seed * 1_000_003 + rank * 500_009 + self.epoch)
        self.model.train()
        losses: list[Tensor] = []
        steps = -(-len(self.dataset.train) // config.batch)
        for step, (batch, weight) in enumerate(self._batches()):
            rate = learning_rate(
                self.epoch + step / steps,
                epochs=config.epochs,
                peak=config.learning_rate,
                least=config.min_learning_rate,
                warmup_epochs=config.warmup_epochs,
            )
            matched = (self.epoch * steps + step) % config.match_every == 0
            losses.append(self._step(batch, weight, rate, rematch=matched))
            if step % LOOK == LOOK - 1:
                self._look(losses)
        self._look(losses)
        self.seconds += time.perf_counter() - start
        with torch.compiler.set_stance("force_eager"):
            val = evaluate(self.kept, self.dataset.val, batch=config.batch)
        if not math.isfinite(val["loss"]):  # after the last batch, whose loss was fine
            raise self._broken(f"validation loss is {val['loss']}", steps)
        self.epoch += 1
        loss: Any = self.accelerator.reduce(torch.stack(losses).mean(), "mean")
        row = {"epoch": self.epoch, "loss": loss.item()}
        row |= {f"val_{key}": value for key, value in val.items()}
        sample = self.dataset.val.batch(range(min(64, len(self.dataset.val))))
        sample = moved(sample, next(self.bare.parameters()))
        row |= {**graph_figures(self.bare, sample), "seconds": self.seconds}
        self.stale = 0 if val["loss"] < self.best else self.stale + 1
        self.best = min(self.best, val["loss"])
        if config.patience and not self.stale:
            now = whole(self.kept.state_dict())
            self.best_weights = {k: v.detach().clone() for k, v in now.items()}
        self.done = bool(config.patience) and self.stale >= config.patience
        state, weights = self._state(), self._weights()
        if self.accelerator.is_main_process:
            self._save(row, state, weights)
        self.accelerator.wait_for_everyone()
        return row

    def _batches(self) -> Iterator[tuple[Batch, float]]:
        """This process's share of every batch, and the weight of its mean loss.

        The processes' weighted losses average to the mean over the whole batch.
        """
        config = self.config
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        for chosen in self._order().split(config.batch):
            mine, weight = chosen, 1.0
            if len(chosen) >= world:
                mine = chosen[rank::world]
                weight = len(mine) * world / len(chosen)
            batch = self.dataset.train.batch(mine.numpy())
            yield moved(batch, next(self.bare.parameters())), weight

    def _order(self) -> Tensor:
        """The samples of this epoch, as many as there are."""
        config, count = self.config, len(self.dataset.train)
        seed = config.seed * 7919 + self.epoch
        if config.repeats > 1:
            return repeated_augmentation(count, epoch=seed, repeats=config.repeats)
        inputs = self.dataset.train.inputs
        if isinstance(inputs, Stored):
            world = self.accelerator.num_processes
            return torch.from_numpy(inputs.order(seed, world))
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def _look(self, losses: list[Tensor]) -> None:
        """Stop if a loss of this epoch is not finite; waits for the device."""
        values = torch.stack(losses)
        broken = (~torch.isfinite(values)).nonzero()
        if len(broken):
            step = int(broken[0])
            raise self._broken(f"loss is {values[step].item()}", step + 1)

    def _broken(self, what: str, batch: int) -> DivergenceError:
        return DivergenceError(
            f"the {what} in epoch {self.epoch + 1}, batch {batch}; the checkpoint of "
            f"epoch {self.epoch} is kept in {self.out}. Check the data for huge values "
            f"or lower the learning rate ({self.config.learning_rate})."
        )

    def _step(
        self, batch: Batch, weight: float, rate: float, *, rematch: bool
    ) -> Tensor:
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        classes = len(self.dataset.classes)
        inputs, targets = augmented(batch, self.dataset, config)
        device, low = self.accelerator.device.type, config.precision == "bf16"
        with torch.autocast(device, torch.bfloat16, enabled=low):
            logits = self.model(inputs, batch.keep, batch.context, batch.context_keep)
        logits = logits.float() if low else logits
        loss = weight * _loss(logits, targets, classes=bool(classes))
        regulariser = getattr(self.bare, "regulariser", None)
        if regulariser is not None and config.graph_weight:
            loss = loss + config.graph_weight * regulariser(rematch=rematch)
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

    def _weights(self) -> dict[str, Tensor]:
        """What the run leaves: the last weights, or the best if it may stop early."""
        return self.best_weights or whole(self.kept.state_dict())

    def _state(self) -> dict[str, Tensor]:
        """Everything to go on from; all processes make it, one saves it."""
        state = {f"model.{k}": v for k, v in self.bare.state_dict().items()}
        if self.kept is not self.bare:
            state |= {f"kept.{k}": v for k, v in self.kept.state_dict().items()}
        state |= {f"best.{k}": v for k, v in self.best_weights.items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        progress = [self.epoch, self.stale, int(self.done)]
        state["progress"] = torch.tensor(progress)
        state["figures"] = torch.tensor([self.seconds, self.best], dtype=torch.float64)
        return whole(state)

    def _save(
        self, row: dict[str, Any], state: dict[str, Tensor], weights: dict[str, Tensor]
    ) -> None:
        """Everything to go on from, in one file, after its row of figures.

        A run killed in between repeats the epoch and its row.
        """
        metrics = self.out / "metrics.jsonl"
        rows = [*read_metrics(metrics, self.epoch - 1), row]
        write_json(self.out / "config.json", self.described)
        write_metrics(metrics, rows)
        save_tensors(self.out / "checkpoint" / "training.safetensors", state)
        save_run(self.out, self.described, weights)
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, self.epoch)
            self.board.flush()

    def _resume(self) -> bool:
        """Go on from the last finished epoch, if the folder has one."""
        kept = self.out / "checkpoint"
        path = kept / "training.safetensors"
        if not any(kept.glob("*.safetensors")):
            return False
        before = completed(read_json(self.out / "config.json"))
        if before != json.loads(json.dumps(self.described)):
            raise UserError(
                f"{self.out}: holds a run with another configuration; give another "
                "--out, or remove that folder."
            )
        try:
            self._restore(load_tensors(path))
        except (RuntimeError, KeyError, ValueError, IndexError) as error:
            what = str(error).partition("\n")[0]
            raise UserError(
                f"{path}: not of this run ({what}); give another --out."
            ) from error
        return True

    def _restore(self, state: dict[str, Tensor]) -> None:
        """Take everything from what `_state` left."""
        self.bare.load_state_dict(_part(state, "model."))
        if self.kept is not self.bare:
            self.kept.load_state_dict(_part(state, "kept."))
        self.best_weights = _part(state, "best.")
        learned = [p for group in self.optimiser.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimiser."):
                _, index, name = key.split(".")
                like = value if name == "step" else learned[int(index)]
                # FSDP leaves (1,) where the shape is ().
                moments.setdefault(int(index), {})[name] = value.view_as(like)
        known = self.optimiser.state_dict()
        self.optimiser.load_state_dict(known | {"state": moments})
        self.epoch, self.stale, done = state["progress"].tolist()
        self.seconds, self.best = state["figures"].tolist()
        self.done = bool(done)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _loss(logits: Tensor, targets: Tensor, *, classes: bool) -> Tensor:
    """Cross-entropy in nats for classes, mean squared error for numbers."""
    if classes:
        return F.cross_entropy(logits, targets)
    if logits.numel() != targets.numel():
        raise UserError(
            f"expected answers of shape {tuple(targets.shape)}, got "
            f"{tuple(logits.shape)}; `pooling` is none where every frame is asked about"
        )
    return F.mse_loss(logits.view(targets.shape), targets.to(logits.dtype))
