"""docs/benchmarks.md and results/headline.json from what the benchmarks recorded.

Run:  python benchmarks/summary.py       (`make bench` does it at its end)
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

FILES = {
    "neuronal": "Neuronal attention, 64 channels, 4 heads, 8 keys",
    "attentive": "Attentive circuits: read-in, and modules dropped",
    "frozen": "Frozen circuits, and lists of edges",
    "perceivers": "Whole circuits beside other networks",
    "training": "Training of attentive circuits",
}
"""Files of results, in the order of the page."""

COLUMNS = {
    "seconds": ("ms", 1e3, ".3g"),
    "least_seconds": ("least, ms", 1e3, ".3g"),
    "speedup": ("times as fast", 1, ".2f"),
    "speedup_over_live": ("times as fast as live", 1, ".2f"),
    "time_over_neuronal": ("time over ours", 1, ".2f"),
    "multiply_adds": ("G multiply-adds", 1e-9, ".2f"),
    "speedup_per_multiply_add": ("times as fast a multiply-add", 1, ".2f"),
    "relative_error": ("relative error", 1, ".1e"),
    "share_of_sgemm": ("share of sgemm's rate", 1, ".2f"),
    "share_of_product_rate": ("share of the largest product's rate", 1, ".2f"),
    "parameters": ("M parameters", 1e-6, ".1f"),
    "peak_bytes": ("peak, MB", 1e-6, ".1f"),
    "torch_nac_over": ("torch-nac takes, times", 1, ".1f"),
    "wall_seconds_two_threads": ("wall, 2 threads, ms", 1e3, ".3g"),
}
"""What is told of every entry of a case: heading, factor, format."""

HEADLINE = {
    "neuronal_forward_backward_vs_torch_nac": (
        "neuronal",
        "beside attention, T = 1024, forward and backward",
        lambda case: case["time_over_neuronal"]["torch-nac"],
    ),
    "neuronal_forward_backward_vs_mha_time": (
        "neuronal",
        "beside attention, T = 1024, forward and backward",
        lambda case: 1 / case["time_over_neuronal"]["multi-head"],
    ),
    "sparse_attention_10pct_u4096_speedup": (
        "frozen",
        "attention, 4096 modules, random graph, density 0.1",
        lambda case: case["speedup"]["edges"],
    ),
    "drop90_frozen_speedup": (
        "frozen",
        "frozen circuits, batch 1",
        lambda case: case["speedup_over_live"]["90.0% dropped, frozen"],
    ),
    "train_step_vs_perceiver_time": (
        "training",
        "training step, 320 modules, 8 layers, batch 8",
        lambda case: case["over_perceiver_io"],
    ),
    "bf16_forward_speedup": (
        "training",
        "forward of the live circuit, 320 modules, batch 8",
        lambda case: case["frozen_bf16_over_frozen"],
    ),
}
"""One number each: file, case, and where in it."""

OPENING = """# Benchmarks

Written by `python benchmarks/summary.py` from `benchmarks/results/*.json`, which `make
bench` writes: do not edit. One thread, processor time, medians of interleaved rounds on
a shared machine; ratios are medians of the rounds' ratios. A case whose fast form does
not agree with its reference is not timed (`error`). "Share of sgemm's rate" is that of
the multiply-adds beside a product of 1,024 × 1,024 matrices timed in the same rounds.
Wall clock on two threads is the least of two runs and says little while other processes
run.
"""


def table(case: dict[str, Any]) -> list[str]:
    """The entries of a case as a table, and its single numbers below."""
    columns = [key for key in COLUMNS if isinstance(case.get(key), dict)]
    names = list(dict.fromkeys(name for key in columns for name in case[key]))
    heads = [COLUMNS[key][0] for key in columns]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(columns)]
    for name in names:
        cells: list[str] = []
        for key in columns:
            _, factor, shape = COLUMNS[key]
            value = case[key].get(name)
            cells.append("" if value is None else f"{factor * value:{shape}}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    single = {k: v for k, v in case.items() if isinstance(v, int | float)}
    told = [f"{k.replace('_', ' ')} {v:.3g}" for k, v in single.items()]
    return [*(lines if names else []), "", "; ".join(told), ""]


def ceilings(case: dict[str, Any]) -> str:
    """What the machine reached when this was measured."""
    found = case.get("ceiling", {})
    rates = [f"{value / 1e9:.3g} G{name}" for name, value in found.items()]
    told = [*rates, case["machine"], f"torch {case['versions']['torch']}"]
    told += [f"revision {case['revision'][:7]}", f"compiled: {case.get('compiled')}"]
    return "; ".join(told)


def page(results: dict[str, dict[str, Any]], headline: dict[str, float]) -> str:
    """The whole page."""
    lines = [OPENING, "## In short", "", "| | |", "|---|---|"]
    lines += [f"| `{name}` | {value:.3g} |" for name, value in headline.items()]
    for name, title in FILES.items():
        cases = results.get(name, {})
        if cases:
            lines += ["", f"## {title}", ""]
        for case, found in cases.items():
            lines += [f"### {case}", "", *table(found), f"_{ceilings(found)}_", ""]
    return "\n".join(lines).rstrip() + "\n"


def summary() -> tuple[dict[str, float], str]:
    """The headline, and the page."""
    paths = {name: RESULTS / f"{name}.json" for name in FILES}
    results = {
        name: json.loads(path.read_text())
        for name, path in paths.items()
        if path.exists()
    }
    headline = {
        name: pick(results[file][case])
        for name, (file, case, pick) in HEADLINE.items()
        if case in results.get(file, {})
    }
    return headline, page(results, headline)


if __name__ == "__main__":
    numbers, text = summary()
    (RESULTS / "headline.json").write_text(
        json.dumps({"headline": numbers}, indent=2) + "\n"
    )
    PAGE.write_text(text)
