"""The tables of docs/scaling.md, from results/scaling.json and the formulas."""

import statistics

import numpy as np

from scaling import VARIED, fit, results, rows_of, sizes_of
from scaling_costs import flops, kept, parameters
from scaling_plans import PLANS, Device, least_devices, table_4

VALUES = {"seconds": "time", "added_bytes": "memory", "flops": "work"}
CASES = {  # modules, edges of each, devices
    "10⁴ modules, all pairs": (10**4, 0, (8,)),
    "10⁴ modules, 64 edges each": (10**4, 64, (8,)),
    "10⁶ modules, all pairs": (10**6, 0, (64, 1024)),
    "10⁶ modules, 64 edges each": (10**6, 64, (64, 1024)),
}


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def measured(kind, axis):
    """Every point along an axis."""
    rows, _ = rows_of(results(), kind, axis)
    head = (axis, "ms", "MB added", "MB kept", "GFLOP", "GFLOP/s")
    return table(
        head,
        [
            (
                f"{row['sizes'][axis]:,}",
                f"{1000 * row['seconds']:,.0f}",
                f"{row['added_bytes'] / 1e6:,.0f}",
                f"{row['kept_bytes'] / 1e6:,.0f}",
                f"{row['flops'] / 1e9:,.2f}",
                f"{row['flops'] / row['seconds'] / 1e9:.0f}",
            )
            for row in rows
        ],
    )


def exponents():
    """Of time, memory and work, with the residual as a factor."""
    found = []
    for kind, axes in VARIED.items():
        for axis in axes:
            rows, least = rows_of(results(), kind, axis)
            cells = [fit(rows, axis, value, least) for value in VALUES]
            span = f"{least:,} to {rows[-1]['sizes'][axis]:,}"
            shown = [f"{slope:.2f} (× {off:.2f})" for slope, off in cells]
            found.append((kind, axis, span, *shown))
    return table(("model", "along", "range", *VALUES.values()), found)


def circuits():
    """Measured circuits, with the sizes that the cost model takes."""
    kinds = {name: name.split(",")[0] for name in results()}
    return [
        (sizes_of(kind, results()[name]["sizes"]), results()[name])
        for name, kind in kinds.items()
        if kind.endswith("circuit")
    ]


def time_model():
    """Seconds = work / rate + kept bytes / bandwidth + a constant, relative errors."""
    pairs = circuits()
    seconds = np.array([row["seconds"] for _, row in pairs])
    parts = np.array([(flops(z), 4 * kept(z), 1.0) for z, _ in pairs])
    solved = np.linalg.lstsq(
        parts / seconds[:, None], np.ones_like(seconds), rcond=None
    )
    return solved[0], abs(parts @ solved[0] / seconds - 1)


def errors():
    """How far the formulas are from what was measured, in per cent."""
    pairs = circuits()
    off = {
        "work, against the counter, all pairs": [
            flops(z) / row["flops"] - 1 for z, row in pairs if z.edges == 1
        ],
        "parameters": [sum(parameters(z)) / row["parameters"] - 1 for z, row in pairs],
        "kept for the way back": [
            4 * kept(z) / row["kept_bytes"] - 1 for z, row in pairs
        ],
        "time": time_model()[1],
    }
    rows = []
    for name, each in off.items():
        sizes = [100 * abs(one) for one in each]
        middle, worst = statistics.median(sizes), max(sizes)
        rows.append((name, f"{middle:.1f} %", f"{worst:.1f} %"))
    return table(("formula", "median error", "largest"), rows)


def slack():
    """Peak less weights and gradients, over what is kept: least, median, largest."""
    over = [
        (row["added_bytes"] - 8 * row["parameters"]) / row["kept_bytes"]
        for _, row in circuits()
    ]
    return min(over), statistics.median(over), max(over)


