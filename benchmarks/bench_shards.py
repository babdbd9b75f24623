"""Peak memory of training from shards, as the data grows tenfold.

Run:  python -m pytest benchmarks/bench_shards.py    (writes results/shards.json)
Each case is a process of its own: peaks are of a whole process and never fall.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "shards.json"
COUNTS = (5_000, 50_000)
PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from nacs import data
from nacs.data import shards_parquet
from nacs.models import lookup
from nacs.recipe import TrainConfig
from nacs.tasks import fitted
from nacs.train import train
torch.set_num_threads(1)
shards_parquet.KEPT = 4 * 2**20
source, model, epochs, out = sys.argv[1:]
dataset = data.load(source)
sizes = fitted(lookup(model).preset("tiny"), dataset)
train(model, sizes, dataset, TrainConfig(epochs=int(epochs), batch=64), Path(out))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_tar(folder, count):
    """Pictures of 24 × 24 pixels, 1,000 a shard; bytes of them decoded."""
    draw = np.random.default_rng(0)
    for start in range(0, count, 1000):
        with tarfile.open(folder / f"{start // 1000:03d}.tar", "w") as shard:
            for key in range(start, start + 1000):
                pixels = draw.integers(0, 256, (24, 24, 3)).astype(np.uint8)
                picture = io.BytesIO()
                Image.fromarray(pixels).save(picture, "PNG", compress_level=1)
                for ending, content in (
                    ("png", picture.getvalue()),
                    ("cls", str(key % 3).encode()),
                ):
                    member = tarfile.TarInfo(f"{key:06d}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    return count * 24 * 24 * 3


def write_parquet(folder, count):
    """Series of 100 steps and 2 values, 250 a row group; bytes of them decoded."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    draw = np.random.default_rng(0)
    names = ("time", "pulse", "pressure")
    for start in range(0, count, 5000):
        steps = draw.random((3, 5000, 100)).cumsum(-1)
        columns = {n: list(each) for n, each in zip(names, steps, strict=True)}
        columns["label"] = [("ill", "well")[i % 2] for i in range(5000)]
        path = folder / f"{start // 5000:03d}.parquet"
        parquet.write_table(arrow.table(columns), path, row_group_size=250)
    return count * 100 * 3 * 8


CASES = {"parquet": (write_parquet, "neuronal"), "tar": (write_tar, "attentive")}


@pytest.mark.parametrize("name", CASES)
def test_peak_memory_does_not_grow_with_the_data(name, tmp_path):
    write, model = CASES[name]
    rows = []
    for count in COUNTS:
        folder = tmp_path / str(count)
        folder.mkdir()
        decoded = write(folder, count)
        epochs = COUNTS[-1] // count  # as many steps: a heap grows with steps too
        run = [sys.executable, "-c", PROGRAM, folder, model, epochs]
        run += [tmp_path / f"run-{count}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            list(map(str, run)),
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        peak = int(done.stdout.split()[-1]) * 1024
        rows.append({"samples": count, "decoded": decoded, "peak": peak})
    grown = rows[1]["peak"] - rows[0]["peak"]
    added = rows[1]["decoded"] - rows[0]["decoded"]
    # The index: 40 bytes a sample and its name, and what reading the labels leaves.
    assert grown < 0.3 * added
    assert grown < 0.1 * rows[0]["peak"]
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(found | {name: rows}, indent=2) + "\n")
