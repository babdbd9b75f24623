"""Interleaved timing, and results with where they come from."""

import json
import statistics
import time
from functools import lru_cache, partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nacs.runs import provenance

RESULTS = Path(__file__).parent / "results"


def interleaved(calls, rounds=7):
    """Median processor seconds of every call, and of its ratio to the first.

    In every round all calls take turns; the first round only warms up.
    """
    return _compared(_seconds(calls, rounds, time.process_time))


def figures(calls, rounds=7, *, multiply_adds=None):
    """All that is said of calls beside each other; the first is the reference.

    Args:
        calls: By name.
        rounds: In which all take turns.
        multiply_adds: Of some of them: what share they reach of the rate of a product
            of large matrices that takes its turn among them.
    """
    taken = _seconds(calls | {"sgemm": _products()}, rounds, time.process_time)
    sgemm = 2 * SIZE**3 / statistics.median(taken.pop("sgemm"))
    medians, ratios = _compared(taken)
    found = {
        "seconds": medians,
        "least_seconds": {name: min(each) for name, each in taken.items()},
        "speedup": ratios,
    }
    if multiply_adds:
        multiply_adds = {n: count for n, count in multiply_adds.items() if count}
        found["multiply_adds"] = multiply_adds
        found["share_of_sgemm"] = {
            name: 2 * count / found["seconds"][name] / sgemm
            for name, count in multiply_adds.items()
        }
    torch.set_num_threads(2)
    wall = _seconds(calls, 2, time.perf_counter)
    torch.set_num_threads(1)
    found["wall_seconds_two_threads"] = {n: min(each) for n, each in wall.items()}
    return found


def counted(call):
    """Multiply-adds of the products in a call, of plain torch where ours is compiled.

    0 where torch counts none, as of its GRU.
    """
    with (
        patch("nacs.native.parts.library", return_value=None),
        sdpa_kernel(SDPBackend.MATH),
        torch.enable_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        call()
    return counter.get_total_flops() // 2


def _compared(seconds):
    """Median seconds of every call, and of its ratio to the first."""
    first = next(iter(seconds.values()))
    ratios = {
        name: statistics.median(a / b for a, b in zip(first, each, strict=True))
        for name, each in seconds.items()
    }
    return {name: statistics.median(each) for name, each in seconds.items()}, ratios


def _seconds(calls, rounds, clock):
    """Seconds of every call in every round; a round before only warms up."""
    seconds = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


@lru_cache(maxsize=1)
def ceiling():
    """What one thread of this machine can do: products of matrices, and copies."""
    here, there = torch.zeros(2, 2**25)  # 128 MiB each: no cache holds them
    calls = {
        "float32 flop/s": _products(),
        "bfloat16 flop/s": _products(torch.bfloat16),
        "bytes/s": partial(there.copy_, here),
    }
    least = {n: min(each) for n, each in _seconds(calls, 5, time.process_time).items()}
    work = dict.fromkeys(calls, 2 * SIZE**3) | {"bytes/s": 2 * here.nbytes}
    return {name: work[name] / least[name] for name in calls}


SIZE = 1024


def _products(kind=torch.float32):
    """A product of large matrices, which reaches the rate of the machine."""
    return partial(torch.mm, *torch.randn(2, SIZE, SIZE).to(kind))


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
    found[name] = values | {"ceiling": ceiling(), **provenance()}
    path.write_text(json.dumps(found, indent=2) + "\n")
