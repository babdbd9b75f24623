"""Where experiments are done: what was trained or measured once is not done again.

arm, seed  →  run folder, trained or gone on with  →  measures, a JSON file each
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from accelerate import Accelerator
from rich.console import Console
from torch import nn

from nacs import data
from nacs.data.base import Dataset
from nacs.errors import UserError
from nacs.recipe import TrainConfig
from nacs.runs import describe_run, load_run, read_json, read_metrics, write_json
from nacs.train import train

__all__ = ["SCALES", "Arm", "Experiment", "Run", "Scale", "Workshop"]

Scale: TypeAlias = Literal["smoke", "here", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "here", "paper")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the models that an experiment compares."""

    name: str
    """What tables call it."""

    model: str
    """Its name in `nacs.models.MODELS`."""

    sizes: Any
    """Its configuration."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question with its answer: figures, what they say, and a picture."""

    title: str
    """Which table or figure of the paper, and what it is about."""

    paper: str
    """What the paper reports, in Markdown."""

    run: "Callable[[Workshop], dict[str, Any]]"
    """All figures, as JSON."""

    tell: Callable[[dict[str, Any]], str]
    """The figures as Markdown, from that JSON alone."""

    draw: Callable[[dict[str, Any], Path], None] | None = None
    """Draws them into a file, from that JSON alone."""


@dataclass
class Workshop:
    """What the experiments of one scale share: settings, data, trained runs."""

    folder: Path
    """Of the runs, and of all they leave."""

    scale: Scale = "smoke"
    """How much is done: in a minute, on this machine, or the paper's recipe."""

    files: Path | None = None
    """A folder of data sets that would otherwise be downloaded."""

    _expected: int = 0
    _done: set[Path] = field(default_factory=set[Path])
    _seconds: list[float] = field(default_factory=list[float])

    def expect(self, count: int) -> None:
        """So many trainings follow: to tell how many are left, and for how long."""
        self._expected, self._done, self._seconds = count, set(), []

    def pick(self, **by_scale: Any) -> Any:
        """The one of three settings that is for this scale."""
        return by_scale[self.scale]

    def file(self, name: str, otherwise: str) -> Path:
        """The path of a file among those given.

        Args:
            name: Of the file.
            otherwise: What the user can do without it.

        Raises:
            UserError: If it is not there.
        """
        path = (self.files or Path()) / name
        if self.files is None or not path.is_file():
            raise UserError(
                f"{path}: no such file, which scale {self.scale} needs; {otherwise}"
            )
        return path

    def load(self, file: str, name: str, **options: Any) -> Dataset:
        """A data set from a file if it is among those given, else by its name."""
        if self.files is not None and (self.files / file).is_file():
            return data.load(self.files / file, **options)
        return data.load(name, **options)

    def runs(
        self,
        study: str,
        arms: Sequence[Arm],
        dataset: Dataset,
        training: TrainConfig,
        seed: int,
        before: "Mapping[str, Run] | None" = None,
    ) -> "dict[str, Run]":
        """All arms with one seed; nothing is trained before its first measure.

        Args:
            study: Folder of the runs.
            arms: What is trained.
            dataset: On what.
            training: How.
            seed: Of all of them.
            before: Runs of the same arms from whose weights these start.
        """
        return {
            arm.name: Run(
                workshop=self,
                arm=arm,
                dataset=dataset,
                training=replace(training, seed=seed),
                folder=self.folder / study / _slug(arm.name) / str(seed),
                before=before[arm.name] if before else None,
            )
            for arm in arms
        }

    def trained(self, run: "Run") -> nn.Module:
        """The model of a run in evaluation mode, trained if it is not yet."""
        arm = run.arm
        wanted = json.loads(json.dumps(run.described))
        done = run.folder / "result.json"
        if not (done.exists() and read_json(run.folder / "config.json") == wanted):
            if run.before:
                self.trained(run.before)
            began = time.monotonic()
            if Accelerator().is_main_process:
                told = f"{arm.name}, seed {run.training.seed}{self._left()}"
                Console(stderr=True).print(told)
            start = run.before and run.before.folder
            train(
                arm.model,
                arm.sizes,
                run.dataset,
                run.training,
                run.folder,
                start=start,
            )
            Accelerator().wait_for_everyone()  # the first process writes
            self._seconds.append(time.monotonic() - began)
        self._done.add(run.folder)
        return load_run(run.folder)[0].eval()

    def _left(self) -> str:
        """How many trainings are left, and for how long."""
        if not self._expected:
            return ""
        left = max(0, self._expected - len(self._done))
        told = f": {left} of {self._expected} trainings left"
        if self._seconds:
            minutes = left * sum(self._seconds) / len(self._seconds) / 60
            told += f", about {minutes:.0f} min"
        return told


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm with one seed, and what was measured of it."""

    workshop: Workshop
    arm: Arm
    dataset: Dataset
    training: TrainConfig
    folder: Path
    before: "Run | None" = None
    """What is trained first, and from whose weights it starts."""

    @property
    def described(self) -> dict[str, Any]:
        """What `config.json` of the run holds."""
        told = describe_run(self.arm.model, self.arm.sizes, self.training, self.dataset)
        return told | ({"start": self.before.described} if self.before else {})

    def measure(
        self, name: str, act: Callable[[nn.Module], Any], **settings: Any
    ) -> Any:
        """What `act` finds of the trained model, or found when it was last asked.

        Args:
            name: Of the file that keeps it.
            act: Takes the model in evaluation mode, returns JSON.
            settings: What the answer depends on beside the run; another value asks
                again.
        """
        path = self.folder / "measures" / f"{name}.json"
        asked = {"run": self.described, "samples": len(self.dataset.train), **settings}
        asked = json.loads(json.dumps(asked))
        if path.exists() and (kept := read_json(path))["asked"] == asked:
            return kept["found"]
        found = json.loads(json.dumps(act(self.workshop.trained(self))))
        if Accelerator().is_main_process:
            write_json(path, {"asked": asked, "found": found})
        return found

    def history(self) -> list[dict[str, Any]]:
        """The metrics of every epoch."""
        self.workshop.trained(self)
        return read_metrics(self.folder / "metrics.jsonl", self.training.epochs)


def _slug(name: str) -> str:
    """A name as a folder."""
    kept = (c if c.isalnum() else "-" for c in name.lower())
    return "-".join(filter(None, "".join(kept).split("-")))
