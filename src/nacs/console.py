"""Options in, figures out: what the verbs of the command line share."""

import json
import re
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import tyro

from nacs.errors import UserError

__all__ = ["first_look", "parse", "say"]


def parse(kind: type[Any], arguments: list[str], verb: str, example: str) -> Any:
    """Options of one verb; its help shows the example."""
    description = f"{kind.__doc__}\n\nexample:\n  {example}"
    complaint = StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                kind, prog=f"nacs {verb}", args=arguments, description=description
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_one_line(complaint.getvalue(), verb)) from None


def _one_line(complaint: str, verb: str) -> str:
    """Tyro's framed complaint without its frame and its first line, the title."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", complaint).strip()
    words = re.sub(r"[─-╿]+|-{3,}", " ", plain.partition("\n")[2] or plain).split()
    return f"{' '.join(words)} (see nacs {verb} --help)"


def say(values: dict[str, Any], as_json: bool) -> None:
    """Print figures as a table, or as JSON."""
    if as_json:
        print(json.dumps(values, indent=2))
        return
    width = max(map(len, values), default=0)
    for name, value in values.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        print(f"{name.ljust(width)}  {shown}")


def first_look(kind: type[Any], arguments: list[str], verb: str) -> Any:
    """The options of `kind`; those it does not know are left for later."""
    complaint = StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(
                kind, prog=f"nacs {verb}", args=arguments, return_unknown_args=True
            )[0]
    except SystemExit:
        told = _one_line(complaint.getvalue(), verb)
        if "Missing value" in told and arguments:
            told = f"{told}; give the data before the options"
        raise UserError(told) from None
