"""Downloads from a server on this machine, and the publishers' formats."""

import errno
import gzip
import hashlib
import io
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nacs.data import load
from nacs.data.download import Remote, cache_folder, fetch
from nacs.data.named import NAMED
from nacs.errors import UserError

PAYLOAD = bytes(range(256)) * 40
DIGEST = "md5:" + hashlib.md5(PAYLOAD).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one payload; may break off, and may not know ranges."""

    payload = PAYLOAD
    stop_after: int | None = None
    knows_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def remote(self) -> Remote:
        """The payload with its right hash."""
        port = self.server_address[1]
        return Remote(url=f"http://127.0.0.1:{port}/files/data.bin", hash=DIGEST)


class Handler(BaseHTTPRequestHandler):
    """Answers GET, with or without Range."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Send the payload, or what is asked of it, or less."""
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.path != "/files/data.bin":
            self.send_error(404)
            return
        start = 0
        if asked and self.server.knows_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.server.payload):
                self.send_error(416)
                return
        body = self.server.payload[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.stop_after])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path):
    path = fetch(server.remote, tmp_path / "new")
    assert path.read_bytes() == PAYLOAD
    assert fetch(server.remote, tmp_path / "new") == path
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["data.bin"]


def test_a_wrong_hash_leaves_nothing(server: Server, tmp_path: Path):
    wrong = replace(server.remote, hash="sha256:" + "0" * 64)
    with pytest.raises(UserError, match=r"data\.bin: expected sha256:0.* got [0-9a-f]"):
        fetch(wrong, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_resumes(server: Server, tmp_path: Path):
    server.stop_after = 1000
    with pytest.raises(UserError, match="broke off after 1000 of 10240 bytes"):
        fetch(server.remote, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["data.bin.part"]
    server.stop_after = 500
    with pytest.raises(UserError, match="broke off after 1500 of 10240 bytes"):
        fetch(server.remote, tmp_path)
    server.stop_after = None
    assert fetch(server.remote, tmp_path).read_bytes() == PAYLOAD
    assert server.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path):
    (tmp_path / "data.bin.part").write_bytes(b"x" * 500)
    server.knows_ranges = False
    assert fetch(server.remote, tmp_path).read_bytes() == PAYLOAD


def test_a_complete_part_is_checked(server: Server, tmp_path: Path):
    (tmp_path / "data.bin.part").write_bytes(PAYLOAD)
    assert fetch(server.remote, tmp_path).read_bytes() == PAYLOAD
    assert server.asked == [f"bytes={len(PAYLOAD)}-"]


def test_a_changed_cache_is_not_believed(server: Server, tmp_path: Path):
    (tmp_path / "data.bin").write_bytes(b"changed")
    with pytest.raises(UserError, match=r"delete .*data\.bin to download it again"):
        fetch(server.remote, tmp_path)


def test_a_missing_file_or_server(server: Server, tmp_path: Path):
    gone = replace(server.remote, url=server.remote.url + ".gone")
    with pytest.raises(UserError, match="404"):
        fetch(gone, tmp_path)
    nobody = Remote(url="http://127.0.0.1:1/data.bin", hash=DIGEST)
    with pytest.raises(UserError, match="run the command again to resume"):
        fetch(nobody, tmp_path)


def test_a_full_disk_is_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nacs.data.download._copy", full)
    with pytest.raises(UserError, match="No space left"):
        fetch(server.remote, tmp_path)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NACS_DATA", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("NACS_DATA")
    assert cache_folder() == Path.home() / ".cache" / "nacs"


def test_every_hash_has_the_length_of_its_algorithm():
    for published in NAMED.values():
        for remote in published.files:
            algorithm, _, digest = remote.hash.partition(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size


# the publishers' formats, written small


def write_idx(path: Path, array: np.ndarray, claim: int = 0) -> None:
    shape = (array.shape[0] + claim, *array.shape[1:])
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_mnist(folder: Path) -> None:
    for start, count in (("train", 100), ("t10k", 20)):
        images = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4))
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(folder / f"{start}-images-idx3-ubyte.gz", images.astype(np.uint8))
        write_idx(folder / f"{start}-labels-idx1-ubyte.gz", labels)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def records(labels: list[int]) -> bytes:
    return b"".join(bytes([label]) + bytes([label + 1]) * 3072 for label in labels)


def test_mnist_in_a_folder(tmp_path: Path):
    write_mnist(tmp_path)
    dataset = load(tmp_path)
    assert (dataset.name, dataset.shape) == (str(tmp_path), (1, 4, 4))
    assert len(dataset.test) == 20
    assert dataset.test.ids[3] == "test 3"
    assert dataset.test.inputs[3].max() == 3
    assert set(dataset.val.ids) | set(dataset.train.ids) == {
        f"train {row}" for row in range(100)
    }


