"""Published data sets by name, downloaded on request and read without unpacking.

Archives are never extracted: their members are read one by one, so no path inside an
archive ever becomes a path on disk.

References:
    MNIST: LeCun, Cortes, Burges, 1998 (PyTorch's mirror; the author's is gone).
    Fashion-MNIST: Xiao, Rasul, Vollgraf, 2017. https://arxiv.org/abs/1708.07747
    CIFAR-10: Krizhevsky, 2009. https://www.cs.toronto.edu/~kriz/cifar.html
    Tiny-ImageNet: Le, Yang, 2015. http://cs231n.stanford.edu
    IMDb: Maas et al., 2011. https://ai.stanford.edu/~amaas/data/sentiment
"""

import gzip
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nacs.data.base import Array
from nacs.data.download import Remote, cache_folder, fetch
from nacs.data.images import decode_images, stack_images
from nacs.data.splits import PARTS, Samples, encode_labels
from nacs.data.unpacking import untarred, unzipped
from nacs.errors import UserError

__all__ = ["NAMED", "Published", "find_published", "read_published"]

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR_RECORD = 1 + 3 * 32 * 32
REVIEW = re.compile(r"aclImdb/(train|test)/(pos|neg)/(\d+_\d+)\.txt")
TINY = re.compile(r"tiny-imagenet-200/train/(n\d+)/images/([^/]+\.JPEG)")
TINY_VAL = "tiny-imagenet-200/val/"
LARGEST_MEMBER = 1 << 28
"""Bytes an archive's member may have; the publishers' largest has 30,730,000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A data set, where its files are, and how they are read."""

    name: str
    """Its name on the command line."""

    files: tuple[Remote, ...]
    """What is downloaded."""

    read: Callable[[list[Path]], Samples]
    """Takes the files in that order."""


def read_published(name: str) -> Samples:
    """Download what is missing of a published data set into the cache, and read it.

    Raises:
        UserError: the download fails, or a file is not what its publisher put there.
    """
    published = NAMED[name]
    folder = cache_folder() / name
    return _read(published, [fetch(remote, folder) for remote in published.files])


def find_published(path: Path) -> Samples | None:
    """Read a publisher's archive, or a folder that holds all its files, or None.

    The user chose these files, so their hash is not checked.
    """
    for published in NAMED.values():
        names = [remote.file for remote in published.files]
        if path.is_file() and [path.name] == names:
            return replace(_read(published, [path]), name=str(path))
        if path.is_dir() and all((path / name).is_file() for name in names):
            samples = _read(published, [path / name for name in names])
            return replace(samples, name=str(path))
    return None


def _read(published: Published, paths: list[Path]) -> Samples:
    """Read files and turn whatever is wrong with them into one line."""
    try:
        return replace(published.read(paths), name=published.name)
    except UserError:
        raise
    except (
        *(OSError, EOFError, KeyError, ValueError, struct.error, zlib.error),
        *(tarfile.TarError, zipfile.BadZipFile, RuntimeError, NotImplementedError),
    ) as error:
        raise UserError(
            f"{paths[0]}: expected {published.name} as published, got {error}"
        ) from error


def _read_idx(path: Path) -> Array:
    """Read bytes with their shape in front, the format of MNIST."""
    with gzip.open(path) as stream:
        zero, kind, axes = struct.unpack(">HBB", stream.read(4))
        shape = struct.unpack(f">{axes}I", stream.read(4 * axes))
        payload = stream.read(LARGEST_MEMBER)
    if (zero, kind) != (0, 8) or len(payload) != np.prod(shape, dtype=object):
        raise ValueError(f"{path.name} with shape {shape} and {len(payload)} bytes")
    return np.frombuffer(payload, dtype=np.uint8).reshape(shape)


def _read_mnist(paths: list[Path], classes: tuple[str, ...]) -> Samples:
    """Read the four files of MNIST or Fashion-MNIST."""
    train, train_labels, test, test_labels = (_read_idx(path) for path in paths)
    images = np.concatenate([train, test])[:, None]
    labels = np.concatenate([train_labels, test_labels])
    return _images(images, labels, len(train), classes)


def _read_fashion(paths: list[Path]) -> Samples:
    return _read_mnist(paths, CLOTHES)


def _read_digits(paths: list[Path]) -> Samples:
    return _read_mnist(paths, DIGITS)


