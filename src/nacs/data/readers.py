"""What people have on disk: one function that picks the reader by the path."""

from pathlib import Path

import numpy as np

from nacs.data.folders import read_folder
from nacs.data.nlvr import read_nlvr
from nacs.data.npz import read_npz
from nacs.data.splits import Samples
from nacs.data.tables import read_csv, read_jsonl, read_parquet
from nacs.errors import UserError

__all__ = ["read"]

TABLES = {
    ".csv": read_csv,
    ".json": read_nlvr,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
PACKED = {".xz", ".gz"}


# What float32 cannot hold becomes infinite, and is then refused with its place.
@np.errstate(over="ignore", invalid="ignore")
def read(path: Path, *, size: int | None = None, labelled: bool = True) -> Samples:
    """Read samples from a folder or a file.

    Args:
        path: A folder of class folders (images, .xyz, .off, .txt), or a file .npz,
            .csv, .jsonl, NLVR's .json (these three also .xz or .gz) or .parquet.
        size: Scale image files to squares of this many pixels.
        labelled: False ignores labels in a file, and needs none.

    Raises:
        UserError: the path is missing or of an unknown type, or what the reader found.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        return read_folder(path, size=size)
    if path.suffix.lower() == ".npz":
        return read_npz(path, size=size, labelled=labelled)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    plain = suffixes[:-1] if suffixes and suffixes[-1] in PACKED else suffixes
    packed = len(plain) != len(suffixes)
    kind = plain[-1] if plain else ""
    if kind not in TABLES or (packed and kind == ".parquet"):
        raise UserError(
            f"{path}: unknown type; expected a folder of class folders, or a file "
            ".npz, .csv, .jsonl or .parquet"
        )
    return TABLES[kind](path, labelled=labelled)
