"""Series in tables and texts in lines of JSON."""

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nacs.data import load
from nacs.data.readers import read
from nacs.errors import UserError

CSV_HEAD = "id,time,level,label\n"


def refused(path: Path, message: str) -> None:
    """Assert that loading fails in one line that names the file."""
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def table(rows: int = 20) -> str:
    """Return series of different lengths, their rows interleaved."""
    lines = [
        f"s{row},{time},{'' if time == 1 else row},{'up' if row % 2 else 'down'}"
        for time in range(4)
        for row in range(rows)
        if time < 2 + row % 3
    ]
    return CSV_HEAD + "\n".join(lines)


@pytest.mark.parametrize("suffix", [".csv", ".csv.xz", ".csv.gz", ".parquet"])
def test_series_tables(tmp_path: Path, suffix: str):
    path = tmp_path / f"table{suffix}"
    if suffix == ".csv":
        path.write_text("\ufeff" + table(), encoding="utf-8")
    elif suffix == ".csv.xz":
        path.write_bytes(lzma.compress(table().encode()))
    elif suffix == ".csv.gz":
        path.write_bytes(gzip.compress(table().encode()))
    else:
        arrow = pytest.importorskip("pyarrow", reason="pyarrow is absent")
        cells = [line.split(",") for line in table().splitlines()[1:]]
        names = CSV_HEAD.strip().split(",")
        columns: dict[str, list[Any]] = {
            name: [row[place] for row in cells] for place, name in enumerate(names)
        }
        columns["time"] = [int(time) for time in columns["time"]]
        columns["level"] = [float(cell) if cell else None for cell in columns["level"]]
        pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)
    dataset = load(path)
    assert (dataset.kind, dataset.shape) == ("series", (4, 2))
    assert dataset.classes == ("down", "up")
    names = dict(zip(dataset.train.ids.tolist(), dataset.train.inputs, strict=True))
    name = next(iter(names))
    assert len(names[name]) == 2 + int(name[1:]) % 3
    assert names[name][0].tolist() == [0, int(name[1:])]
    assert np.isnan(names[name][1, 1])


def test_targets_splits_and_groups_of_a_table(tmp_path: Path):
    path = tmp_path / "table.csv"
    rows = [
        f"{row},0,1.5,{row / 2},{'test' if row > 15 else 'train'},g{row // 4}"
        for row in range(20)
    ]
    path.write_text("id,time,level,target,split,group\n" + "\n".join(rows))
    dataset = load(path)
    assert dataset.test.targets.tolist() == [8, 8.5, 9, 9.5]
    assert len({int(name) // 4 for name in dataset.val.ids.tolist()}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns id, time"),
        ("id,level,label\n", "expected the columns id, time"),
        ("id,time,level\n", "expected the columns id, time"),
        (CSV_HEAD, "expected rows, got none"),
        (CSV_HEAD + "a,0,1", "row 2: expected 4 cells"),
        (CSV_HEAD + "a,0,1,x,9", "row 2: expected 4 cells"),
        (CSV_HEAD + "a,0,high,x", "row 2: expected a number in column level"),
        (CSV_HEAD + "a,0,inf,x", "row 2: column level is infinite"),
        (CSV_HEAD + ",0,1,x", "row 2: id missing"),
        (CSV_HEAD + "a,,1,x", "row 2: time missing"),
        (CSV_HEAD + "a,2,1,x\nb,0,1,x\na,1,1,x", "row 4: time runs backwards, 1 after"),
        (CSV_HEAD + "a,0,1,x\na,1,1,y", "row 3: expected label 'x' .* got 'y'"),
        (CSV_HEAD + "a,0,1,", "row 2: label missing"),
        (CSV_HEAD + "a,0,1,x", "at least 2 labels, got only 'x'"),
        ("id,time,level,target\na,0,1,NA", "row 2: target missing"),
        (
            "id,time,level,label,split\na,0,1,x,some\nb,0,1,y,test",
            "row 2: expected split to be",
        ),
        ("id,time,level,label,group\na,0,1,x,\nb,0,1,y,", "row 2: group missing"),
        (CSV_HEAD + 'a,0,"1,x', "expected a CSV table"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str):
    path = tmp_path / "table.csv"
    path.write_text(text)
    refused(path, message)


def test_broken_tables(tmp_path: Path):
    path = tmp_path / "table.csv.xz"
    path.write_bytes(b"not xz")
    refused(path, "expected a CSV table")
    path = tmp_path / "table.parquet"
    path.write_bytes(b"not parquet")
    pytest.importorskip("pyarrow", reason="pyarrow is absent")
    refused(path, "expected a Parquet table")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "table.parquet").touch()
    refused(tmp_path / "table.parquet", r"run pip install 'nacs\[data\]'")


# texts


def test_texts(tmp_path: Path):
    path = tmp_path / "texts.jsonl.xz"
    rows = [{"text": "né" * (r + 1), "label": r % 2, "id": r} for r in range(20)]
    path.write_bytes(lzma.compress("\n\n".join(map(json.dumps, rows)).encode()))
    dataset = load(path)
    assert (dataset.kind, dataset.shape, dataset.outputs) == ("bytes", (60,), 2)
    first = dataset.train.inputs[0].tobytes().decode()
    assert first == "né" * (int(dataset.train.ids[0]) + 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("{", "row 1: expected JSON"),
        ("[1]", "row 1: expected {"),
        ('{"label": 1}', "row 1: text missing"),
        ('{"text": " ", "label": 1}', "row 1: text missing"),
        ('{"text": "a", "label": 1}\n{"text": "b"}', "row 2: label missing"),
        ('{"text": "a", "label": 1.5}', "row 1: label missing"),
        ('{"text": "a", "target": 1}\n{"text": "b"}', "row 2: target missing"),
    ],
)
def test_bad_texts(tmp_path: Path, text: str, message: str):
    path = tmp_path / "texts.jsonl"
    path.write_text(text)
    refused(path, message)


def test_texts_that_are_not_utf8(tmp_path: Path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'{"text": "\xff"}')
    refused(path, "expected lines of JSON")


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path):
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(f'{{"text": "\\ud800", "label": {r}}}' for r in (0, 1)))
    assert read(path).inputs[0].tobytes() == b"?"
