"""Kill training, pruning and export at random moments, and see that nothing is lost.

    a run that was never killed                              →  its numbers
    start, kill -9 at a random moment, start again, 20 times  →  the same?

Every start is a fork of this process, which has imported everything but run nothing, so
that most moments fall into the work itself.

Run:  python benchmarks/kills.py        (writes docs/results/kills.json)
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from nacs import data
from nacs.cli import main
from nacs.runs import load_tensors, read_json, read_metrics, write_json

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = (
    *("torch._dynamo", "torch._export", "nacs.train"),
    *("nacs.verbs.train", "nacs.verbs.prune", "nacs.verbs.export"),
)
"""What no fork should spend its time on."""

VERBS = ("train", "train", "prune", "export")
"""What is killed in turn."""

CHANGING = {"seconds", "revision"}
"""What two runs of the same command may differ in."""


def command(verb: str, run: Path, out: Path) -> list[str]:
    """The arguments of `nacs`."""
    if verb == "train":
        options = ["--training.epochs", "3", "--training.ema", "0.9"]
        return ["train", "digits", "--preset", "tiny", "--out", str(out), *options]
    options = ["--keep", "0.5"] if verb == "prune" else []
    return [verb, str(run), *options, "--out", str(out)]


def place(verb: str, folder: Path) -> Path:
    """Where a verb leaves what it makes."""
    return folder / ("program.pt2" if verb == "export" else "run")


def start(arguments: list[str]) -> int:
    """Run `nacs` in a fork; returns the process."""
    process = os.fork()
    if process:
        return process
    code = 1
    with contextlib.suppress(BaseException):
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        code = main(arguments)
    os._exit(code)


def finish(arguments: list[str]) -> float:
    """Run `nacs` to its end; returns its seconds."""
    began = time.perf_counter()
    _, status = os.waitpid(start(arguments), 0)
    assert status == 0, f"nacs {' '.join(arguments)} ended with {status}"
    return time.perf_counter() - began


def killed(arguments: list[str], after: float) -> bool:
    """Start `nacs` and kill it; False if it had ended before."""
    process = start(arguments)
    time.sleep(after)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def check_whole(folder: Path) -> int:
    """Read every file that has its name; returns how many. A broken one raises."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    files = [p for p in files if not any(n.startswith(".") for n in p.parts[-3:])]
    for path in files:
        if path.suffix == ".json":
            read_json(path)
        elif path.suffix == ".jsonl":
            read_metrics(path)
        elif path.suffix == ".safetensors":
            load_tensors(path)
        else:
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None, path
    return len(files)


def numbers(verb: str, out: Path) -> dict[str, Any]:
    """All figures that a verb leaves; of weights their bytes."""
    if verb == "export":
        with zipfile.ZipFile(out) as archive:
            held = {n: archive.read(n) for n in archive.namelist() if "weights" in n}
        assert held
        return held
    found: dict[str, Any] = {
        "result": read_json(out / "result.json"),
        "metrics": read_metrics(out / "metrics.jsonl"),
    }
    for row in (found["result"], *found["metrics"]):
        for name in CHANGING & set(row):
            del row[name]
    for path in sorted((out / "checkpoint").iterdir()):
        tensors = load_tensors(path)
        tensors.pop("figures", None)  # holds seconds
        found[path.name] = {k: v.double().tolist() for k, v in tensors.items()}
    return found


def measured(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """The kills, one after another."""
    moments = random.Random(seed)
    run = folder / "whole" / "run"
    seconds = {
        verb: finish(command(verb, run, place(verb, folder / f"{verb} whole")))
        for verb in ("train",)
    }
    shutil.move(folder / "train whole", folder / "whole")
    wanted = {"train": numbers("train", run)}
    for verb in ("prune", "export"):
        out = place(verb, folder / verb)
        out.parent.mkdir()
        seconds[verb] = finish(command(verb, run, out))
        wanted[verb] = numbers(verb, out)
    rows: list[dict[str, Any]] = []
    while len(rows) < kills:
        verb = VERBS[len(rows) % len(VERBS)]
        again = Path(tempfile.mkdtemp(dir=folder))
        arguments = command(verb, run, place(verb, again))
        after = moments.uniform(0.02, 1.0) * seconds[verb]
        if not killed(arguments, after):
            continue  # it had ended; another moment
        whole = check_whole(again)
        finish(arguments)
        same = numbers(verb, place(verb, again)) == wanted[verb]
        moment = round(after / seconds[verb], 3)
        rows.append({"verb": verb, "moment": moment, "files": whole, "same": same})
        shutil.rmtree(again)
    return {
        "kills": rows,
        "same": sum(row["same"] for row in rows),
        "seconds": {verb: round(value, 2) for verb, value in seconds.items()},
        "seed": seed,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results" / "kills.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for each in IMPORTED:
        import_module(each)
    data.load("digits")  # and what that imports
    with tempfile.TemporaryDirectory() as made:
        found = measured(options.kills, options.seed, Path(made))
    write_json(options.out, found)
    print(json.dumps({k: v for k, v in found.items() if k != "kills"}))
    assert found["same"] == len(found["kills"]), found["kills"]
