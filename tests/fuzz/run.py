"""The long run: every reader, mutations guided by coverage, counts to fuzz.json.

    for each target:  libFuzzer (atheris) on the reader's code, in a process of its own
                      →  inputs, seconds, and whatever came out that is no UserError
    then              random configurations and HTTP questions, as in test_fuzz.py

Run:  python tests/fuzz/run.py --inputs 100000      (writes docs/results/fuzz.json)
      python tests/fuzz/run.py --target csv --inputs 5000 --seed 1    (one of them)
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 20
"""Seconds after which a reader is taken to hang."""

MEMORY = 3000
"""Megabytes a process of a reader may take."""

SLOW = {"checkpoint", "config.json"}
"""Targets that build a model for each input get a tenth of what the others get."""

DONE = re.compile(r"Done (\d+) runs|#(\d+)\s+DONE")


def one(name: str, inputs: int, seed: int, found: Path) -> None:
    """Fuzz one reader in this process, which libFuzzer ends."""
    import atheris  # pyright: ignore[reportMissingTypeStubs]

    with atheris.instrument_imports(include=["nacs.data", "nacs.runs", "nacs.models"]):
        from targets import feed, mutated, targets

    import numpy as np
    import torch

    torch.set_num_threads(1)
    target, seen = targets()[name], set[str]()
    folder, corpus = (found.parent / name / part for part in ("fuzzed", "corpus"))
    for each in (folder, corpus):
        each.mkdir(parents=True)
    target.beside(folder)
    random = np.random.default_rng(seed)
    for row, good in enumerate(target.seeds):
        (corpus / f"{row}").write_bytes(good)
        for turn in range(20):
            (corpus / f"{row} {turn}").write_bytes(mutated(good, random))

    def try_one(given: bytes) -> None:
        try:
            feed(target, folder, given)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = (
                f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            )
            if where not in seen:
                seen.add(where)
                with found.open("a") as file:
                    told = {"target": name, "where": where, "what": str(error)[:200]}
                    file.write(json.dumps(told | {"input": given[:4000].hex()}) + "\n")

    limits = [f"-timeout={LONGEST}", f"-rss_limit_mb={MEMORY}", "-max_len=20000"]
    limits += [f"-runs={inputs}", f"-seed={seed + 1}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], try_one)
    atheris.Fuzz()


def readers(inputs: int, seed: int, found: Path) -> dict[str, dict[str, Any]]:
    """Every reader in turn; returns inputs, seconds and exit code of each."""
    from targets import targets

    names = list(targets())
    share = inputs / (len(names) - 0.9 * len(SLOW))
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        count = int(share / 10 if name in SLOW else share) + 1
        command = [sys.executable, __file__, "--target", name, "--inputs", str(count)]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "--seed", str(seed), "--found", str(found)],
            capture_output=True,
            text=True,
            errors="replace",
        )
        told = [int(a or b) for a, b in DONE.findall(done.stderr)]
        rows[name] = {
            "inputs": told[-1] if told else 0,
            "seconds": round(time.perf_counter() - began, 1),
            "code": done.returncode,
        }
        print(name, rows[name], flush=True)
        if done.returncode:
            print(done.stderr[-3000:])
    return rows


def properties(inputs: int) -> dict[str, dict[str, Any]]:
    """Configurations and HTTP questions."""
    import test_fuzz

    made: dict[str, Callable[[int], int]] = {
        "configurations": test_fuzz.try_configurations,
        "HTTP": test_fuzz.try_http,
    }
    rows: dict[str, dict[str, Any]] = {}
    for name, work in made.items():
        began = time.perf_counter()
        count = work(inputs)
        seconds = round(time.perf_counter() - began, 1)
        rows[name] = {"inputs": count, "seconds": seconds, "code": 0}
        print(name, rows[name], flush=True)
    return rows


def main() -> int:
    """All of it, or one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", default="")
    parser.add_argument("--found", type=Path, default=Path("found.jsonl"))
    options = parser.parse_args()
    if options.target:
        one(options.target, options.inputs, options.seed, options.found)
        return 0
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as made:
        found = Path(made) / "found.jsonl"
        rows = readers(int(0.95 * options.inputs), options.seed, found)
        rows |= properties(max(100, int(0.05 * options.inputs)))
        crashes = [json.loads(x) for x in found.open()] if found.exists() else []
    for crash in crashes:
        print(json.dumps(crash)[:600])
    broken = sum(row["code"] != 0 for row in rows.values())
    result: dict[str, Any] = {
        "targets": rows,
        "inputs": sum(row["inputs"] for row in rows.values()),
        "seconds": round(sum(row["seconds"] for row in rows.values())),
        "crashes": len(crashes) + broken,
        "seed": options.seed,
    }
    path = ROOT / "docs" / "results" / "fuzz.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return int(result["crashes"] > 0)


if __name__ == "__main__":
    sys.exit(main())
