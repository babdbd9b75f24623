"""Class folders: ROOT/CLASS/file, with ROOT/train/CLASS/file or ROOT/CLASS/train/file.

A folder named train, val, valid, validation or test anywhere between the root and the
file fixes the split; the first other folder is the class.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nacs.data.base import Array, Kind
from nacs.data.clouds import read_off, read_xyz
from nacs.data.images import decode_images, stack_images
from nacs.data.splits import Samples, encode_labels
from nacs.errors import UserError

__all__ = ["SUFFIXES", "read_folder", "read_plain", "read_text", "readable_files"]

SUFFIXES: dict[str, Kind] = {
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".bmp": "image",
    ".gif": "image",
    ".webp": "image",
    ".tif": "image",
    ".tiff": "image",
    ".xyz": "points",
    ".off": "points",
    ".txt": "bytes",
}
PART_NAMES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def read_folder(root: Path, *, size: int | None = None) -> Samples:
    """Read images, point clouds or texts from a folder of class folders.

    Files with other suffixes and hidden files are left alone.

    Args:
        root: The folder.
        size: Scale images to squares of this many pixels.

    Raises:
        UserError: nothing to read, an empty class folder, files outside class folders,
            files of two kinds, one class only, or a broken file.
    """
    files = readable_files(root)
    if not files:
        raise UserError(
            f"{root}: expected class folders with files of type "
            f"{', '.join(SUFFIXES)}, got none"
        )
    kinds: list[Kind] = sorted({SUFFIXES[path.suffix.lower()] for path in files})
    if len(kinds) > 1:
        raise UserError(
            f"{root}: expected files of one kind, got {' and '.join(kinds)}"
        )
    labels, parts = zip(*(_place(path, root) for path in files), strict=True)
    _check_folders(root, set(labels))
    ids = [path.relative_to(root).as_posix() for path in files]
    targets, classes = encode_labels(list(labels))
    return Samples(
        name=str(root),
        kind=kinds[0],
        inputs=_read_files(files, ids, str(root), size),
        targets=targets,
        ids=np.array(ids),
        classes=classes,
        parts=_fixed(parts, root),
    )


def read_text(path: Path) -> Array:
    """Read a text as its UTF-8 bytes.

    Returns:
        (length,) uint8.

    Raises:
        UserError: the file cannot be read, is empty or is not UTF-8.
    """
    try:
        text = path.read_bytes()
        text.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected UTF-8 text, got {error}") from error
    if not text.strip():
        raise UserError(f"{path}: expected text, got an empty file")
    return np.frombuffer(text, dtype=np.uint8)


def readable_files(root: Path) -> list[Path]:
    """Files of known suffixes in a folder and those below it, sorted."""
    return [path for path in sorted(root.rglob("*")) if _readable(path, root)]


def read_plain(path: Path) -> Array:
    """Read a point cloud (.xyz, .off) or a text (.txt) as one sample.

    Raises:
        UserError: The file is broken.
    """
    readers: dict[str, Callable[[Path], Array]] = {
        ".xyz": read_xyz,
        ".off": read_off,
        ".txt": read_text,
    }
    return readers[path.suffix.lower()](path)


def _readable(path: Path, root: Path) -> bool:
    """Whether a file is ours to read: a known suffix, and nothing hidden about it."""
    hidden = any(
        part.startswith(".") or part == "__MACOSX"
        for part in path.relative_to(root).parts
    )
    return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()


def _place(path: Path, root: Path) -> tuple[str, int | None]:
    """Return the class of a file and its split, None where no folder says."""
    folders = path.relative_to(root).parts[:-1]
    labels = [folder for folder in folders if folder.lower() not in PART_NAMES]
    parts = [PART_NAMES[f.lower()] for f in folders if f.lower() in PART_NAMES]
    if not labels:
        raise UserError(
            f"{path}: label missing: expected the file inside a folder named after its "
            f"class, as in {root.name}/CLASS/{path.name}"
        )
    return labels[0], parts[0] if parts else None


def _check_folders(root: Path, labels: set[str]) -> None:
    """Raise UserError for a class folder without files, or for one class only."""
    for folder in sorted(root.iterdir()):
        name = folder.name
        plain = folder.is_dir() and not name.startswith((".", "__"))
        if plain and not os.access(folder, os.R_OK | os.X_OK):
            raise UserError(f"{folder}: may not be read; give yourself the right")
        if plain and name.lower() not in PART_NAMES and name not in labels:
            raise UserError(
                f"{folder}: expected files of a class, got an empty folder; fill or "
                "remove it"
            )
    if len(labels) < 2:
        raise UserError(
            f"{root}: expected at least 2 class folders, got {sorted(labels)}"
        )


def _fixed(parts: tuple[int | None, ...], root: Path) -> Array | None:
    """Return the splits the folders fix, or None where they fix none."""
    if all(part is None for part in parts):
        return None
    if any(part is None for part in parts) or 0 not in parts:
        raise UserError(
            f"{root}: expected every file in a folder train, val or test, and some in "
            "train, or no such folders at all"
        )
    return np.array(parts, dtype=np.int8)


def _read_files(
    files: list[Path], ids: list[str], where: str, size: int | None
) -> Array | list[Array]:
    """Read files of one kind."""
    kind = SUFFIXES[files[0].suffix.lower()]
    if kind == "image":
        named = ((path, str(path)) for path in files)
        return stack_images(decode_images(named, where, size), ids, where)
    samples = [read_plain(path) for path in files]
    widths = {sample.shape[1:] for sample in samples}
    if len(widths) > 1:
        found = sorted(width[0] for width in widths)
        raise UserError(f"{where}: expected equal columns in all files, got {found}")
    return samples
