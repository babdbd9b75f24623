"""WebDataset shards: KEY.jpg or KEY.png beside KEY.cls or KEY.json in a .tar file.

    headers → (shard, offset, bytes) a picture;  seek, read, decode when asked for

Members of other types are left alone. Links, sparse members and absurd sizes are
refused, and nothing is ever written to disk.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nacs.data.base import Array
from nacs.data.folders import SUFFIXES
from nacs.data.images import decode_image
from nacs.data.shards import Index, part_of
from nacs.data.splits import Samples
from nacs.data.stored import Stored
from nacs.errors import UserError

__all__ = ["TarImages", "index_tar"]

PICTURES = {suffix[1:] for suffix, kind in SUFFIXES.items() if kind == "image"}
BLOCK = 256
LARGEST = {"picture": 64 * 2**20, "label": 2**20}
"""Bytes of a member; no picture or label that we would train on is larger."""


class TarImages:
    """Images in tar files by offset; a `Source`.

    Args:
        paths: The shards.
        places: (3, samples) shard, offset and bytes of every image.
        ids: (samples,) their keys.
        size: Scale images to squares of this many pixels.
    """

    window, ragged = 16, False

    def __init__(
        self, paths: list[Path], places: Array, ids: Array, size: int | None
    ) -> None:
        self.paths, self.places, self.ids, self.size = paths, places, ids, size
        shards = places[0]
        within = np.arange(len(shards)) - np.searchsorted(shards, shards)
        most = len(shards) // BLOCK + 1
        self.blocks = shards * most + within // BLOCK
        self.shape: tuple[int, ...] = ()
        spread = np.linspace(0, len(shards) - 1, min(64, len(shards))).astype(np.int64)
        seen = self.read(spread)
        # Grey ones become colour if any is colour, as in a folder of images.
        self.shape = max((each.shape for each in seen), key=lambda shape: shape[0])
        self.longest = self.shape[0]

    def read(self, rows: Array) -> list[Array]:
        """Decode images: channels height width, uint8, in the order of `rows`.

        Raises:
            UserError: a broken image, or one of another size or kind.
        """
        found: list[Array] = [np.zeros(0)] * len(rows)
        shard, offset, _ = self.places[:, rows]
        for number in np.unique(shard):
            mine = np.flatnonzero(shard == number)
            with self.paths[number].open("rb") as file:
                for at in mine[np.argsort(offset[mine])]:
                    found[at] = self._one(file, int(rows[at]))
        return found

    def _one(self, file: Any, row: int) -> Array:
        number, offset, length = self.places[:, row].tolist()
        where = f"{self.paths[number]}: sample {self.ids[row]}"
        file.seek(offset)
        image = decode_image(file.read(length), where, self.size)
        if not self.shape:
            return image
        if image.shape[0] == 1:
            image = np.broadcast_to(image, (self.shape[0], *image.shape[1:]))
        if image.shape != self.shape:
            raise UserError(
                f"{where}: expected channels, height and width {self.shape} as in "
                f"other images, got {image.shape}; give a size to scale to: --size 64"
            )
        return image


def index_tar(paths: list[Path], *, name: str, size: int | None) -> Samples:
    """Find the images of shards and read their labels.

    Raises:
        UserError: a broken or packed shard, a sample without image or label.
    """
    index = Index()
    for number, path in enumerate(paths):
        part, end = part_of(path), path.stat().st_size
        for key, (offset, length), told in _samples(path, end):
            where = f"{path}: sample {key}"
            known = told if part is None else {"split": part, **told}
            index.add(where, key, (number, offset, length), known)
    fields = index.fields(name)
    places = np.array([np.frombuffer(each, np.int64) for each in index.places])
    source = TarImages(paths, places, fields["ids"], size)
    inputs = Stored(source, np.arange(len(fields["ids"])))
    return Samples(name=name, kind="image", inputs=inputs, **fields)


def _samples(
    path: Path, end: int
) -> Iterator[tuple[str, tuple[int, int], dict[str, Any]]]:
    """Key, place of the image and what is told, sample by sample."""
    key, place, told = "", None, dict[str, Any]()
    for member, data in _members(path, end):
        stem, _, suffix = member.name.rpartition("/")[2].partition(".")
        folder = member.name.rpartition("/")[0]
        now = f"{folder}/{stem}" if folder else stem
        if now != key:
            yield from _sample(path, key, place, told)
            key, place, told = now, None, {}
        suffix = suffix.lower()
        if suffix in PICTURES:
            if place is not None:
                raise UserError(
                    f"{path}: sample {key}: expected one image, got a second one, "
                    f"{member.name}"
                )
            place = (member.offset_data, member.size)
        elif data is not None:
            told |= _told(f"{path}: {member.name}", suffix, data)
    yield from _sample(path, key, place, told)


def _sample(
    path: Path, key: str, place: tuple[int, int] | None, told: dict[str, Any]
) -> Iterator[tuple[str, tuple[int, int], dict[str, Any]]]:
    if place is not None:
        yield key, place, told
    elif told:
        raise UserError(
            f"{path}: sample {key}: expected an image beside its label, as "
            f"{key}.jpg, got none"
        )


def _members(path: Path, end: int) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Every file of an archive, with the bytes of those that hold labels."""
    try:
        with tarfile.open(path, "r:") as shard:
            while (member := shard.next()) is not None:
                # Which would grow with the shard.
                shard.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                if member.isdir() or not member.name.strip("/"):
                    continue
                _check_member(path, member, end)
                label = member.name.lower().endswith((".cls", ".json"))
                file = shard.extractfile(member) if label else None
                yield member, None if file is None else file.read()
            _check_end(path, shard.offset)  # pyright: ignore
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: expected a .tar file that is whole and not packed, got {error}"
        ) from error


def _check_end(path: Path, offset: int) -> None:
    """Refuse what tarfile takes for an end: any header but the first that is none."""
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise UserError(
                f"{path}: the shard is cut off or broken at byte {offset:,}; expected "
                "another file or the end of the archive there"
            )


def _check_member(path: Path, member: tarfile.TarInfo, end: int) -> None:
    where = f"{path}: member {member.name}"
    if not member.isreg() or member.issparse():
        raise UserError(f"{where}: expected a plain file, got a link or a device")
    suffix = member.name.rpartition(".")[2].lower()
    kind = "picture" if suffix in PICTURES else "label"
    known = suffix in PICTURES or suffix in {"cls", "json"}
    if member.size < 0 or member.offset_data + member.size > end:
        raise UserError(f"{where}: the shard is cut off; it ends within this file")
    if known and member.size > LARGEST[kind]:
        raise UserError(
            f"{where}: expected a {kind} of at most {LARGEST[kind]:,} bytes, got "
            f"{member.size:,}"
        )


def _told(where: str, suffix: str, data: bytes) -> dict[str, Any]:
    """Label, target, split and group of a sample, as far as this file has them."""
    try:
        text = data.decode("utf-8")
        if suffix == "cls":
            return {"label": text.strip()}
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: expected text or JSON, got {error}") from error
    if not isinstance(told, dict):
        raise UserError(f'{where}: expected {{"label": ...}} or {{"target": ...}}')
    known = ("label", "target", "split", "group")
    return {key: told[key] for key in known if told.get(key) is not None}
