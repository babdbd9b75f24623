"""Download a file once, resume it if it broke off, and believe it only by its hash."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nacs.errors import UserError

__all__ = ["Remote", "cache_folder", "check_hash", "expanded", "fetch"]

CHUNK = 1 << 20
TIMEOUT = 60.0
PARTIAL, UNSATISFIABLE = 206, 416


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A file at its publisher's."""

    url: str
    """Where it is."""

    hash: str
    """Algorithm and hexadecimal digest, as in md5:0123..."""

    @property
    def file(self) -> str:
        """Its name, the last part of the address."""
        return self.url.rpartition("/")[2]


def expanded(path: str | Path) -> Path:
    """The path with ~ as the home folder.

    Raises:
        UserError: If nobody has such a home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: {error}") from error


def cache_folder() -> Path:
    """Return where downloads are kept: $NACS_DATA, or ~/.cache/nacs."""
    chosen = os.environ.get("NACS_DATA", "")
    return Path(chosen) if chosen else Path.home() / ".cache" / "nacs"


def check_hash(path: Path, expected: str) -> str | None:
    """Return the digest of a file where it differs from the expected, else None."""
    algorithm, _, digest = expected.partition(":")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    return None if found == digest else found


def fetch(remote: Remote, folder: Path) -> Path:
    """Return a verified copy of a remote file, downloading what is not there yet.

    Bytes go to FILE.part, where an interrupted download resumes; only after the hash
    is right does the file get its name, in one step.

    Args:
        remote: The file and its hash.
        folder: Where it is kept; made if absent.

    Raises:
        UserError: no connection, broken off, no space, or the hash is wrong.
    """
    path = folder / remote.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _verify(path, remote, f"delete {path} to download it again")
            return path
        part = path.with_name(path.name + ".part")
        _download(remote.url, part)
        try:
            _verify(part, remote, "it was deleted; try again")
        except UserError:
            part.unlink()
            raise
        part.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise UserError(
            f"{remote.url}: download failed: {error}; run the command again to "
            f"resume, or put the file into {folder}"
        ) from error
    return path


def _verify(path: Path, remote: Remote, remedy: str) -> None:
    """Raise UserError where the hash of a file is not the publisher's."""
    found = check_hash(path, remote.hash)
    if found is not None:
        raise UserError(f"{remote.file}: expected {remote.hash}, got {found}; {remedy}")


def _download(url: str, part: Path) -> None:
    """Append to a partial file what is missing, with a progress bar."""
    there = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "nacs", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == UNSATISFIABLE and there:
                return  # nothing is missing; the hash decides
            raise
    with response:
        resumed = response.status == PARTIAL
        start = there if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("ab" if resumed else "wb") as stream:
            _copy(response.read, stream.write, part.stem, start, total)
    size = part.stat().st_size
    if total is not None and size < total:
        raise OSError(f"broke off after {size} of {total} bytes")


def _copy(
    read: Callable[[int], bytes],
    write: Callable[[bytes], int],
    title: str,
    start: int,
    total: int | None,
) -> None:
    """Copy a stream to another and show how far it is."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=total, completed=start)
        while chunk := read(CHUNK):
            write(chunk)
            progress.advance(bar, len(chunk))
