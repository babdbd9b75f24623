"""Packed files, read without believing that what they hold is harmless.

    .gz, .xz, .zip, .tar.gz or .parquet  →  what is in it, as long as it fits the bound

A few kilobytes can unpack to terabytes. What is packed may grow to 256 MB, or to 200
times its size on disk; text and sensor readings shrink to a third or a thirtieth.
"""

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nacs.errors import UserError

__all__ = [
    "BROKEN",
    "NAME",
    "check_growth",
    "check_name",
    "text_lines",
    "untarred",
    "unzipped",
]

FREE, RATIO = 1 << 28, 200
LONGEST_LINE = 1 << 26
"""Characters of a line of text; a line is in memory before it can be looked at."""

NAME = 1000
"""Characters of an id, a group or a label: an array of names is as wide as the longest
of them, so that one of a megabyte would take a megabyte for every sample."""

BROKEN = (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error)
"""What a broken packed file raises while it is read."""


def check_growth(where: Path | str, unpacked: int, packed: int) -> None:
    """Refuse what grows too much, before memory is taken for it.

    Args:
        where: What error messages begin with.
        unpacked: Bytes that are needed.
        packed: Bytes on disk.

    Raises:
        UserError: If these bytes are over the bound.
    """
    if unpacked > max(FREE, RATIO * packed):
        raise UserError(
            f"{where}: {packed:,} bytes unpack to {unpacked:,} or more; expected at "
            f"most {RATIO} times as many. If you trust the file, unpack it first."
        )


def check_name(where: str, name: str) -> str:
    """The name itself.

    Raises:
        UserError: If it is longer than a name can be.
    """
    if len(name) > NAME:
        raise UserError(
            f"{where}: expected a name of at most {NAME} characters, got {len(name)}, "
            f"{name[:20]!r}..."
        )
    return name


@contextmanager
def text_lines(path: Path) -> Generator[Iterator[str], None, None]:
    """The lines of a UTF-8 text, which may be .xz or .gz, their ends as they are."""
    opened: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}
    start = opened.get(path.suffix.lower(), open)
    with start(path, "rt", encoding="utf-8-sig", newline="") as stream:
        yield _lines(stream, path, path.stat().st_size)


def _lines(stream: IO[str], path: Path, packed: int) -> Iterator[str]:
    unpacked = number = 0
    while line := stream.readline(LONGEST_LINE):
        unpacked, number = unpacked + len(line), number + 1
        check_growth(path, unpacked, packed)
        if len(line) == LONGEST_LINE:
            raise UserError(
                f"{path}: row {number}: expected a line of fewer than "
                f"{LONGEST_LINE:,} characters."
            )
        yield line


@contextmanager
def unzipped(path: Path) -> Generator[zipfile.ZipFile, None, None]:
    """A zip archive whose members, all together, are within the bound."""
    with zipfile.ZipFile(path) as archive:
        announced = sum(member.file_size for member in archive.infolist())
        check_growth(path, announced, path.stat().st_size)
        yield archive


@contextmanager
def untarred(path: Path) -> Generator[tarfile.TarFile, None, None]:
    """A tar archive, packed by gzip or not, of which no more is read than the bound."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as stream:
        bounded: Any = _Bounded(stream, path)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            yield archive


class _Bounded:
    """A stream that refuses to be read beyond the bound."""

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path, self.packed = stream, path, path.stat().st_size
        self.tell = stream.tell

    def read(self, count: int) -> bytes:
        self._check(self.tell() + count)
        return self.stream.read(count)

    def seek(self, place: int) -> int:
        self._check(place)  # a packed stream reads all that it passes
        return self.stream.seek(place)

    def _check(self, place: int) -> None:
        check_growth(self.path, place, self.packed)
