"""Tables: series in long form (.csv, .parquet) and texts (.jsonl).

A series table has the columns id, time, one or more values, and `label` (a class) or
`target` (a number), equal in all rows of an id. An empty value, NA or NaN is missing.
A text a line is {"text": ..., "label": ...} or {"text": ..., "target": ...}.
Optional in both: `split` (train, val or test) and `group` (kept together).
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from nacs.data.base import Array
from nacs.data.splits import PARTS, Samples, encode_labels
from nacs.data.unpacking import BROKEN, check_growth, check_name, text_lines
from nacs.errors import UserError

__all__ = ["open_parquet", "read_csv", "read_jsonl", "read_parquet"]

MISSING = {"", "na", "nan", "null", "none"}
LABELS = {"label", "target", "split", "group"}
SPECIAL = {"id", "time", *LABELS}

Row: TypeAlias = dict[str, object]


def read_csv(path: Path, *, labelled: bool = True) -> Samples:
    """Read series in long form from a .csv file, which may be .xz or .gz.

    Raises:
        UserError: columns missing, a cell that is not a number, labels that differ
            within a series, or time that runs backwards; names the row of the file.
    """
    try:
        with text_lines(path) as lines:
            reader = csv.DictReader(lines, strict=True)
            reader.fieldnames = names = [x.strip() for x in reader.fieldnames or []]
            return _series(path, names, _csv_rows(path, reader), labelled)
    except (*BROKEN, csv.Error) as error:
        raise UserError(f"{path}: expected a CSV table, got {error}") from error


def read_parquet(path: Path, *, labelled: bool = True) -> Samples:
    """Read series in long form from a .parquet file (needs pyarrow).

    Raises:
        UserError: as for `read_csv`, or pyarrow is absent.
    """
    file = open_parquet(path)
    try:
        table = _parquet_rows(path, file)
    except UserError:
        raise
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        what = str(error).partition("\n")[0]
        raise UserError(f"{path}: expected a Parquet table, got {what}") from error
    names = list(table[0]) if table else []
    return _series(path, names, enumerate(table, 1), labelled)


def open_parquet(path: Path) -> Any:
    """A Parquet file, of which nothing but its end is read yet.

    Raises:
        UserError: pyarrow is absent, or it is no such file.
    """
    try:
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise UserError(
            f"{path}: Parquet needs pyarrow; run pip install 'nacs[data]'"
        ) from error
    try:
        return parquet.ParquetFile(path)
    except (ValueError, TypeError, NotImplementedError, OSError) as error:
        what = str(error).partition("\n")[0]
        raise UserError(f"{path}: expected a Parquet table, got {what}") from error


def _parquet_rows(path: Path, file: Any) -> list[Row]:
    """Return all rows, a few at a time, because two bytes can stand for many."""
    rows: list[Row] = []
    unpacked = 0
    for batch in file.iter_batches(1 << 14):
        unpacked += batch.nbytes
        check_growth(path, unpacked, path.stat().st_size)
        rows += cast("list[Row]", batch.to_pylist())
    return rows


def read_jsonl(path: Path, *, labelled: bool = True) -> Samples:
    """Read texts, one JSON object a line, from a file that may be .xz or .gz.

    Returns:
        Samples of kind bytes: each text as its UTF-8 bytes.

    Raises:
        UserError: a line is not an object, or has no text or label; names the row.
    """
    texts: list[Array] = []
    rows: list[tuple[int, Row]] = []
    try:
        with text_lines(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = _object(path, number, line)
                    row = row if labelled else _unlabelled(row)
                    texts.append(_text(path, number, row))
                    rows.append((number, row))
    except BROKEN as error:
        raise UserError(f"{path}: expected lines of JSON, got {error}") from error
    if not rows:
        raise UserError(f"{path}: expected lines of JSON, got an empty file")
    targets, classes = _targets(path, rows)
    return Samples(
        name=str(path),
        kind="bytes",
        inputs=texts,
        targets=targets,
        ids=np.array([_name(path, n, row.get("id", n)) for n, row in rows]),
        classes=classes,
        parts=_parts(path, rows),
        groups=_groups(path, rows),
    )


def _unlabelled(row: Row) -> Row:
    """A row without its label and split; its target is 0."""
    return {k: v for k, v in row.items() if k not in LABELS} | {"target": 0}


def _csv_rows(
    path: Path, reader: "csv.DictReader[str]"
) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield rows with the line they end on."""
    for row in reader:
        if None in row or None in row.values():
            raise UserError(
                f"{path}: row {reader.line_num}: expected "
                f"{len(reader.fieldnames or [])} cells"
            )
        yield reader.line_num, dict(row)


