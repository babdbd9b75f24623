"""How a training step's time, memory and work grow, one size at a time.

Run:  python benchmarks/scaling.py             measures, into results/scaling.json
      python benchmarks/scaling.py --markdown  prints the tables of docs/scaling.md

Every point is a fresh process of one thread: forward and backward, the median of a few
rounds in processor time, the peak of its resident memory beyond that of a step of the
smallest sizes, the bytes autograd keeps, and the counted work. A point that is there is
kept; remove it from the file to measure it again.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nacs.attentive import AttentiveCircuit, AttentiveConfig
from nacs.neuronal import NeuronalAttention, NeuronalConfig
from nacs.tokenizers import TokenizerConfig
from scaling_costs import Sizes, attention_flops
from timing import RESULTS, high_water, record

BASE = {
    "circuit": {"modules": 320, "tokens": 256, "width": 128, "layers": 2},
    "neuronal": {"tokens": 4096, "width": 64},
}
VARIED = {  # values, and from which on the exponent is fitted
    "circuit": {
        "modules": ((80, 160, 320, 640, 1280, 2560), 320),
        "tokens": ((64, 256, 1024, 4096), 256),
        "width": ((32, 64, 128, 256, 512), 128),
        "layers": ((1, 2, 4, 8, 16), 2),
    },
    "sparse circuit": {"modules": ((80, 160, 320, 640, 1280, 2560), 320)},
    "neuronal": {
        "tokens": ((1024, 2048, 4096, 8192, 16384, 32768, 65536), 4096),
        "width": ((32, 64, 128, 256), 64),
    },
    "plain neuronal": {"tokens": ((1024, 4096, 16384, 65536), 4096)},
}
SMALLEST = {"modules": 16, "tokens": 16, "width": 32, "layers": 1}


def points():
    """Every point once, as (kind, sizes)."""
    found = []
    for kind, axes in VARIED.items():
        base = BASE[kind.split()[-1]]
        for axis, (values, _) in axes.items():
            found += [(kind, base | {axis: value}) for value in values]
    return [each for i, each in enumerate(found) if each not in found[:i]]


def name_of(kind, sizes):
    return ", ".join([kind, *(f"{key} {value}" for key, value in sizes.items())])


def sizes_of(kind, sizes):
    """What the cost model takes."""
    edges = 0.1 if kind == "sparse circuit" else 1.0
    return Sizes.of_width(**sizes, edges=edges)


def config_of(sizes):
    return AttentiveConfig(
        tokenizer=TokenizerConfig(width=sizes.width, positions=16),
        classes=sizes.classes,
        modules=sizes.modules,
        outputs=sizes.outputs,
        width=sizes.width,
        code=sizes.code,
        signature=sizes.signature,
        layers=sizes.layers,
        heads=sizes.heads,
        head_width=sizes.wide // sizes.heads,
        hidden=sizes.hidden,
        bandwidth=0.25,
    )


def circuit_step(kind, sizes, device="cpu"):
    """A model and its step. The tokens have a gradient, as behind a tokenizer."""
    sizes = sizes_of(kind, sizes)
    model = AttentiveCircuit(config_of(sizes)).to(device)
    model.tokenizer = torch.nn.Identity()
    tokens = torch.randn(1, sizes.tokens, sizes.width, device=device)
    edges = None
    if sizes.edges < 1 and device == "cpu":
        edges = torch.rand(sizes.modules, sizes.modules) < sizes.edges
        edges.fill_diagonal_(fill_value=True)

    def step():
        model.zero_grad()
        circuit = model.design()._replace(edges=edges)
        here = tokens.detach().requires_grad_()
        model.execute(circuit, here).square().mean().backward()

    return model, step


def neuronal_step(sizes, device="cpu"):
    width = sizes["width"]
    config = NeuronalConfig(width=width, heads=width // 16)
    model = NeuronalAttention(config).to(device)
    tokens = torch.randn(1, sizes["tokens"], width, device=device)

    def step():
        model.zero_grad()
        model(tokens.detach().requires_grad_())[0].square().mean().backward()

    return model, step


def made(kind, sizes, device="cpu"):
    torch.manual_seed(0)
    if kind.endswith("neuronal"):
        return neuronal_step(sizes, device)
    return circuit_step(kind, sizes, device)


def kept_bytes(model, step):
    """What autograd keeps for the way back, weights aside."""
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}
    found = {}

    def look(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        step()
    return sum(found.values())


def counted(kind, sizes):
    """Floating point operations of a step's matrix products, on shapes alone.

    A product of scores along edges is compiled code, which the counter does not see:
    those of all pairs are counted and their formula is replaced by that of the edges.
    """
    _, step = made(kind, sizes, "meta")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    total = counter.get_total_flops()
    if kind == "sparse circuit":
        sparse = sizes_of(kind, sizes)
        total -= attention_flops(sparse._replace(edges=1.0)) - attention_flops(sparse)
    return total


def seconds_of(step):
    """Median processor seconds of up to five steps, of one where it takes long."""
    taken = []
    for turn in range(6):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
        if taken[0] > 8 or (turn > 2 and sum(taken) > 8):
            break
    return statistics.median(taken[1:] or taken)


def measure(kind, sizes):
    """One point; in a process of its own."""
    torch.set_num_threads(1)
    small = {key: min(value, SMALLEST[key]) for key, value in sizes.items()}
    made(kind, small)[1]()
    before = high_water()
    model, step = made(kind, sizes)
    seconds = seconds_of(step)
    peak = high_water()
    return {
        "sizes": sizes,
        "seconds": seconds,
        "peak_bytes": peak,
        "added_bytes": peak - before,
        "kept_bytes": kept_bytes(model, step),
        "parameters": sum(each.numel() for each in model.parameters()),
        "flops": counted(kind, sizes),
    }


def results():
    path = RESULTS / "scaling.json"
    return json.loads(path.read_text()) if path.exists() else {}


def fit(rows, axis, value, least):
    """Exponent of value ~ sizeˣ by least squares on logarithms, and its residual.

    Returns:
        The exponent, and the root mean squared residual as a factor: 1.1 is 10 %.
    """
    used = [row for row in rows if row["sizes"][axis] >= least]
    x = [math.log(row["sizes"][axis]) for row in used]
    y = [math.log(row[value]) for row in used]
    slope, start = statistics.linear_regression(x, y)
    off = [b - start - slope * a for a, b in zip(x, y, strict=True)]
    return slope, math.exp(statistics.fmean(each**2 for each in off) ** 0.5)


def rows_of(found, kind, axis):
    base = BASE[kind.split()[-1]]
    values, least = VARIED[kind][axis]
    return [found[name_of(kind, base | {axis: each})] for each in values], least


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    parser.add_argument("--point", help="measure this one, given as JSON")
    given = parser.parse_args()
    if given.point:
        kind, sizes = json.loads(given.point)
        record("scaling", name_of(kind, sizes), measure(kind, sizes))
        return
    if given.markdown:
        from scaling_tables import document

        sys.stdout.write(document())
        return
    for kind, sizes in points():
        if (name := name_of(kind, sizes)) in results():
            continue
        command = [sys.executable, __file__, "--point", json.dumps([kind, sizes])]
        native = {"NACS_NATIVE": "off"} if kind.startswith("plain") else {}
        subprocess.run(command, env=os.environ | native, check=True)
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
