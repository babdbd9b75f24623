"""Data larger than memory: WebDataset shards (.tar) of images, or Parquet of series.

    shards → one pass over headers and labels → index in memory → samples when asked for

The index takes about 40 bytes a sample and the names of the samples; the samples
themselves are read by their offsets, and nothing is unpacked to disk. A split is fixed
by a field `split`, or by shards called train, val and test, else drawn by seed.
"""

import glob
import re
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from nacs.data.base import Array
from nacs.data.download import expanded
from nacs.data.folders import PART_NAMES
from nacs.data.splits import PARTS, Samples, encode_labels
from nacs.errors import UserError

__all__ = ["Index", "find_shards", "read_shards"]

SUFFIXES = (".tar", ".parquet")
PART = re.compile(r"(?:^|[_.-])(train|valid|validation|val|test)(?=[_.-]|\d|$)")


class Index:
    """Where samples lie and what is known of them, gathered in one pass."""

    def __init__(self) -> None:
        self.places: list[array[int]] = [array("q") for _ in range(3)]
        self.ids: list[str] = []
        self.labels, self.label_names = array("q"), dict[str, int]()
        self.groups, self.group_names = array("q"), dict[str, int]()
        self.targets, self.parts = array("d"), array("b")

    def add(
        self, where: str, name: str, place: tuple[int, int, int], told: dict[str, Any]
    ) -> None:
        """Add one sample.

        Args:
            where: What error messages call it.
            name: Its id.
            place: Three numbers by which its source finds it.
            told: label or target; split and group where they are given.

        Raises:
            UserError: label and target are missing or none; an unknown split.
        """
        for numbers, number in zip(self.places, place, strict=True):
            numbers.append(number)
        self.ids.append(name)
        label, target = told.get("label"), told.get("target")
        if isinstance(target, int | float) and np.isfinite(target):
            self.targets.append(target)
        elif target is None and isinstance(label, str | int) and str(label).strip():
            names = self.label_names
            self.labels.append(names.setdefault(str(label).strip(), len(names)))
        else:
            found = "nothing" if label is None and target is None else repr(told)
            raise UserError(
                f"{where}: label missing: expected a word or an integer as label, or a "
                f"number as target, got {found}"
            )
        if told.get("split") is not None:
            if told["split"] not in PARTS:
                raise UserError(
                    f"{where}: expected split to be train, val or test, got "
                    f"{told['split']!r}"
                )
            self.parts.append(PARTS.index(told["split"]))
        if told.get("group") is not None:
            names = self.group_names
            self.groups.append(names.setdefault(str(told["group"]), len(names)))

    def fields(self, name: str) -> dict[str, Any]:
        """What `Samples` wants to know.

        Args:
            name: Of the data set, for messages.

        Raises:
            UserError: No samples, one label only, or a field that only some have.
        """
        count = len(self.ids)
        if not count:
            raise UserError(f"{name}: expected samples, got none")
        for what, found in (
            ("a label", self.labels),
            ("a target", self.targets),
            ("a split", self.parts),
            ("a group", self.groups),
        ):
            if len(found) not in (0, count):
                raise UserError(
                    f"{name}: expected {what} for all samples or for none, got "
                    f"{len(found)} for {count}"
                )
        fields: dict[str, Any] = {"ids": np.array(self.ids)}
        if self.labels:
            numbers, classes = encode_labels(list(self.label_names))
            if len(classes) < 2:
                raise UserError(
                    f"{name}: expected at least 2 labels, got only {[*classes]}"
                )
            fields |= {"targets": numbers[_array(self.labels)], "classes": classes}
        else:
            fields["targets"] = _array(self.targets).astype(np.float32)
        fields["parts"] = _array(self.parts) if self.parts else None
        fields["groups"] = _array(self.groups) if self.groups else None
        return fields


def find_shards(source: str | Path) -> list[Path]:
    """The shards that a path or a pattern stands for; none if it stands for others.

    Args:
        source: A .tar, a .parquet with list columns, a folder of either, whose shards
            may be in folders train, val and test, or a pattern such as shards/\\*.tar.

    Raises:
        UserError: a pattern without a match, shards of two kinds, or packed ones.
    """
    path = expanded(source)
    if not path.exists() and glob.has_magic(str(path)):
        found = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
        if not found:
            raise UserError(f"{source}: no file matches this pattern")
        kinds = {each.suffix.lower() for each in found}
        if not kinds <= set(SUFFIXES):
            raise UserError(
                f"{source}: expected shards of type .tar or .parquet, got "
                f"{', '.join(sorted(kinds))}"
            )
    elif path.is_dir():
        inside = [*path.glob("*"), *path.glob("*/*")]
        found = sorted(
            each
            for each in inside
            if each.suffix.lower() in SUFFIXES
            and each.is_file()
            and not each.name.startswith(".")
            and (each.parent == path or each.parent.name.lower() in PART_NAMES)
        )
    else:
        found = [path] if _is_shard(path) else []
    if len({each.suffix.lower() for each in found}) > 1:
        raise UserError(f"{source}: expected shards of one kind, got .tar and .parquet")
    return found


def _is_shard(path: Path) -> bool:
    if path.suffix.lower() == ".parquet" and path.is_file():
        from nacs.data.shards_parquet import has_lists

        return has_lists(path)  # else a table in long form, a row a time
    return path.suffix.lower() == ".tar" and path.is_file()


def read_shards(paths: list[Path], *, name: str, size: int | None = None) -> Samples:
    """Index shards; the samples stay where they are.

    Args:
        paths: What `find_shards` found.
        name: Of the data set.
        size: Scale images to squares of this many pixels.

    Raises:
        UserError: a broken shard, a label missing, nothing to predict.
    """
    if paths[0].suffix.lower() == ".tar":
        from nacs.data.shards_tar import index_tar

        return index_tar(paths, name=name, size=size)
    from nacs.data.shards_parquet import index_parquet

    return index_parquet(paths, name=name)


def part_of(path: Path) -> str | None:
    """Train, val or test, where the folder of a shard or its name says so."""
    folder = path.parent.name.lower()
    found = [folder] if folder in PART_NAMES else PART.findall(path.stem.lower())
    return PARTS[PART_NAMES[found[-1]]] if found else None


def _array(numbers: "array[Any]") -> Array:
    return np.frombuffer(numbers, dtype=numbers.typecode).copy()
