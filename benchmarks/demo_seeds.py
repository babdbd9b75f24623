"""The demo with three seeds.

Run:  make reproduce       (writes docs/results/demo.json and its pictures)

Both models are trained alike and see the same seeds. A killed run goes on where it
stopped; a finished one is only measured again.
"""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from nacs.demo import demo
from nacs.runs import write_json

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "reproduce"
RESULT = ROOT / "docs" / "results" / "demo.json"
SEEDS = (0, 1, 2)
MODELS = {"attentive circuit": "", "Perceiver IO": "perceiver_"}


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, and the values themselves."""
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    return {"mean": mean, "deviation": deviation, "seeds": values}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of both models over the seeds."""
    found: dict[str, Any] = {}
    for label, prefix in MODELS.items():
        whole = [each[f"{prefix}test_accuracy"] for each in results]
        small = [each[f"{prefix}dropped_80_accuracy"] for each in results]
        lost = [100 * (a - b) for a, b in zip(whole, small, strict=True)]
        curves = zip(*(each["curves"][label] for each in results), strict=True)
        found[label] = {
            "test_accuracy": spread(whole),
            "dropped_80_accuracy": spread(small),
            "points_lost_at_80": spread(lost),
            "module_spread": spread([x[f"{prefix}module_spread"] for x in results]),
            "parameters": results[0][f"{prefix}parameters"],
            "accuracy_by_share_dropped": {
                f"{rows[0]['dropped']:g}": spread([row["accuracy"] for row in rows])
                for rows in curves
            },
        }
    found["attentive circuit"]["density"] = spread([x["density"] for x in results])
    return found


def main() -> None:
    """All seeds, then the summary and the first seed's pictures."""
    folders = [RUNS / f"demo-{seed}" for seed in SEEDS]
    results = [demo(out, seed=seed) for seed, out in zip(SEEDS, folders, strict=True)]
    how = {k: results[0][k] for k in ("versions", "machine", "threads", "revision")}
    how = {"command": "make reproduce", "test_digits": 1000, **how}
    write_json(RESULT, how | summary(results))
    for picture in ("graph.png", "drops.png"):
        shutil.copyfile(folders[0] / picture, RESULT.with_name(f"demo-{picture}"))
    print(json.dumps(json.loads(RESULT.read_text()), indent=2))


if __name__ == "__main__":
    main()
