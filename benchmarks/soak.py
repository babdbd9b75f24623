"""An hour of training and an hour of serving: does memory grow, do files stay open?

    train digits again and again, in this process        →  resident memory, open files
    ask the explorer's application questions, one a time  →  at every sample
    slope of memory by least squares, its standard error, in MB an hour

The first fifth of the time warms up (imports, caches, the allocator) and is left out.

Run:  python benchmarks/soak.py --minutes 60      (writes docs/results/soak.json)
"""

import argparse
import contextlib
import gc
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nacs import data
from nacs.attentive import presets
from nacs.recipe import TrainConfig
from nacs.runs import write_json
from nacs.train import train

ROOT = Path(__file__).resolve().parents[1]
WARM = 0.2
"""Share of the time that is left out of the slope."""

EVERY = 2.0
"""Seconds from one look at the memory to the next."""


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    """File descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def slope(hours: np.ndarray, megabytes: np.ndarray) -> tuple[float, float]:
    """Least squares: MB an hour, and its standard error.

    Example:
        >>> slope(np.arange(4.0), np.array([1.0, 3.0, 5.0, 7.0]))
        (2.0, 0.0)
    """
    x, y = hours - hours.mean(), megabytes - megabytes.mean()
    found = (x @ y) / (x @ x)
    left = y - found * x
    error = np.sqrt((left @ left) / max(1, len(x) - 2) / (x @ x))
    return round(float(found), 3), round(float(error), 3)


def soaked(work: Callable[[], None], minutes: float) -> dict[str, Any]:
    """Do the work again and again for so long, and watch."""
    work()
    gc.collect()
    rows: list[tuple[float, float, int]] = []
    before, turns, began, last = open_files(), 0, time.perf_counter(), 0.0
    while (now := time.perf_counter() - began) < 60 * minutes:
        work()
        turns += 1
        if now - last >= EVERY:
            last = now
            rows.append((now / 3600, resident(), open_files()))
    kept = np.array([row for row in rows if row[0] >= WARM * rows[-1][0]])
    grown, error = slope(kept[:, 0], kept[:, 1])
    return {
        "minutes": minutes,
        "turns": turns,
        "looks": len(kept),
        "megabytes": {
            "first": round(float(kept[0, 1]), 1),
            "last": round(float(kept[-1, 1]), 1),
            "most": round(float(kept[:, 1].max()), 1),
        },
        "megabytes_an_hour": {"slope": grown, "standard_error": error},
        "open_files": {"before": before, "after": open_files()},
    }


@contextlib.contextmanager
def training(folder: Path) -> Generator[Callable[[], None], None, None]:
    """One whole training, with checkpoints, of a small circuit."""
    digits = data.load("digits")
    digits = replace(digits, train=digits.train.take(range(320)))
    config = TrainConfig(epochs=2, batch=64, ema=0.9, patience=5)

    def work() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            train("attentive", presets.tiny(), digits, config, folder)
        shutil.rmtree(folder)

    yield work


@contextlib.contextmanager
def serving(folder: Path) -> Generator[Callable[[], None], None, None]:
    """One question of each kind to the explorer's application, in process.

    One loop answers all, as in a server. Were each asked in a thread of its own, glibc
    would give every few threads an arena that they never give back.
    """
    from starlette.testclient import TestClient

    from nacs.view import Viewed
    from nacs.view.server import app

    digits = data.load("digits")
    train("attentive", presets.tiny(), digits, TrainConfig(epochs=1), folder)
    viewed = Viewed(folder, samples=32)
    client = TestClient(app(viewed, 8324), base_url="http://127.0.0.1:8324")
    asked = 0

    def work() -> None:
        nonlocal asked
        asked += 1
        for path in (
            *("/", "/api/run", "/api/metrics", "/api/curves"),
            f"/api/sample?i={asked % 300}",
            f"/api/surgery?modules={asked % 10 / 10}&edges={asked % 7 / 7}",
        ):
            answer = client.get(path)
            assert answer.status_code == 200, answer.text[:200]
        assert client.get("/api/sample?i=-1").status_code == 400

    with client:
        yield work


def main() -> None:
    """Both, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs" / "results" / "soak.json"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"torch": torch.__version__}
    with tempfile.TemporaryDirectory() as made:
        for name, work in {"training": training, "serving": serving}.items():
            with work(Path(made) / name) as each:
                found[name] = soaked(each, options.minutes)
            print(name, found[name], flush=True)
            write_json(options.out, found)


if __name__ == "__main__":
    main()