def _series(
    path: Path, names: Sequence[str], rows: Iterable[tuple[int, Row]], labelled: bool
) -> Samples:
    """Gather the rows of each id, in order of first appearance."""
    if not labelled:
        names = [*(name for name in names if name not in LABELS), "target"]
        rows = ((number, _unlabelled(row)) for number, row in rows)
    again = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if again is not None or "" in names:
        what = "one without" if again is None else f"two of the name {again}"
        raise UserError(
            f"{path}: expected a column a name, got {what}; name it or leave it out"
        )
    values = [name for name in names if name not in SPECIAL]
    required = ["id", "time"]
    absent = [name for name in required if name not in names]
    if absent or not values or not {"label", "target"} & set(names):
        raise UserError(
            f"{path}: expected the columns id, time, one or more values, and label or "
            f"target, got {', '.join(names) or 'none'}"
        )
    series: dict[str, list[list[float]]] = {}
    heads: dict[str, tuple[int, Row]] = {}
    for number, row in rows:
        if _is_absent(row["id"]):
            raise UserError(f"{path}: row {number}: id missing")
        name = _name(path, number, row["id"])
        numbers = [_number(path, number, row, key) for key in ("time", *values)]
        earlier = series.setdefault(name, [])
        _check_row(path, number, numbers[0], earlier[-1][0] if earlier else -math.inf)
        _check_constant(path, number, row, heads.setdefault(name, (number, row))[1])
        earlier.append(numbers)
    if not series:
        raise UserError(f"{path}: expected rows, got none")
    firsts = list(heads.values())
    targets, classes = _targets(path, firsts)
    return Samples(
        name=str(path),
        kind="series",
        inputs=[np.array(rows, dtype=np.float64) for rows in series.values()],
        targets=targets,
        ids=np.array(list(series)),
        classes=classes,
        columns=tuple(values),
        parts=_parts(path, firsts),
        groups=_groups(path, firsts),
    )


def _check_row(path: Path, number: int, time: float, before: float) -> None:
    """Raise UserError for a time that is missing or earlier than the last."""
    if math.isnan(time):
        raise UserError(f"{path}: row {number}: time missing")
    if time < before:
        raise UserError(
            f"{path}: row {number}: time runs backwards, {time:g} after {before:g}; "
            "sort the rows of each id by time"
        )


def _check_constant(path: Path, number: int, row: Row, first: Row) -> None:
    """Raise UserError where a series changes its label, split or group."""
    for key in ("label", "target", "split", "group"):
        if row.get(key) != first.get(key):
            raise UserError(
                f"{path}: row {number}: expected {key} {first.get(key)!r} as in the "
                f"first row of id {row['id']}, got {row.get(key)!r}"
            )


def _number(path: Path, number: int, row: Row, key: str) -> float:
    """Return a cell as a number, NaN where it is missing."""
    cell = row[key]
    if _is_missing(cell):
        return math.nan
    try:
        value = float(str(cell))
    except ValueError as error:
        raise UserError(
            f"{path}: row {number}: expected a number in column {key}, got {cell!r}"
        ) from error
    if math.isinf(value):
        raise UserError(f"{path}: row {number}: column {key} is infinite")
    return value


def _name(path: Path, number: int, cell: object) -> str:
    """Return an id, a group or a label, which may not be endless."""
    return check_name(f"{path}: row {number}", str(cell))


def _is_missing(cell: object) -> bool:
    """Whether a cell means that nothing was there."""
    return cell is None or str(cell).strip().lower() in MISSING


def _is_absent(cell: object) -> bool:
    """Whether a name is not there; unlike a number, it may well be "none"."""
    return cell is None or str(cell).strip().lower() in ("", "nan")


def _object(path: Path, number: int, line: str) -> Row:
    """Parse one line as a JSON object."""
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: row {number}: expected JSON, got {error}") from error
    if not isinstance(row, dict):
        raise UserError(f'{path}: row {number}: expected {{"text": ..., "label": ...}}')
    return cast("Row", row)


def _text(path: Path, number: int, row: Row) -> Array:
    """Return the text of a row as bytes."""
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{path}: row {number}: text missing; expected a string")
    # "replace", because JSON may escape half a surrogate pair, which UTF-8 has not
    return np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)


def _targets(
    path: Path, rows: Sequence[tuple[int, Row]]
) -> tuple[Array, tuple[str, ...]]:
    """Return classes from `label`, or numbers from `target`."""
    if "target" in rows[0][1]:
        numbers = [_target(path, number, row) for number, row in rows]
        return np.array(numbers, dtype=np.float32), ()
    labels: list[str] = []
    for number, row in rows:
        label = row.get("label")
        if _is_absent(label) or not isinstance(label, str | int):
            raise UserError(
                f"{path}: row {number}: label missing; expected a word or an integer, "
                f"got {label!r}"
            )
        labels.append(_name(path, number, label).strip())
    targets, classes = encode_labels(labels)
    if len(classes) < 2:
        raise UserError(f"{path}: expected at least 2 labels, got only {labels[0]!r}")
    return targets, classes


def _target(path: Path, number: int, row: Row) -> float:
    """Return a regression target, which may not be missing."""
    value = _number(path, number, {"target": row.get("target")}, "target")
    if math.isnan(value):
        raise UserError(f"{path}: row {number}: target missing")
    return value


def _parts(path: Path, rows: Sequence[tuple[int, Row]]) -> Array | None:
    """Return the splits of a `split` column, or None without one."""
    if "split" not in rows[0][1]:
        return None
    for number, row in rows:
        if row.get("split") not in PARTS:
            raise UserError(
                f"{path}: row {number}: expected split to be train, val or test, got "
                f"{row.get('split')!r}"
            )
    return np.array([PARTS.index(str(row["split"])) for _, row in rows], dtype=np.int8)


def _groups(path: Path, rows: Sequence[tuple[int, Row]]) -> Array | None:
    """Return the values of a `group` column, or None without one."""
    if "group" not in rows[0][1]:
        return None
    for number, row in rows:
        if _is_absent(row.get("group")):
            raise UserError(f"{path}: row {number}: group missing")
    return np.array([_name(path, number, row["group"]) for number, row in rows])
