"""docs/rivals.md: every table of rivals on real series, from docs/results.

Run:  python benchmarks/rivals_page.py       (after `rivals_table.py`, which trains)
"""

import math
from typing import Any

from nacs.runs import read_json
from rivals_table import ROOT, markdown

PAGE = ROOT / "docs" / "rivals.md"

TASKS = {
    "japanese-vowels": "JapaneseVowels: accuracy, 9 speakers",
    "activity": "AReM: accuracy, 7 activities, recordings held out whole",
    "engines": "C-MAPSS FD001: root mean squared error in cycles, lower is better",
    "physionet": "PhysioNet 2012: area under the ROC curve of deaths, all of set b",
    "event-mnist": "Event-based MNIST: accuracy, the demo's digits",
    "bearings": "Bearings held out whole: root mean squared error, lower is better",
    "udacity": "Udacity steering: root mean squared error, lower is better",
    "lane-keeping": "CarRacing, unseen tracks: root mean squared "
    "error of the driver's controls, lower is better",
}
"""Results of `rivals_table.py` in the order of the page."""

LOWER = ("rmse", "loss")
BESIDE = (
    "multi-head",
    "torch-nac",
    "top-k softmax",
    "uniform",
    "gru",
    "lstm",
    "cfc",
    "mtan",
)

OPENING = """# Rivals on real series

Written by `python benchmarks/rivals_page.py` from `docs/results/*.json`, which
`python benchmarks/rivals_table.py TASK` writes: do not edit. One thread; 5 seeds, which
also draw the split where its publisher fixed none; one layer of 32 channels, every
model brought to the parameters of the largest by its feed-forward width; equal epochs;
learning rate (0.003 or 0.01) chosen model by model, and the best epoch, on the
validation split. Differences are paired by seed, ± one standard error. Columns
"dropped" have 30, 50 and 70 % of the observations left out at test time. "times alone"
sees no values; "uniform" is the same model with equal weights for all keys; "top-k
softmax" the same selection without the ODE.

"Chosen" is the best on validation of three of ours: 8 keys, 32 keys, and 32 keys with
the elapsed time as horizon. Rivals had no such choice.

## In short

How much better the chosen one is, ± one standard error; minus means worse. In the unit
of the task's score, errors with their sign turned.
"""


def better(found: dict[str, Any], rival: str) -> str:
    """How much better the chosen variant is than a rival."""
    score = next(iter(next(iter(found["models"].values())))).removeprefix("test_")
    off = found["models"].get(rival, {}).get("chosen minus this")
    if off is None:
        return ""
    mean = -off["mean"] if score in LOWER else off["mean"]
    error = off["deviation"] / math.sqrt(len(off["seeds"]))
    return f"{mean:+.3f} ± {error:.3f}"


def page() -> str:
    """The whole page."""
    paths = {name: ROOT / "docs" / "results" / f"{name}.json" for name in TASKS}
    results = {name: read_json(path) for name, path in paths.items() if path.exists()}
    lines = [OPENING, "| task | chosen | " + " | ".join(BESIDE) + " |"]
    lines.append("|---|---|" + "---|" * len(BESIDE))
    for name, found in results.items():
        cells = [found.get("chosen") or "", *(better(found, each) for each in BESIDE)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, found in results.items():
        lines += ["", f"## {TASKS[name]}", "", markdown(found)]
        how = f"revision {found['revision'][:7]}, {found['machine']}"
        lines += ["", f"_`{found['command']}`, {how}_"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