def _read_cifar(paths: list[Path]) -> Samples:
    """Read records of one label and 3x32x32 pixels from the binary archive."""
    with untarred(paths[0]) as archive:
        found = {
            member.name.rpartition("/")[2]: _member(archive, member)
            for member in archive
            if member.isfile() and member.name.endswith(".bin")
        }
    train = [found[name] for name in sorted(found) if name.startswith("data_batch")]
    payload = b"".join([*train, found["test_batch.bin"]])
    records = np.frombuffer(payload, dtype=np.uint8).reshape(-1, CIFAR_RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32)
    count = sum(len(batch) for batch in train) // CIFAR_RECORD
    return _images(images, records[:, 0], count, CIFAR_CLASSES)


def _read_imdb(paths: list[Path]) -> Samples:
    """Read the labelled reviews, in the order of their names."""
    reviews: dict[tuple[str, str, str], bytes] = {}
    with untarred(paths[0]) as archive:
        for member in archive:
            match = REVIEW.fullmatch(member.name)
            if match and member.isfile():
                part, label, name = match.groups()
                reviews[part, label, name] = _member(archive, member)
    order = sorted(reviews)
    targets, classes = encode_labels([label for _, label, _ in order])
    return Samples(
        name="imdb",
        kind="bytes",
        inputs=[np.frombuffer(reviews[key], dtype=np.uint8) for key in order],
        targets=targets,
        ids=np.array(["/".join(key) for key in order]),
        classes=classes,
        parts=np.array([PARTS.index(part) for part, _, _ in order], dtype=np.int8),
    )


def _read_tiny(paths: list[Path]) -> Samples:
    """Read training images, and as test the labelled validation images.

    The published test images have no labels.
    """
    with unzipped(paths[0]) as archive:
        lines = archive.read(f"{TINY_VAL}val_annotations.txt").decode().splitlines()
        marks = dict(line.split("\t")[:2] for line in lines if line)
        words = archive.read("tiny-imagenet-200/words.txt").decode().splitlines()
        meanings = dict(line.split("\t")[:2] for line in words if line)
        members = [
            (name, match[1], 0)
            for name in sorted(archive.namelist())
            if (match := TINY.fullmatch(name))
        ]
        members += [(f"{TINY_VAL}images/{n}", marks[n], 2) for n in sorted(marks)]
        named = ((archive.read(name), name) for name, _, _ in members)
        images = decode_images(named, str(paths[0]))
    ids = [name for name, _, _ in members]
    targets, classes = encode_labels([label for _, label, _ in members])
    return Samples(
        name="tiny-imagenet",
        kind="image",
        inputs=stack_images(images, ids, str(paths[0])),
        targets=targets,
        ids=np.array(ids),
        classes=tuple(meanings.get(label, label) for label in classes),
        parts=np.array([part for _, _, part in members], dtype=np.int8),
    )


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return the bytes of one member, which must all be there."""
    stream = archive.extractfile(member)
    if stream is None or member.size > LARGEST_MEMBER:
        raise ValueError(f"{member.name} of {member.size} bytes")
    return stream.read()


def _images(
    images: Array, labels: Array, train: int, classes: tuple[str, ...]
) -> Samples:
    """Name images by their position: the first `train` are for training."""
    parts = np.where(np.arange(len(images)) < train, 0, 2).astype(np.int8)
    ids = [
        f"train {i}" if i < train else f"test {i - train}" for i in range(len(parts))
    ]
    return Samples(
        name="",
        kind="image",
        inputs=images,
        targets=labels.astype(np.int64),
        ids=np.array(ids),
        classes=classes,
        parts=parts,
    )


def _mnist_files(base: str, digests: tuple[str, ...]) -> tuple[Remote, ...]:
    """Return the four files in the order `_read_mnist` takes them."""
    files = (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    )
    return tuple(
        Remote(url=base + file, hash=f"md5:{digest}")
        for file, digest in zip(files, digests, strict=True)
    )


NAMED = {
    "mnist": Published(
        name="mnist",
        files=_mnist_files(
            MNIST_URL,
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
        read=_read_digits,
    ),
    "fashion-mnist": Published(
        name="fashion-mnist",
        files=_mnist_files(
            FASHION_URL,
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
        read=_read_fashion,
    ),
    "cifar-10": Published(
        name="cifar-10",
        files=(
            Remote(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                hash="md5:c32a1d4ab5d03f1284b67883e8d87530",
            ),
        ),
        read=_read_cifar,
    ),
    "tiny-imagenet": Published(
        name="tiny-imagenet",
        files=(
            Remote(
                url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                hash="md5:90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
        read=_read_tiny,
    ),
    "imdb": Published(
        name="imdb",
        files=(
            Remote(
                url="https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                hash="md5:7c2ac02c03563afcf9b574c7e56c153a",
            ),
        ),
        read=_read_imdb,
    ),
}
