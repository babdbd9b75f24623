"""Shards are read by offset: the same samples as from memory, and faults say where."""

import io
import json
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from nacs import data
from nacs.data import shards_parquet, shards_tar
from nacs.data.shards import find_shards
from nacs.data.stored import PROBE_BYTES, Stored, probe
from nacs.errors import UserError
from nacs.models import MODELS
from nacs.recipe import TrainConfig
from nacs.runs import load_tensors, read_metrics
from nacs.tasks import fitted
from nacs.train import train

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def picture(index, side=8, mode="RGB"):
    draw = np.random.default_rng(index)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    pixels = draw.integers(0, 100, shape).astype(np.uint8)
    pixels[..., index % pixels.shape[-1]] += 100
    return pixels


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


def sample(index, **kinds):
    kinds = kinds or {"cls": str(index % 3).encode()}
    members = [(f"{index:04d}.png", png(picture(index)))]
    return members + [(f"{index:04d}.{name}", each) for name, each in kinds.items()]


IMAGE = png(picture(0))
NINE = [member for index in range(9) for member in sample(index)]


@pytest.fixture
def tars(tmp_path):
    for shard in range(4):
        members = [m for i in range(30) for m in sample(shard * 30 + i)]
        write_tar(tmp_path / "tars" / f"{shard}.tar", members)
    return tmp_path / "tars"


def table(rows, start=0, **changes):
    draw = np.random.default_rng(start)
    lengths = draw.integers(3, 9, rows)
    columns = {
        "id": [f"p{start + i}" for i in range(rows)],
        "time": [np.arange(n) * 0.5 for n in lengths],
        "pulse": [[None, *draw.random(n - 1)] for n in lengths],
        "age": draw.integers(20, 90, rows),
        "label": [("ill", "well")[i % 2] for i in range(rows)],
    }
    return arrow.table({k: v for k, v in (columns | changes).items() if v is not None})


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "tables").mkdir()
    for file in range(3):
        path = tmp_path / "tables" / f"{file}.parquet"
        parquet.write_table(table(40, file * 40), path, row_group_size=16)
    return tmp_path / "tables"


def test_images_are_those_that_were_written(tars):
    for source in (tars, tars / "*.tar", str(tars / "[0-3].tar")):
        found = data.load(source)
        assert isinstance(found.train.inputs, Stored)
        assert found.shape == (3, 8, 8)
        assert found.classes == ("0", "1", "2")
        assert [len(found.train), len(found.val), len(found.test)] == [84, 12, 24]
    for split in (found.train, found.val, found.test):
        for at in (0, len(split) - 1):
            index = int(split.ids[at])
            assert split.targets[at] == index % 3
            np.testing.assert_array_equal(
                split.inputs[at], picture(index).transpose(2, 0, 1)
            )
    together = found.train.inputs.loaded(np.arange(84))
    assert found.train.mean == pytest.approx(
        together.mean((0, 2, 3), keepdims=True)[0] / 255, rel=1e-5
    )


def test_a_batch_is_that_of_the_same_data_in_memory(tars):
    """Also in another order, and across shards."""
    stored = data.load(tars).train
    inputs = stored.inputs.loaded(np.arange(len(stored)))
    here = type(stored)(
        inputs, stored.targets, stored.ids, stored.mean, stored.deviation
    )
    chosen = stored.inputs.order(3)[:20]
    one, other = stored.batch(chosen), here.batch(chosen)
    torch.testing.assert_close(one.inputs, other.inputs, rtol=0, atol=0)
    assert one.targets.tolist() == other.targets.tolist()


def test_series_are_those_that_were_written(tables):
    found = data.load(tables)
    assert found.kind == "series"
    assert found.columns == ("pulse", "age")
    assert found.classes == ("ill", "well")
    rows = {
        row["id"]: row
        for file in sorted(tables.iterdir())
        for row in parquet.read_table(file).to_pylist()
    }
    assert sum(map(len, (found.train, found.val, found.test))) == len(rows) == 120
    for at in range(len(found.test)):
        row, read = rows[found.test.ids[at]], found.test.inputs[at]
        assert found.classes[found.test.targets[at]] == row["label"]
        np.testing.assert_array_equal(read[:, 0], row["time"])
        assert np.isnan(read[0, 1])
        np.testing.assert_array_equal(read[1:, 1], row["pulse"][1:])
        assert (read[:, 2] == row["age"]).all()
    batch = found.train.batch(range(10))
    assert batch.keep.sum(1).tolist() == [len(found.train.inputs[i]) for i in range(10)]


