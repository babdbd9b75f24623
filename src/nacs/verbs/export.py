"""`nacs export`: a trained run as a program that needs no nacs."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from nacs.console import parse, say
from nacs.errors import UserError
from nacs.export import export, save_program
from nacs.runs import facts_of, load_run

__all__ = ["run"]


@dataclass
class Options:
    """Freeze a trained run and write it as one .pt2 file for torch.export.load."""

    run: Positional[Path]
    """A run folder."""

    out: Path | None = None
    """The file; RUN.pt2 if not given."""

    json: bool = False
    """Print JSON."""


def run(arguments: list[str]) -> None:
    """Freeze, check the numbers, write."""
    options = parse(Options, arguments, "export", "nacs export runs/demo")
    out = options.out or options.run.with_suffix(".pt2")
    if out.suffix != ".pt2":
        raise UserError(f"{out}: expected a file that ends in .pt2.")
    if out.exists():
        raise UserError(f"{out}: is there already; give another --out.")
    model, config = load_run(options.run)
    facts = facts_of(config)
    save_program(out, export(model, facts), facts)
    say({"program": str(out), "bytes": out.stat().st_size}, options.json)
