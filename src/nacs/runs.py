"""Run folders: configuration, metrics, result and checkpoint, never half written.

    config.json       model, preset, sizes, training, data
    metrics.jsonl     one line an epoch
    result.json       final figures, seconds, versions, revision, seed
    checkpoint/       model.safetensors; training.safetensors to go on from

A file is written beside its place and renamed over it, so a reader, or a resumed run,
finds the old one or the new one and nothing in between. Nothing is ever pickled.
"""

import json
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nacs.data.base import DataFacts, Dataset
from nacs.errors import UserError
from nacs.models import config_from_json, lookup
from nacs.sized import sized

__all__ = [
    "claim",
    "completed",
    "curve_board",
    "describe_run",
    "facts_of",
    "forget",
    "load_run",
    "load_tensors",
    "provenance",
    "read_json",
    "read_metrics",
    "save_run",
    "save_tensors",
    "take_weights",
    "weights_of",
    "whole_folder",
    "write_json",
    "write_metrics",
    "written",
]


LARGEST_TEXT = 1 << 27
"""Bytes of a JSON file of a run."""


@contextmanager
def written(path: Path) -> Generator[Path, None, None]:
    """A temporary place that becomes `path` once the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that no link can lie in wait under, and no other process has.
    beside = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: could not be written ({error.strerror or error}); what was "
            "there before is untouched."
        ) from error
    except SafetensorError as error:
        raise UserError(
            f"{path}: could not be written ({error}); what was there before is "
            "untouched."
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON in one step.

    Raises:
        UserError: If the disk is full or the folder cannot be written.
    """
    with written(path) as beside:
        beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def write_metrics(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line of JSON a row, in one step.

    Raises:
        UserError: If the disk is full or the folder cannot be written.
    """
    with written(path) as beside:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        beside.write_text(lines, encoding="utf-8")


def read_metrics(path: Path, epochs: int | None = None) -> list[dict[str, Any]]:
    """Rows of the first epochs, or all; none where there is no file yet.

    Raises:
        UserError: If a row is no JSON object.
    """
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_text(path).splitlines()[:epochs], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: row {number}: no JSON ({error}).") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: row {number}: expected a JSON object.")
        rows.append(row)
    return rows


def _text(path: Path) -> str:
    """The text of a small file."""
    if (size := path.stat().st_size) > LARGEST_TEXT:
        raise UserError(
            f"{path}: expected at most {LARGEST_TEXT:,} bytes, got {size:,}."
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable text ({error}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: If it is missing or no JSON object.
    """
    try:
        values = json.loads(_text(path))
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; is this the folder of a run?"
        ) from error
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: no readable JSON ({error}).") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(values).__name__}.")
    return values


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, in one step."""
    with written(path) as beside:
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, beside
        )


def forget(folder: Path) -> None:
    """Remove what a run would go on from, which is twice as large as its weights."""
    (folder / "checkpoint" / "training.safetensors").unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors.

    Raises:
        UserError: If the file is missing or broken.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; is this the folder of a run?")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: a broken checkpoint ({error}).") from error


def save_run(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> None:
    """Leave a model's weights and its configuration where `load_run` finds them."""
    write_json(folder / "config.json", config)
    save_tensors(folder / "checkpoint" / "model.safetensors", weights)


@contextmanager
def whole_folder(folder: Path) -> Generator[Path, None, None]:
    """A temporary folder that becomes `folder` once the block ends without an error.

    Raises:
        UserError: If `folder` already holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: already holds something; give another --out.")
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        beside.mkdir(parents=True)
        yield beside
        beside.replace(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: could not be written ({error.strerror or error})."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def weights_of(folder: Path) -> Path:
    """Where a run has its weights, or a folder as the Hub has it."""
    alone = folder / "model.safetensors"
    return alone if alone.exists() else folder / "checkpoint" / alone.name


def load_run(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained model of a run folder, in evaluation mode, and its `config.json`.

    A folder of `save_pretrained` will do; weights keep the type they were saved in.

    Raises:
        UserError: If the folder is none of a run, or its files do not fit.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the folder of a run.")
    config = read_json(folder / "config.json")
    name, sizes = config.get("model"), config.get("sizes")
    if not isinstance(name, str) or not isinstance(sizes, dict):
        raise UserError(
            f"{folder / 'config.json'}: expected the name of a `model` and its `sizes`."
        )
    state = load_tensors(weights_of(folder))
    try:
        row = lookup(name)
        model = sized(row.build, config_from_json(row.config, sizes), state)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    # Copied to where memory is aligned, or sums round otherwise than in training.
    model.load_state_dict({k: v.clone() for k, v in state.items()}, assign=True)
    return model.eval(), config


@contextmanager
def claim(folder: Path) -> Generator[None, None, None]:
    """Hold a run folder for this process; a second run in it is refused.

    The lock goes with its process, however that ends. What a killed process left half
    written is removed.

    Raises:
        UserError: If another process holds it, or a link would lead out of it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    for name in (".lock", "checkpoint", "tensorboard"):
        if (folder / name).is_symlink():
            raise UserError(f"{folder / name}: expected no link; remove it.")
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"{folder}: another run is using this folder (process "
                f"{file.read(20) or 'unknown'}); wait for it or give another --out."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        for place in (folder, folder / "checkpoint"):
            for left in place.glob(f".{'[0-9a-f]' * 16}.*"):
                left.unlink(missing_ok=True)
        yield


def provenance() -> dict[str, Any]:
    """Versions, machine and git revision of this process."""
    import numpy as np

    from nacs import __version__
    from nacs.native import level

    try:
        revision = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        revision = ""
    return {
        "versions": {
            "nacs": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "threads": torch.get_num_threads(),
        "compiled": level(),
        "revision": revision or None,
    }


def describe_run(
    model_name: str,
    sizes: Any,
    training: Any,
    dataset: Dataset,
    start: Path | None = None,
) -> dict[str, Any]:
    """What `config.json` of a run holds, with that of the run it starts from."""
    before = {} if start is None else {"start": read_json(start / "config.json")}
    return before | {
        "model": model_name,
        "sizes": asdict(sizes),
        "training": asdict(training),
        "data": asdict(dataset.facts),
    }


def take_weights(model: nn.Module, start: Path) -> None:
    """Give a model the weights of a run.

    Raises:
        UserError: If they are of another model.
    """
    weights = load_run(start)[0].state_dict()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"{start}: expected a run of the same model in the same sizes to start "
            f"from, got another ({str(error).splitlines()[-1].strip()})."
        ) from error


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config.json, with defaults of sizes that are newer than it is."""
    row = lookup(str(config.get("model")))
    sizes = asdict(config_from_json(row.config, config.get("sizes", {})))
    return {**config, "sizes": json.loads(json.dumps(sizes))}


def facts_of(config: Mapping[str, Any]) -> DataFacts:
    """How a run's data was read, from its `config.json`.

    Raises:
        UserError: If the file does not say.
    """
    facts = config.get("data")
    if not isinstance(facts, dict):
        raise UserError(
            "config.json: expected an object `data`; is it of this version?"
        )
    try:
        return config_from_json(DataFacts, facts)
    except UserError as error:
        raise UserError(f"config.json: {error}") from error


def curve_board(out: Path, epoch: int) -> Any:
    """A writer for TensorBoard that goes on after this epoch.

    Raises:
        UserError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "`tensorboard` is not installed: pip install 'nacs[logging]'."
        ) from error
    return SummaryWriter(out / "tensorboard", purge_step=epoch + 1)
