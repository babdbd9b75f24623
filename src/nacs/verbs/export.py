"""`nacs export`: a trained run as a program that needs no nacs."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from torch import nn
from torch.export import ExportedProgram
from tyro.conf import Positional

from nacs.console import parse, say
from nacs.data.again import own_data
from nacs.data.base import DataFacts
from nacs.errors import UserError
from nacs.evaluation import evaluate
from nacs.export import export, save_program
from nacs.runs import facts_of, load_run

__all__ = ["run"]


@dataclass
class Options:
    """Freeze a trained run and write it as one file that runs without nacs."""

    run: Positional[Path]
    """A run folder."""

    format: Literal["pt2", "onnx"] = "pt2"
    """For torch.export.load, or for onnxruntime. The latter needs the extra `onnx`."""

    int8: bool = False
    """Weights of an ONNX file in 8 bits; says what that changes on the test split."""

    out: Path | None = None
    """The file; RUN.pt2 or RUN.onnx if not given."""

    json: bool = False
    """Print JSON."""


def run(arguments: list[str]) -> None:
    """Freeze, check the numbers, write."""
    options = parse(Options, arguments, "export", "nacs export runs/demo --format onnx")
    ending = f".{options.format}"
    run = options.run.resolve()  # "." has no name
    out = options.out or run.with_name(run.name + ending)
    if out.suffix != ending:
        raise UserError(
            f"{out}: expected a file that ends in {ending}; --format says which."
        )
    if out.exists():
        raise UserError(f"{out}: is there already; give another --out.")
    if options.int8 and options.format != "onnx":
        raise UserError("--int8 is for ONNX files; give --format onnx with it.")
    model, config = load_run(options.run)
    facts = facts_of(config)
    program, figures = export(model, facts), {}
    if options.int8:
        figures = _write_int8(out, program, model, facts)
    elif options.format == "onnx":
        from nacs.onnx import save_onnx

        save_onnx(out, program, facts)
    else:
        save_program(out, program, facts)
    say({"program": str(out), "bytes": out.stat().st_size} | figures, options.json)


def _write_int8(
    out: Path, program: ExportedProgram, model: nn.Module, facts: DataFacts
) -> dict[str, Any]:
    """Write the file; returns its size and test figures before and after."""
    from nacs.onnx import OnnxModel, save_int8, save_onnx

    with TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        save_onnx(whole, program, facts)
        save_int8(out, whole, facts)
        size = whole.stat().st_size
    try:
        dataset = own_data(facts)
        before = evaluate(model, dataset.test)
        after = evaluate(OnnxModel(out), dataset.test)
    except (UserError, OSError, ValueError) as error:
        return {"float32_bytes": size, "before": None, "after": f"not known: {error}"}
    return {"float32_bytes": size, "before": before, "after": after}
