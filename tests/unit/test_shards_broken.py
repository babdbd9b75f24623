"""Broken shards and tables: one message each, with the shard and the sample."""

import gzip
import tarfile

import pytest
from test_shards import IMAGE, NINE, sample, table, write_tar

from nacs import data
from nacs.errors import UserError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def cut_at(end):
    """In the header of a member, in its content, or where it begins."""

    def make(tmp_path):
        whole = write_tar(tmp_path / "w.tar", NINE)
        path = tmp_path / "cut.tar"
        path.write_bytes(whole.read_bytes()[:end])
        return path

    return make


def spoilt_tar(tmp_path):
    path = write_tar(tmp_path / "a.tar", NINE)
    content = bytearray(path.read_bytes())
    content[4096:4608] = b"x" * 512
    path.write_bytes(content)
    return path


def linked(tmp_path):
    path = tmp_path / "link.tar"
    with tarfile.open(path, "w") as shard:
        member = tarfile.TarInfo("0.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        shard.addfile(member)
    return path


def forged(tmp_path):
    """A header that promises a terabyte."""
    member = tarfile.TarInfo("0.png")
    member.size = 2**40
    path = tmp_path / "forged.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    return path


def large(tmp_path):
    return write_tar(tmp_path / "large.tar", [("0.cls", b"1" * (2**20 + 1))])


def packed(tmp_path):
    whole = write_tar(tmp_path / "w.tar", sample(0))
    path = tmp_path / "packed.tar"
    path.write_bytes(gzip.compress(whole.read_bytes()))
    return path


def tar_of(*members):
    return lambda tmp_path: write_tar(tmp_path / "a.tar", members)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cut_at(100), r"cut\.tar: expected a \.tar file that is whole"),
        (cut_at(2048 + 100), r"cut\.tar: the shard is cut off or broken at byte"),
        (cut_at(2048 + 520), r"cut\.tar: member .*: the shard is cut off"),
        (cut_at(4096), r"cut\.tar: the shard is cut off or broken at byte 4,096"),
        (spoilt_tar, r"a\.tar: the shard is cut off or broken at byte 4,096"),
        (linked, r"link\.tar: member 0\.png: expected a plain file, got a link"),
        (forged, r"forged\.tar: member 0\.png: the shard is cut off"),
        (large, r"0\.cls: expected a label of at most 1,048,576 bytes"),
        (packed, r"expected a \.tar file that is whole and not packed"),
        (tar_of(("0.png", IMAGE)), r"a\.tar: sample 0: label missing"),
        (tar_of(("d/0.png", IMAGE)), r"a\.tar: sample d/0: label missing"),
        (tar_of(("0.cls", b"1")), r"sample 0: expected an image beside its label"),
        (tar_of(("0.png", IMAGE), ("0.json", b"[]")), r'0\.json: expected \{"label"'),
        (tar_of(("0.png", IMAGE), ("0.json", b"{")), r"0\.json: expected text or JSON"),
        (tar_of(("0.png", IMAGE), ("0.cls", b" ")), "sample 0: label missing"),
        (
            tar_of(("0.png", IMAGE), ("0.json", b'{"label": 1, "split": "dev"}')),
            "expected split to be train, val or test, got 'dev'",
        ),
        (
            tar_of(("0.png", IMAGE), ("0.jpg", IMAGE)),
            "expected one image, got a second",
        ),
        (
            tar_of(*(m for i in range(3) for m in sample(i, cls=b"7"))),
            r"expected at least 2 labels, got only \['7'\]",
        ),
        (tar_of(), "expected samples, got none"),
        (
            tar_of(
                *(m for i in range(9) for m in sample(i)),
                ("x.png", b"no"),
                ("x.cls", b"1"),
            ),
            r"a\.tar: sample x: expected an image",
        ),
        (
            tar_of(*sample(0), ("1.png", IMAGE), ("1.json", b'{"target": 1}')),
            "expected a label for all samples or for none, got 1 for 2",
        ),
    ],
)
def test_a_broken_shard_gets_one_clear_message(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        data.load(make(tmp_path))


def parquet_of(**changes):
    def make(tmp_path):
        parquet.write_table(table(12, **changes), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    return make


def cut(tmp_path):
    path = parquet_of()(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    return path


def spoilt(tmp_path):
    path = parquet_of()(tmp_path)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    return path


def unequal(tmp_path):
    parquet_of()(tmp_path)
    parquet.write_table(table(12).drop_columns("age"), tmp_path / "b.parquet")
    return tmp_path / "*.parquet"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cut, r"a\.parquet: expected a Parquet"),
        (spoilt, r"a\.parquet: row group 1 is broken"),
        (
            parquet_of(label=None),
            r"a\.parquet: expected a row a series.*label or",
        ),
        (parquet_of(label=["a", None] * 6), r"a\.parquet: row 2: label missing"),
        (parquet_of(target=[1.0, None] * 6, label=None), "row 2: label missing"),
        (parquet_of(time=[[1.0, 0.0]] * 12, pulse=[[1.0, 1.0]] * 12), "runs backwards"),
        (parquet_of(time=[[1.0]] * 12), "expected lists of equal lengths, got 1, "),
        (
            parquet_of(pulse=[[]] * 12, time=[[]] * 12),
            "row 1: expected a series in time",
        ),
        (parquet_of(pulse=[["a"]] * 12), "lists of numbers, in column pulse, got list"),
        (unequal, r"b\.parquet: expected the columns pulse, age as in .*a\.parquet"),
    ],
)
def test_a_broken_table_gets_one_clear_message(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        data.load(make(tmp_path))
