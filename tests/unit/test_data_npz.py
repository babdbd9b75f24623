"""Arrays in .npz files, honest and forged."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nacs.data import load
from nacs.data.base import Array, Dataset
from nacs.data.npz import load_arrays
from nacs.errors import UserError


def encoded(count: int) -> dict[str, Array]:
    """Return PNGs end to end, as the packed files keep them."""
    files: list[bytes] = []
    for shade in range(count):
        stream = io.BytesIO()
        Image.new("RGB", (2, 2), (shade, 0, 0)).save(stream, "PNG")
        files.append(stream.getvalue())
    return {
        "blob": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(count) % 2,
    }


def write_npz(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def sizes(dataset: Dataset) -> list[int]:
    return [len(split) for split in (dataset.train, dataset.val, dataset.test)]


def refused(path: Path, message: str) -> None:
    """Assert that loading fails in one line that names the file."""
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("x", "kind", "shape"),
    [
        (np.zeros((20, 4, 5), np.uint8), "image", (1, 4, 5)),
        (np.zeros((20, 4, 5, 3), np.uint8), "image", (3, 4, 5)),
        (np.zeros((20, 3, 4, 5)), "image", (3, 4, 5)),
        (np.full((20, 4, 5), 255, np.int64), "image", (1, 4, 5)),
        (np.ones((20, 7), np.uint8), "bytes", (7,)),
        (np.ones((20, 7), np.int32), "tokens", (7,)),
    ],
)
def test_arrays_are_recognised(
    tmp_path: Path, x: Array, kind: str, shape: tuple[int, ...]
):
    dataset = load(write_npz(tmp_path, x=x, y=np.arange(20) % 2))
    assert (dataset.kind, dataset.shape, dataset.classes) == (kind, shape, ("0", "1"))
    assert sizes(dataset) == [14, 2, 4]
    assert np.max(dataset.train.inputs) == np.max(x)


def test_a_given_kind_groups_ids_and_float_targets(tmp_path: Path):
    path = write_npz(
        tmp_path,
        x=np.zeros((20, 4, 3)),
        y=np.linspace(0, 1, 20),
        kind="series",
        groups=np.arange(20) // 2,
        ids=np.array([f"row{i}" for i in range(20)]),
    )
    dataset = load(path)
    assert (dataset.kind, dataset.classes, dataset.outputs) == ("series", (), 1)
    assert dataset.train.batch([0]).targets.dtype.is_floating_point
    pairs = {int(name[3:]) // 2 for name in dataset.test.ids}
    assert len(dataset.test) == 2 * len(pairs)


def test_fixed_test_arrays(tmp_path: Path):
    x, y = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    marked = np.ones((6, 4, 4), np.uint8)
    path = write_npz(tmp_path, x_train=x, y_train=y, x_test=marked, y_test=y[:6])
    dataset = load(path)
    assert sizes(dataset) == [18, 2, 6]
    assert np.array_equal(np.asarray(dataset.test.inputs), marked[:, None])


def test_encoded_images(tmp_path: Path):
    arrays = encoded(20)
    path = write_npz(tmp_path, **arrays, is_val=np.arange(20) >= 16)
    dataset = load(path)
    assert sizes(dataset) == [14, 2, 4]
    assert [int(image[0, 0, 0]) for image in dataset.test.inputs] == [16, 17, 18, 19]


def test_points_and_series_arrays(tmp_path: Path):
    labels = np.arange(20) % 2
    metres = load(
        write_npz(tmp_path, points_mm=np.full((20, 5, 3), 1500), labels=labels)
    )
    assert np.max(metres.train.inputs) == 1.5
    data = np.stack([1.7e12 + np.arange(60) % 3, np.ones(60)], axis=1)
    offsets = np.arange(0, 61, 3)
    classes = np.array(["up", "down"])
    series = load(
        write_npz(tmp_path, data=data, offsets=offsets, labels=labels, classes=classes)
    )
    assert (series.kind, series.shape) == ("series", (3, 2))
    assert series.classes == ("up", "down")
    times = series.train.batch([0]).inputs[0, :, 0]
    assert times.numpy().tolist() == [0, 1, 2]  # a step takes 1


X, Y = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
ENCODED = encoded(20)
BAD_ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"z": X}, "labels missing: .* got the keys z"),
    ({"labels": Y}, "expected the keys x, y"),
    ({"x": X, "y": Y[:3]}, r"as many rows in y as in x, got shapes \(3,\)"),
    ({"x": X, "y": Y, "x_test": X}, "labels missing: expected an array y_test"),
    ({"x": X, "y": Y, "x_test": X[:, 1:], "y_test": Y}, "x_test and y_test shaped as"),
    ({"x": X, "y": Y + 1}, "label out of range: .* got 2 from 1 to 2"),
    ({"x": X, "y": Y - 1}, "label out of range: .* from -1 to 0"),
    ({"x": X, "y": 2 * Y - 1}, "label out of range: .* from -1 to 1"),
    ({"x": X, "y": Y * 0}, "label out of range"),
    ({"x": X, "y": Y + 5, "classes": np.array(["a", "b"])}, "label 5 of row 0 is out"),
    ({"x": X, "y": Y.astype(str)}, "expected labels of integers"),
    ({"x": np.where(X == 0, np.nan, 0), "y": Y}, "sample 0 has NaN"),
    ({"x": X, "y": np.full(20, np.nan)}, "target of row 0 is NaN"),
    ({"x": X.astype(int) + 256, "y": Y}, "pixels from 0 to 255, got 256"),
    ({"x": np.zeros((20, 5, 5, 6)), "y": Y}, "1, 3 or 4 channels"),
    ({"x": np.zeros((20, 4)), "y": Y}, r"got shape \(20, 4\) of float64"),
    ({"x": X.astype(str), "y": Y}, "expected numbers in x"),
    ({"x": X, "y": Y, "kind": "smell"}, "got 'smell'"),
    ({"x": X[:, 0], "y": Y, "kind": "series"}, "expected series of 3 axes"),
    ({"x": X, "y": Y, "groups": Y[:2]}, r"expected groups of shape \(20,\)"),
    ({"points": X[0], "labels": Y}, "expected points"),
    ({"data": X, "offsets": Y, "labels": Y}, "expected data"),
    ({**ENCODED, "offsets": ENCODED["offsets"] + 1}, "increase from 0"),
    ({**ENCODED, "offsets": np.zeros(1)}, "2 integers or more"),
    ({**ENCODED, "blob": X}, "expected blob to be bytes"),
    ({**ENCODED, "labels": Y[:3]}, "3 labels for 20 samples"),
    ({**ENCODED, "is_test": Y[:3]}, r"expected is_test of shape \(20,\)"),
    ({**ENCODED, "blob": ENCODED["blob"] * 0}, "image 0: expected an image"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, Any], message: str):
    refused(write_npz(tmp_path, **arrays), message)


def forged(tmp_path: Path, header: str, payload: bytes = b"") -> Path:
    """Write an archive with one array whose header is made up."""
    text = header.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + payload
    path = tmp_path / "forged.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", data)
    return path


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ("(1000000000000,)", "<f8", "announces shape"),
        ("(-1,)", "<f8", "announces shape"),
        ("(1,)", "|O", "Python objects"),
        ("(1,", "<f8", "expected an .npz file"),
    ],
)
def test_forged_headers(tmp_path: Path, shape: str, kind: str, message: str):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    refused(forged(tmp_path, header, b"12345678"), message)


def test_a_forged_archive_size(tmp_path: Path):
    """The directory claims four gigabytes less one for a few bytes."""
    path = forged(tmp_path, "{}")
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = b"\xff\xff\xff\xfe"
    path.write_bytes(data)
    refused(path, "unpack to")


def test_a_truncated_or_foreign_archive(tmp_path: Path):
    path = write_npz(tmp_path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "expected an .npz file")
    path.write_text("hello")
    refused(path, "expected an .npz file")


def test_corrupt_contents(tmp_path: Path):
    path = write_npz(tmp_path, x=X, y=Y)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    refused(path, "CRC|expected an .npz")


def test_headers_of_format_two_are_read(tmp_path: Path):
    path = tmp_path / "two.npz"
    stream = io.BytesIO()
    np.lib.format.write_array(stream, Y, version=(2, 0))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("y.npy", stream.getvalue())
    assert (load_arrays(path)["y"] == Y).all()