def test_names_are_read_from_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The whole way: a name, a download, a hash, the reader."""
    write_tar(tmp_path / "made.tar.gz", cifar_members())
    server.payload = (tmp_path / "made.tar.gz").read_bytes()
    digest = hashlib.sha256(server.payload).hexdigest()
    remote = replace(server.remote, hash=f"sha256:{digest}")
    small = replace(NAMED["cifar-10"], files=(remote,))
    monkeypatch.setitem(NAMED, "cifar-10", small)
    monkeypatch.setenv("NACS_DATA", str(tmp_path / "cache"))
    dataset = load("cifar-10")
    assert dataset.name == "cifar-10"
    assert (tmp_path / "cache" / "cifar-10" / "data.bin").exists()


def cifar_members() -> dict[str, bytes]:
    batches = {f"d/data_batch_{i}.bin": records(list(range(10))) for i in range(1, 6)}
    return {**batches, "d/test_batch.bin": records([7, 9]), "../evil.bin": b""}


def test_cifar(tmp_path: Path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_tar(path, cifar_members())
    dataset = load(path)
    assert dataset.shape == (3, 32, 32)
    assert [dataset.classes[i] for i in dataset.test.targets] == ["horse", "truck"]
    assert len(dataset.train) + len(dataset.val) == 50
    assert (np.asarray(dataset.test.inputs).min(), dataset.test.inputs[1].max()) == (
        8,
        10,
    )
    assert not (tmp_path.parent / "evil.bin").exists()


def test_imdb(tmp_path: Path):
    path = tmp_path / "aclImdb_v1.tar.gz"
    reviews = {
        f"aclImdb/{part}/{label}/{row}_{row % 10}.txt": f"{label} {row}".encode()
        for part in ("train", "test")
        for label in ("pos", "neg")
        for row in range(10)
    }
    write_tar(path, {**reviews, "aclImdb/train/unsup/0_0.txt": b"left out"})
    dataset = load(path)
    assert dataset.classes == ("neg", "pos")
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == [18, 2, 20]
    for review, target in zip(dataset.test.inputs, dataset.test.targets, strict=True):
        label: str = dataset.classes[int(target)]
        assert review.tobytes().startswith(label.encode())


def write_tiny(path: Path) -> None:
    def photo(shade: int) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (4, 4), (shade, shade, shade)).save(stream, "JPEG")
        return stream.getvalue()

    root = "tiny-imagenet-200"
    with zipfile.ZipFile(path, "w") as archive:
        for shade in range(20):
            name = f"n{shade % 2}"
            archive.writestr(f"{root}/train/{name}/images/{shade}.JPEG", photo(shade))
        lines = [f"val_{row}.JPEG\tn{row % 2}\t0\t0\t9\t9" for row in range(4)]
        archive.writestr(f"{root}/val/val_annotations.txt", "\n".join(lines))
        for row in range(4):
            archive.writestr(f"{root}/val/images/val_{row}.JPEG", photo(100 + row))
        archive.writestr(f"{root}/words.txt", "n0\tgoldfish\nn1\tbullfrog\nn2\tnewt")


def test_tiny_imagenet(tmp_path: Path):
    path = tmp_path / "tiny-imagenet-200.zip"
    write_tiny(path)
    dataset = load(path)
    assert dataset.classes == ("goldfish", "bullfrog")
    assert [len(s) for s in (dataset.train, dataset.val, dataset.test)] == [18, 2, 4]
    assert min(int(image.min()) for image in dataset.test.inputs) >= 99


@pytest.mark.parametrize(
    "name", ["cifar-10-binary.tar.gz", "aclImdb_v1.tar.gz", "tiny-imagenet-200.zip"]
)
def test_broken_archives(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(UserError, match=f"{name}: expected .* as published, got"):
        load(tmp_path / name)


def test_a_member_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nacs.data.named.LARGEST_MEMBER", 100)
    write_tar(tmp_path / "cifar-10-binary.tar.gz", cifar_members())
    with pytest.raises(UserError, match=r"data_batch_1\.bin of 30730 bytes"):
        load(tmp_path / "cifar-10-binary.tar.gz")


def test_an_archive_without_its_test_batch(tmp_path: Path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_tar(path, {"d/data_batch_1.bin": records([1])})
    with pytest.raises(UserError, match=r"test_batch\.bin"):
        load(path)


def test_a_forged_idx_header(tmp_path: Path):
    write_mnist(tmp_path)
    labels = np.zeros(20, np.uint8)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", labels, claim=4_000_000_000)
    with pytest.raises(UserError, match=r"shape \(4000000020,\) and 20 bytes"):
        load(tmp_path)