def model_line():
    """The fitted constants, in words."""
    (work, moved, start), _ = time_model()
    low, middle, high = slack()
    return (
        f"Time = work / {1e-9 / work:.0f} GFLOP/s + what is kept / "
        f"{1e-9 / moved:.1f} GB/s + {1000 * start:.0f} ms. The peak, less weights and "
        f"gradients, is {low:.1f} to {high:.1f} times that, the median {middle:.1f}."
    )


def volume_line():
    """What FSDP2 moved between two processes, in words."""
    row = results()["collectives of a step, FSDP2, small"]
    whole = row["parameters"]
    gathered, scattered = row["all_gather_single"], row["reduce_scatter_single"]
    twice = 1 + row["of_layers"] / whole
    return (
        f"A step of `small` gathered {gathered / whole:.3f} P numbers and scattered "
        f"{scattered / whole:.3f} P, where P + P of the propagators is {twice:.3f} P."
    )


def plans():
    """One sample a device, or one for all where the modules are divided."""
    device, found = Device(), []
    for name, (modules, degree, counts) in CASES.items():
        z = table_4(modules, degree)
        for plan, need_of in PLANS.items():
            if degree == 0 and "cross" in plan:
                continue
            label = plan.split(",")[0] if degree == 0 else plan
            least = least_devices(plan, z, device)
            for count in counts:
                need = need_of(z, count, device)
                found.append(
                    (
                        *(name, label, count, _bytes(need.weights)),
                        *(_bytes(need.activations), _bytes(need.received)),
                        *(_time(need.computing), _time(need.exchanging)),
                        _pace(need, device),
                        f"{least:,}" if least else "none",
                    )
                )
    head = ("case", "divided", "devices", "weights", "activations", "received")
    return table((*head, "computing", "exchanging", "samples/s", "at least"), found)


def weights():
    """What modules and layers own."""
    rows = []
    for modules in (320, 10**4, 10**6):
        own, shared = parameters(table_4(modules))
        share = 16 * (own + shared)
        rows.append((f"{modules:,}", _count(own), _count(shared), _bytes(share)))
    head = ("modules", "codes and signatures", "shared weights", "with moments")
    return table(head, rows)


def largest(degree):
    """The largest number of modules of which a sample fits on a device."""
    device = Device()
    low, high = 1, 10**8
    while high - low > 1:
        middle = (low + high) // 2
        need = PLANS["data parallel"](table_4(middle, degree), 1, device)
        fits = need.memory <= device.usable * device.memory
        low, high = (middle, high) if fits else (low, middle)
    return low


def largest_line():
    """The same for all pairs and for 64 edges a module, in words."""
    dense, sparse = map(largest, (0, 64))
    return (
        f"One device holds a sample of up to {dense:,} modules with all pairs, "
        f"{sparse:,} with 64 edges each."
    )


def _count(number):
    return f"{number / 1e6:,.1f} M"


def _bytes(number):
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1e6:,.0f} MB"


def _time(seconds):
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{1000 * seconds:,.1f} ms"


def _pace(need, device):
    """Samples a second, if the memory is there."""
    if need.memory > device.usable * device.memory:
        return "does not fit"
    return f"{need.pace:,.1f}"


def assumptions():
    """What is assumed of devices."""
    device = Device()
    return table(
        ("memory", "of it used", "arithmetic", "attained", "in a node of", "between"),
        [
            (
                f"{device.memory / 1e9:.0f} GB",
                f"{device.usable:.0%}",
                f"{device.rate / 1e12:.0f} TFLOP/s",
                f"{device.attained:.0%}",
                f"{device.node}: {device.near / 1e9:.0f} GB/s",
                f"{device.far / 1e9:.0f} GB/s",
            )
        ],
    )


def blocks():
    """Everything that docs/scaling.md takes from here, in its order."""
    for kind, axes in VARIED.items():
        for axis in axes:
            yield measured(kind, axis)
    yield from (exponents(), errors(), model_line(), assumptions(), weights())
    yield from (largest_line(), plans(), volume_line())


def document():
    """All blocks."""
    return "\n\n".join(blocks()) + "\n"
