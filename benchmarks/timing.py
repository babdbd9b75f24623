"""Interleaved timing, and results with where they come from."""

import json
import statistics
import time
from pathlib import Path

from nacs.runs import provenance

RESULTS = Path(__file__).parent / "results"


def interleaved(calls, rounds=7):
    """Median processor seconds of every call, and of its ratio to the first.

    In every round all calls take turns; the first round only warms up.
    """
    seconds = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                seconds[name].append(time.process_time() - start)
    first = next(iter(seconds.values()))
    ratios = {
        name: statistics.median(a / b for a, b in zip(first, each, strict=True))
        for name, each in seconds.items()
    }
    return {name: statistics.median(each) for name, each in seconds.items()}, ratios


def high_water():
    """Peak resident bytes of this process; ru_maxrss would count its parent's."""
    status = Path("/proc/self/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def record(file, name, values):
    """Put a result beside those of the same file."""
    path = RESULTS / f"{file}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    RESULTS.mkdir(exist_ok=True)
    found[name] = values | provenance()
    path.write_text(json.dumps(found, indent=2) + "\n")
