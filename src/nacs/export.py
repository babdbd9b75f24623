"""A trained model as a program that runs without nacs.

    run folder → frozen model → torch.export, any batch and length → one .pt2 file

The file holds weights, graph and, as `facts.json`, how inputs were scaled. It is read
by `torch.export.load`, in Python or C++.
"""

import json
import logging
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nacs.attentive import AttentiveCircuit
from nacs.data.base import DataFacts
from nacs.errors import UserError
from nacs.frozen import freeze
from nacs.runs import written

__all__ = ["example", "export", "quiet", "save_program"]

TOLERANCE = 1e-4
"""Largest difference between the program's answers and the model's, in deviations of
the answers: float32 rounding of another order of sums."""


def example(
    facts: DataFacts, *, batch: int = 2, length: int = 12
) -> tuple[Tensor, ...]:
    """Inputs of the shape and type that a model of this data takes.

    Images alone; anything with a length comes with a mask, the last row one step
    shorter than the others.
    """
    random = torch.Generator().manual_seed(0)
    if facts.kind == "image":
        return (torch.randn(batch, *facts.shape, generator=random),)
    keep = torch.ones(batch, length, dtype=torch.bool)
    keep[-1, -1] = False
    if facts.kind in {"bytes", "tokens"}:
        return torch.randint(0, 2, (batch, length), generator=random), keep
    return torch.randn(batch, length, facts.shape[-1], generator=random), keep


def export(model: nn.Module, facts: DataFacts) -> ExportedProgram:
    """The model, frozen where it can be, as a program of any batch and length.

    Args:
        model: In evaluation mode.
        facts: Of the data it was trained on.

    Raises:
        UserError: If torch cannot express the model, or the program's answers are not
            the model's.
    """
    inputs = example(facts)
    if getattr(model, "context_tokenizer", None) is not None:
        raise UserError(
            "a circuit that is written from a context of its own is another with every "
            "context, so it has no program; freeze it for one, in Python: "
            "export(nacs.freeze(model, context, packed=False), facts)."
        )
    wanted = model(*inputs).detach()
    open_circuit = isinstance(model, AttentiveCircuit) and (
        model.config.generator != "unconditional" or model.config.evaluation == "sample"
    )
    if not open_circuit:
        model = freeze(model, sparse=False, packed=False)  # for other machines
    batch, length = Dim("batch", min=1), Dim("length", min=1)
    dynamic = ({0: batch},)
    if len(inputs) == 2:
        dynamic = ({0: batch, 1: length}, {0: batch, 1: length})
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(model, inputs, dynamic_shapes=dynamic)
    except Exception as error:  # torch raises a dozen kinds
        first = str(error).partition("\n")[0]
        raise UserError(
            f"torch.export cannot express this model for any batch and length: {first}"
        ) from error
    scale = wanted.std().clamp(min=1e-6)
    for part in (inputs, tuple(each[:1] for each in inputs)):
        off = (program.module()(*part) - wanted[: len(part[0])]).abs().max() / scale
        if not off <= TOLERANCE:
            raise UserError(
                f"the exported program differs from the model by {off.item():.1e} "
                f"deviations, more than {TOLERANCE}; nothing was written."
            )
    return program


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Nothing of what exporters print, warn of and log, for their own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def save_program(path: Path, program: ExportedProgram, facts: DataFacts) -> None:
    """Write a program and how its inputs are scaled, in one step.

    Raises:
        UserError: If the disk is full or the folder cannot be written.
    """
    told = {"facts.json": json.dumps(asdict(facts))}
    held = BytesIO()  # because torch ends the process where it finds the disk full
    with quiet():
        torch.export.save(program, held, extra_files=told)
    with written(path) as beside:
        beside.write_bytes(held.getbuffer())
