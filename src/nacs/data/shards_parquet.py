"""Parquet files of series, a row each, whose columns hold lists.

    row group → float64 columns, a few groups kept → the rows that a batch asks for

The columns are those of the CSV reader: time and values as lists of equal lengths, and
label or target, split, group, id as plain ones. Without `time` the steps are 0, 1, 2;
a value that is no list holds for the whole series. Nothing is missing but as null.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from nacs.data.base import Array
from nacs.data.shards import Index, part_of
from nacs.data.splits import Samples, check_sample
from nacs.data.stored import Stored
from nacs.data.tables import LABELS, SPECIAL, open_parquet
from nacs.errors import UserError

__all__ = ["ParquetSeries", "has_lists", "index_parquet"]

KEPT = 128 * 2**20
"""Bytes of decoded row groups that are kept and shuffled together, at least one."""

LARGEST = 2**30
"""Bytes of one decoded row group."""


def has_lists(path: Path) -> bool:
    """Whether a file has series in its rows, not a time a row."""
    try:
        schema = open_parquet(path).schema_arrow
    except UserError:
        return False  # for the other reader to complain about
    return any(map(_is_list, schema.types))


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_list(kind) or types.is_large_list(kind) or _is_fixed(kind)


def _is_fixed(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_fixed_size_list(kind)


class ParquetSeries:
    """Series in Parquet files by row group and row; a `Source`.

    Args:
        paths: The files.
        groups: (row groups, 2) file and number within the file.
        places: (3, samples) row group, row within it, and length.
        columns: Names of the values.
        largest: Bytes of the largest row group, decoded.
    """

    def __init__(
        self,
        paths: list[Path],
        groups: list[tuple[int, int]],
        places: Array,
        columns: tuple[str, ...],
        largest: int,
    ) -> None:
        self.paths, self.groups, self.places = paths, groups, places
        self.columns, self.blocks = columns, places[0]
        self.window = min(64, max(1, KEPT // max(1, largest)))
        self.longest = int(places[2].max())
        self.ragged = bool((places[2] != self.longest).any())
        self._kept: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what was read, for a process that reads for itself."""
        return {**self.__dict__, "_kept": OrderedDict()}

    def read(self, rows: Array) -> list[Array]:
        """Read series: (time, 1 + columns) float64 each, in the order of `rows`.

        Raises:
            UserError: a file that went or broke, lists of unequal lengths, a time that
                runs backwards.
        """
        found: list[Array] = [np.zeros(0)] * len(rows)
        block, inside, _ = self.places[:, rows]
        for number in np.unique(block):
            group = self._group(int(number))
            for at in np.flatnonzero(block == number):
                found[at] = self._one(int(number), group, int(inside[at]))
        return found

    def _one(self, number: int, group: dict[str, Any], row: int) -> Array:
        where = f"{self.paths[self.groups[number][0]]}: row {group['first'] + row + 1}"
        parts = {name: _cell(group[name], row) for name in self.columns}
        lengths = {len(each) for each in parts.values() if each.ndim}
        time = _cell(group["time"], row) if "time" in group else None
        lengths |= set() if time is None else {len(time)}
        if len(lengths) != 1:
            raise UserError(
                f"{where}: expected lists of equal lengths, got "
                f"{', '.join(map(str, sorted(lengths)))}"
            )
        length = lengths.pop()
        steps = np.arange(length, dtype=np.float64) if time is None else time
        values = [np.broadcast_to(each, length) for each in parts.values()]
        sample = np.stack([steps, *values], axis=1)
        check_sample(where, "series", sample)
        return sample

    def _group(self, number: int) -> dict[str, Any]:
        """The columns of a row group, from memory if it was read a moment ago."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        which, inside = self.groups[number]
        file = open_parquet(self.paths[which])
        names = [
            *(["time"] if "time" in file.schema_arrow.names else []),
            *self.columns,
        ]
        group = _decoded(self.paths[which], file, inside, names)
        group["first"] = _first_row(file, inside)
        if len(self._kept) >= self.window:
            self._kept.popitem(last=False)
        self._kept[number] = group
        return group


def _cell(column: Any, row: int) -> Array:
    """A list, or a number that stands for all steps."""
    if isinstance(column, tuple):
        ends, values = column
        return values[ends[row] : ends[row + 1]]
    return column[row]


def _first_row(file: Any, group: int) -> int:
    return sum(file.metadata.row_group(i).num_rows for i in range(group))


def _decoded(path: Path, file: Any, group: int, names: list[str]) -> dict[str, Any]:
    """Columns of a row group as float64: (ends, values) of lists, else the values."""
    table = _table(path, file, group, names)
    found: dict[str, Any] = {}
    for name in names:
        column = table.column(name).combine_chunks()
        try:
            found[name] = _numbers(column)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise UserError(
                f"{path}: expected numbers, or lists of numbers, in column {name}, got "
                f"{column.type}"
            ) from error
    return found


def _numbers(column: Any) -> Any:
    import pyarrow as arrow

    if not _is_list(column.type):
        return column.cast(arrow.float64()).to_numpy(zero_copy_only=False)
    if _is_fixed(column.type):
        column = column.cast(arrow.list_(column.type.value_type))
    values = column.values.cast(arrow.float64()).to_numpy(zero_copy_only=False)
    return column.offsets.to_numpy(), values


def _table(path: Path, file: Any, group: int, names: list[str]) -> Any:
    try:
        return file.read_row_group(group, columns=names, use_threads=False)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        what = str(error).partition("\n")[0]
        raise UserError(f"{path}: row group {group + 1} is broken: {what}") from error


def index_parquet(paths: list[Path], *, name: str) -> Samples:
    """Read labels and lengths of the series in Parquet files.

    Raises:
        UserError: a broken file, columns missing or different, a label missing.
    """
    index, groups, largest = Index(), list[tuple[int, int]](), 0
    columns: tuple[str, ...] = ()
    for number, path in enumerate(paths):
        file = open_parquet(path)
        now = _columns(path, file.schema_arrow)
        if number and now != columns:
            raise UserError(
                f"{path}: expected the columns {', '.join(columns)} as in {paths[0]}, "
                f"got {', '.join(now)}"
            )
        columns = now
        for group in range(file.num_row_groups):
            largest = max(largest, _check_size(path, file, group))
            _index_group(path, file, group, len(groups), index)
            groups.append((number, group))
    fields = index.fields(name)
    places = np.array([np.frombuffer(each, np.int64) for each in index.places])
    source = ParquetSeries(paths, groups, places, columns, largest)
    inputs = Stored(source, np.arange(len(fields["ids"])))
    return Samples(name=name, kind="series", inputs=inputs, columns=columns, **fields)


def _columns(path: Path, schema: Any) -> tuple[str, ...]:
    """Names of the values, if the rest is as it should be."""
    names = list(schema.names)
    values = tuple(each for each in names if each not in SPECIAL)
    lists = [each for each in names if _is_list(schema.field(each).type)]
    if not values or not lists or not {"label", "target"} & set(names):
        raise UserError(
            f"{path}: expected a row a series: values in columns of lists, and a "
            f"column label or target, got {', '.join(names) or 'no columns'}"
        )
    return values


def _check_size(path: Path, file: Any, group: int) -> int:
    """Bytes of a row group once it is read."""
    told = file.metadata.row_group(group)
    count = 8 * sum(told.column(i).num_values for i in range(told.num_columns))
    if max(count, told.total_byte_size) > LARGEST:
        raise UserError(
            f"{path}: expected row groups of at most {LARGEST:,} bytes, got "
            f"{max(count, told.total_byte_size):,}; write smaller ones: "
            "row_group_size=1000"
        )
    return count


def _index_group(path: Path, file: Any, group: int, number: int, index: Index) -> None:
    import pyarrow.compute as compute

    schema, part = file.schema_arrow, part_of(path)
    plain = [each for each in ("id", *sorted(LABELS)) if each in schema.names]
    first = next(each for each in schema.names if _is_list(schema.field(each).type))
    table = _table(path, file, group, [*plain, first])
    lengths = compute.list_value_length(table.column(first)).to_pylist()  # pyright: ignore
    told = {each: table.column(each).to_pylist() for each in plain}
    start = _first_row(file, group) + 1
    for row, length in enumerate(lengths):
        where = f"{path}: row {start + row}"
        if not length:
            raise UserError(f"{where}: expected a series in {first}, got none")
        known = {each: values[row] for each, values in told.items()}
        name = known.pop("id", None)
        known = known if part is None else {"split": part, **known}
        shown = f"{path.stem}:{start + row}" if name is None else str(name)
        index.add(where, shown, (number, row, length), known)
