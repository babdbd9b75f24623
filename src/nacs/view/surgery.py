"""What a circuit loses and saves as modules and edges go: measured, and kept.

The figures of a run lie in its folder, in `view.json`, and hold for one checkpoint and
as many samples as were asked for; a changed checkpoint is measured anew.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nacs.attentive import AttentiveCircuit, drop_modules, eliminate_edges
from nacs.data.base import Split
from nacs.errors import UserError
from nacs.evaluation import evaluate, moved
from nacs.flops import multiply_adds
from nacs.runs import read_json, weights_of, write_json

__all__ = ["SHARES", "Surgeon"]

SHARES = {
    "modules": (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "edges": (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0),
}
"""Shares removed at which the curves are measured."""

BATCH = 32
ROUNDS = 3


class Surgeon:
    """Measures smaller versions of one circuit on a part of its test split.

    Args:
        folder: The run's.
        model: Its circuit.
        split: What accuracy is measured on.
    """

    def __init__(self, folder: Path, model: AttentiveCircuit, split: Split) -> None:
        self.folder, self.model, self.split = folder, model, split
        self._key = f"{_digest(folder)} {len(split)}"
        self._seconds: float | None = None
        self._counted: dict[int, int] = {}

    def curves(self) -> dict[str, list[dict[str, Any]]]:
        """Accuracy, multiply-adds and speed at every share, from the cache if there."""
        cached = self._cached()
        if cached is not None:
            return cached
        alike = self.model.config.graph == "complete"  # no edge is weaker
        edges = [share for share in SHARES["edges"] if not (alike and share)]
        found = {
            "modules": [self.measure(share, 0.0) for share in SHARES["modules"]],
            "edges": [self.measure(0.0, share) for share in edges],
        }
        # A run may lie where nobody may write; then it is measured each time.
        with suppress(UserError):
            write_json(self.folder / "view.json", {"key": self._key, "curves": found})
        return found

    def smaller(self, modules: float, edges: float) -> AttentiveCircuit:
        """The circuit without these shares of its modules and edges, in [0, 1]."""
        for name, share in {"modules": modules, "edges": edges}.items():
            if not 0 <= share <= 1:
                raise UserError(f"{name} must lie in [0, 1], got {share}.")
        model = drop_modules(self.model, self.kept(modules)) if modules else self.model
        if edges and model.config.graph == "complete":
            raise UserError("all edges of a complete graph are alike: edges must be 0.")
        return eliminate_edges(model, edges) if edges else model

    def kept(self, modules: float) -> int:
        """How many modules stay if this share goes; one always does."""
        config = self.model.config
        return max(1, round((config.kept or config.modules) * (1 - modules)))

    def measure(self, modules: float, edges: float) -> dict[str, Any]:
        """Figures of the circuit without these shares of modules and edges."""
        smaller = self.smaller(modules, edges)
        figures = evaluate(smaller, self.split)
        score = "accuracy" if "accuracy" in figures else "rmse"
        return {
            "modules": modules,
            "edges": edges,
            "kept": self.kept(modules),
            score: figures[score],
            "samples": len(self.split),
            "multiply_adds": self._multiply_adds(smaller),
            "speedup": 1.0 if smaller is self.model else self._speedup(smaller),
        }

    def _speedup(self, smaller: AttentiveCircuit) -> float:
        """Of a smaller circuit over the whole one."""
        if self._seconds is None:
            self._seconds = self._time(self.model)
        return self._seconds / max(self._time(smaller), 1e-9)

    def _multiply_adds(self, model: AttentiveCircuit) -> int:
        """Of one sample; edges that are gone need no product of query and key."""
        config = model.config
        count = config.kept or config.modules
        if count not in self._counted:
            whole = eliminate_edges(model, 0.0) if config.edges_removed else model
            inputs = [each for each in self._inputs(1) if each is not None]
            self._counted[count] = multiply_adds(whole, *inputs)
        gone = 2 * round(config.edges_removed * (count * (count - 1) // 2))
        less = 2 * gone * config.layers * config.heads * config.head_width
        return self._counted[count] - less

    def _inputs(self, count: int) -> Iterator[torch.Tensor | None]:
        batch = self.split.batch(range(min(count, len(self.split))))
        batch = moved(batch, next(self.model.parameters()))
        yield from (batch.inputs, batch.keep, batch.context, batch.context_keep)

    @torch.inference_mode()
    def _time(self, model: AttentiveCircuit) -> float:
        """Median processor seconds of a batch; the first round warms up."""
        inputs = list(self._inputs(BATCH))
        seconds: list[float] = []
        for _ in range(ROUNDS + 1):
            start = time.process_time()
            model(*inputs)
            seconds.append(time.process_time() - start)
        return median(seconds[1:])

    def _cached(self) -> dict[str, list[dict[str, Any]]] | None:
        try:
            kept = read_json(self.folder / "view.json")
        except UserError:
            return None
        return kept.get("curves") if kept.get("key") == self._key else None


def _digest(folder: Path) -> str:
    with weights_of(folder).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