def test_numbers_equal_lengths_and_no_time(tmp_path):
    lists = {"time": None, "pulse": [[1.0, 2.0]] * 20, "label": None}
    path = tmp_path / "one.parquet"
    target = list(map(float, range(20)))
    parquet.write_table(table(20, **lists, target=target), path)
    found = data.load(path)
    assert found.classes == ()
    assert not found.train.ragged
    assert found.train.batch([0, 1]).inputs.shape == (2, 2, 3)
    assert found.train.inputs[0][:, 0].tolist() == [0, 1]
    assert set(found.test.targets.tolist()) < set(target)


def test_a_table_in_long_form_is_read_as_before(tmp_path):
    rows = [(i, t, i % 2) for i in range(12) for t in range(3)]
    ids, times, labels = map(list, zip(*rows, strict=True))
    long = arrow.table({"id": ids, "time": times, "x": times, "label": labels})
    parquet.write_table(long, tmp_path / "long.parquet")
    found = data.load(tmp_path / "long.parquet")
    assert not isinstance(found.train.inputs, Stored)
    with pytest.raises(UserError, match="expected a row a series: values in columns"):
        data.load(str(tmp_path / "*.parquet"))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_epoch_has_every_sample_once_near_its_neighbours(
    tars, processes, monkeypatch
):
    monkeypatch.setattr(shards_tar, "BLOCK", 5)
    monkeypatch.setattr(shards_tar.TarImages, "window", 2)
    inputs = data.load(tars).train.inputs
    order = inputs.order(1, processes)
    assert sorted(order.tolist()) == list(range(84))
    assert order.tolist() == inputs.order(1, processes).tolist()
    assert order.tolist() != inputs.order(2, processes).tolist()
    blocks = inputs.source.blocks[inputs.rows]
    mine = [order[p::processes][: 84 // processes - 10] for p in range(processes)]
    for each in mine:
        # Two blocks of at most five at a time, so that few are open at once.
        for start in range(len(each) - 5):
            assert len(set(blocks[each[start : start + 5]])) <= 4
    for one in range(processes):
        for other in range(one):
            assert not set(blocks[mine[one]]) & set(blocks[mine[other]])


def test_row_groups_are_decoded_once_an_epoch(tables, monkeypatch):
    """Else a shuffled epoch would decode a whole group for every sample."""
    decoded = []
    before = shards_parquet._decoded
    monkeypatch.setattr(
        shards_parquet,
        "_decoded",
        lambda *given: decoded.append(given[2]) or before(*given),
    )
    train = data.load(tables).train
    train.inputs.source._kept.clear()
    decoded.clear()
    monkeypatch.setattr(train.inputs.source, "window", 2)
    order = train.inputs.order(0)
    for start in range(0, len(order), 8):
        train.batch(order[start : start + 8])
        assert len(train.inputs.source._kept) <= 2
    groups = len(np.unique(train.inputs.source.blocks))
    assert groups == 9
    # A batch between two windows may need those of both; one by one it would be 84.
    assert groups <= len(decoded) <= 2 * groups


def test_a_probe_is_bounded_and_from_all_over(tars, monkeypatch):
    inputs = data.load(tars).train.inputs
    assert len(probe(inputs)) == 84
    monkeypatch.setattr("nacs.data.stored.PROBE_BYTES", 10 * 192)
    assert len(probe(inputs)) == 10
    assert PROBE_BYTES == 64 * 2**20
    here = np.zeros(3)
    assert probe(here) is here


@pytest.mark.parametrize("kind", ["tars", "tables"])
def test_workers_of_a_loader_read_for_themselves(kind, request):
    """Each worker gets the index, not what was read."""
    split = data.load(request.getfixturevalue(kind)).train
    split.batch([0])
    again = pickle.loads(pickle.dumps(split))
    torch.testing.assert_close(
        again.batch([3]).inputs, split.batch([3]).inputs, equal_nan=True
    )
    order = split.inputs.order(0).tolist()
    loader = DataLoader(
        order,
        batch_size=16,
        collate_fn=split.batch,
        num_workers=2,
        multiprocessing_context="fork",
    )
    targets = torch.cat([batch.targets for batch in loader])
    assert targets.tolist() == split.targets[order].tolist()


def test_a_run_that_was_interrupted_ends_with_the_same_numbers(tars, tmp_path):
    dataset = data.load(tars)
    sizes = fitted(MODELS["attentive"].preset("tiny"), dataset)
    config = TrainConfig(epochs=3, batch=32)

    def stop(row):
        if row["epoch"] == 1:
            raise InterruptedError

    def ends(out):
        train("attentive", sizes, dataset, config, out)
        return load_tensors(out / "checkpoint" / "model.safetensors")

    with pytest.raises(InterruptedError):
        train("attentive", sizes, dataset, config, tmp_path / "a", report=stop)
    one, other = ends(tmp_path / "a"), ends(tmp_path / "b")
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)
    losses = [row["loss"] for row in read_metrics(tmp_path / "a" / "metrics.jsonl")]
    assert losses[-1] < losses[0]


def test_splits_by_json_by_name_and_by_folder(tmp_path):
    parts = ("train", "val", "test")
    told = [
        json.dumps({"label": "ab"[i % 2], "split": parts[i % 3]}) for i in range(12)
    ]
    members = [m for i in range(12) for m in sample(i, json=told[i].encode())]
    by_json = data.load(write_tar(tmp_path / "a.tar", members))
    for shard, part in enumerate(parts):
        members = [m for i in range(6) for m in sample(10 * shard + i)]
        write_tar(tmp_path / "names" / f"set-{part}-000.tar", members)
        write_tar(tmp_path / "folders" / part / "000.tar", members)
    assert {int(i) % 3 for i in by_json.test.ids} == {2}
    assert by_json.classes == ("a", "b")
    for folder in ("names", "folders"):
        found = data.load(tmp_path / folder)
        assert {int(i) // 10 for i in found.val.ids} == {1}
        assert {int(i) // 10 for i in found.test.ids} == {2}


def test_targets_colours_and_sizes(tmp_path):
    members = []
    for i in range(20):
        pixels = picture(i, side=8 + i % 2, mode="RGB" if i else "L")
        members += [(f"{i}.png", png(pixels)), (f"{i}.json", b'{"target": 1.5}')]
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(UserError, match=r"expected channels.*\(3, 8, 8\).*--size 64"):
        data.load(path).train.batch(range(14))
    found = data.load(path, size=8)
    assert found.shape == (3, 8, 8)
    assert found.train.batch(range(14)).targets.dtype.is_floating_point


def test_row_groups_of_absurd_size_are_refused(tables, monkeypatch):
    monkeypatch.setattr(shards_parquet, "LARGEST", 1000)
    with pytest.raises(UserError, match=r"at most 1,000 bytes.*row_group_size"):
        data.load(tables)


def test_what_no_shards_are(tmp_path, tars):
    assert find_shards(tmp_path) == []
    assert find_shards(tmp_path / "absent.tar") == []
    with pytest.raises(UserError, match="no file matches this pattern"):
        find_shards(tmp_path / "*.tar")
    (tars / "notes.txt").touch()
    with pytest.raises(UserError, match=r"type \.tar or \.parquet, got \.tar, \.txt"):
        find_shards(tars / "*")
    (tars / "a.parquet").touch()
    with pytest.raises(UserError, match=r"one kind, got \.tar and \.parquet"):
        find_shards(tars)


def test_a_shard_that_goes_while_training_is_named(tars, capsys):
    from nacs.cli import main

    found = data.load(tars)
    (tars / "2.tar").unlink()
    with pytest.raises(OSError, match=r"2\.tar"):
        found.train.batch(range(84))
    assert main(["train", str(tars / "gone-*.tar")]) == 2
    assert "no file matches" in capsys.readouterr().err


def test_shards_as_webdataset_writes_them(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    path = tmp_path / "w-000.tar"
    with webdataset.TarWriter(str(path)) as sink:
        for i in range(20):
            image, told = Image.fromarray(picture(i)), {"label": ("cat", "dog")[i % 2]}
            sink.write({"__key__": f"s{i}", "png": image, "json": told})
    found = data.load(path)
    assert found.classes == ("cat", "dog")
    index = int(found.train.ids[0][1:])
    np.testing.assert_array_equal(
        found.train.inputs[0], picture(index).transpose(2, 0, 1)
    )


PROGRAM = """
import resource, sys
from nacs import data
train = data.load(sys.argv[1]).train
order = train.inputs.order(0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, len(order), 32):
    train.batch(order[start : start + 32])
print(len(order), before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_an_epoch_takes_no_memory_for_the_data(tmp_path):
    """200 pictures of 768 kB: 150 MB decoded; the first pass reads some of them."""
    one = png(np.zeros((512, 512, 3), np.uint8))
    members = [
        m
        for i in range(200)
        for m in ((f"{i}.png", one), (f"{i}.cls", str(i % 2).encode()))
    ]
    write_tar(tmp_path / "a.tar", members)
    run = [sys.executable, "-c", PROGRAM, str(tmp_path / "a.tar")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    count, before, after = map(int, done.stdout.split())
    assert count == 140
    # A batch of 32 in float32 is 100 MB, twice while it is made; all would be 440.
    assert (after - before) * 1024 < 300e6


def test_the_page_has_the_figures_of_the_benchmark():
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "how-to" / "large.md").read_text(encoding="utf-8")
    found = json.loads((root / "benchmarks" / "results" / "shards.json").read_text())
    assert set(found) == {"tar", "parquet"}
    for kind, rows in found.items():
        for row in rows:
            decoded, peak = (
                f"{row[each] / 1e6:,.0f} MB" for each in ("decoded", "peak")
            )
            assert f"| {kind} | {row['samples']:,} | {decoded} | {peak} |" in page
