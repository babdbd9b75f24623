"""docs/reliability.md from what the kills, the fuzz and the soak recorded.

Run:  python benchmarks/reliability.py       (after make kills, make fuzz, make soak)
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "reliability.md"

FAULTS = {
    "kill -9 during training, pruning or export": (
        "the same command goes on, or starts anew, to the same figures; no file under "
        "its own name is ever half written"
    ),
    "disk full": "one message, exit code 2, the last good checkpoint stays",
    "a file that goes while it is read": "one message that names it",
    "one of two processes dies": (
        "the other ends with a message and exit code 2; started again, all go on from "
        "the last finished epoch"
    ),
    "NaN in data": "refused, with the sample; in a series it means missing",
    "a loss that explodes": (
        "training stops and names the batch; weights that broke in an epoch's last "
        "batch are not saved either"
    ),
    "an interrupted download": "resumed, and believed only by its hash",
    "two runs in one folder": (
        "the second is refused and told the first one's process; the lock of a killed "
        "process is gone with it"
    ),
    "a clock that runs backwards": "durations are those of a monotonic clock",
    "no home, LC_ALL=C, names from anywhere": (
        "works; a letter the terminal has not is written as its number"
    ),
}
"""What goes wrong, and what then happens; tests/unit/test_faults.py does each."""


def read(name: str) -> dict[str, Any]:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def kills(found: dict[str, Any]) -> list[str]:
    """How often what was killed, and whether its figures were the same."""
    tried = Counter(row["verb"] for row in found["kills"])
    same = Counter(row["verb"] for row in found["kills"] if row["same"])
    rows = [f"| {verb} | {count} | {same[verb]} |" for verb, count in tried.items()]
    return [
        f"{found['same']} of {len(found['kills'])} ended with the figures and weights "
        "of a run that was never killed; after each kill every file under its own name "
        "could be read (`make kills`).",
        "",
        "| killed | times | same figures |",
        "|---|---|---|",
        *rows,
    ]


def fuzz(found: dict[str, Any]) -> list[str]:
    """Inputs by target."""
    rows = [
        f"| {name} | {row['inputs']:,} | {row['seconds']:.0f} |"
        for name, row in found["targets"].items()
    ]
    return [
        f"{found['inputs']:,} inputs in {found['seconds']:,} s on one core: "
        f"{found['crashes']} failures (`make fuzz`). The readers are driven by "
        "libFuzzer (atheris), which looks for inputs that reach new code; "
        "a failure is anything "
        "but a `UserError` that names the file, or 20 s without an end. Configurations "
        "come from hypothesis, and may raise a `UserError` alone; questions to the "
        "explorer from schemathesis, to be answered below 500 and with a message.",
        "",
        "| target | inputs | s |",
        "|---|---|---|",
        *rows,
    ]


REPAIRED = (
    "a broken gzip stream, or JSON nested without end, in a table, an NLVR file or a "
    "run folder;",
    "numbers beyond float32 in tables, clouds, meshes and arrays;",
    "arrays of an `.npz` file that contradict each other, and array headers that "
    "Python 2 wrote;",
    "pictures whose tags are broken;",
    "figures in NLVR's scenes without a size, or of infinite size;",
    "broken rows of `metrics.jsonl`;",
    "values in `config.json` that are none of a field's choices, None where sizes "
    "belong, integers no float can hold;",
    "shares that are no numbers, and folders nobody can write, in the explorer.",
)
"""What fuzzing found before; each ended in a traceback or a warning."""


def soak(found: dict[str, Any]) -> list[str]:
    """Slopes of memory, and open files."""
    rows: list[str] = []
    for name in ("training", "serving"):
        row = found[name]
        grown, files = row["megabytes_an_hour"], row["open_files"]
        rows.append(
            f"| {name} | {row['minutes']:g} | {row['turns']:,} | "
            f"{row['megabytes']['last']:.0f} | {grown['slope']:.1f} ± "
            f"{grown['standard_error']:.1f} | {files['before']} → {files['after']} |"
        )
    return [
        "A training, or a round of questions to the explorer, again and again in one "
        "process (`make soak`). The slope is that of a least-squares line with its "
        "standard error, without the first fifth of the time; over minutes it shows "
        "the allocator settling, over an hour a leak.",
        "",
        "| what | minutes | turns | MB at the end | MB an hour | open files |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def page() -> str:
    """The page."""
    faults = [f"| {fault} | {then} |" for fault, then in FAULTS.items()]
    lines = [
        "# Reliability",
        "",
        "<!-- made by benchmarks/reliability.py from docs/results; do not edit -->",
        "",
        "What happens when something goes wrong, and the figures of the tests that "
        "make it go wrong. What files of strangers can do is in `SECURITY.md`.",
        "",
        "## Faults",
        "",
        "| fault | then |",
        "|---|---|",
        *faults,
        "",
        "## Kills",
        "",
        *kills(read("kills")),
        "",
        "## Bad input",
        "",
        *fuzz(read("fuzz")),
        "",
        "Found by it, and repaired:",
        "",
        *(f"- {each}" for each in REPAIRED),
        "",
        "## Hours of work",
        "",
        *soak(read("soak")),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
