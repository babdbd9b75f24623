"""`nacs demo`: the main job on real data."""

from dataclasses import dataclass
from pathlib import Path

from nacs.console import parse
from nacs.demo import demo

__all__ = ["run"]


@dataclass
class Options:
    """Train, evaluate and shrink a circuit on real digits, beside a Perceiver IO."""

    out: Path = Path("runs/demo")
    """Run folder."""

    seed: int = 0
    """Of weights, batches and dropped modules."""

    epochs: int = 0
    """0 for the demo's own number."""

    module_dropout: float | None = None
    """Largest share of modules dropped per training batch; the preset's by default."""


def run(arguments: list[str]) -> None:
    """Train, evaluate, shrink and draw."""
    options = parse(Options, arguments, "demo", "nacs demo --seed 1")
    demo(
        options.out,
        seed=options.seed,
        epochs=options.epochs,
        module_dropout=options.module_dropout,
    )
