"""docs/results.md: every experiment that has been done, from its JSON alone."""

from pathlib import Path
from typing import Any

from nacs.experiments import NAMES, find
from nacs.runs import read_json

__all__ = ["page"]

OPENING = """# Results

Written by `nacs reproduce` from the JSON files beside it: do not edit. The questions of
Neural Attentive Circuits (NeurIPS 2022), asked again at a scale that fits the machine
named below each answer; the paper's own numbers are quoted, not comparable in size.
± is one standard deviation over seeds; [a, b] is the 95 % interval of a mean of
differences paired by seed.
"""


def page(results: Path) -> str:
    """The page of all results in a folder.

    Args:
        results: Of `NAME.json` and pictures; links are relative to its parent.
    """
    lines = [OPENING]
    for name in NAMES:
        path = results / f"{name}.json"
        if path.exists():
            lines += _section(name, read_json(path), results)
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, told: dict[str, Any], results: Path) -> list[str]:
    experiment = find(name)
    lines = [f"## {experiment.title}", "", f"Paper: {experiment.paper}", ""]
    lines += [experiment.tell(told["found"]).strip(), ""]
    pictures = sorted(results.glob(f"{name}*.png"))
    for picture in pictures:
        lines += [f"![{experiment.title}]({results.name}/{picture.name})", ""]
    said = [f"`{told['command']}`", told["machine"], f"{told['threads']} threads"]
    said += [f"torch {told['versions']['torch']}"]
    said += [f"revision {(told['revision'] or 'unknown')[:7]}"]
    return [*lines, f"_{'; '.join(said)}_", ""]
