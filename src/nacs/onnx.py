"""A trained model as an ONNX file: run by onnxruntime, without torch or nacs.

    torch.export program → torch.onnx → .onnx file, its answers checked → int8, measured

The file's metadata hold `facts.json`: how inputs were scaled, and the classes.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.export import ExportedProgram

from nacs.data.base import DataFacts
from nacs.errors import UserError
from nacs.export import example, quiet
from nacs.runs import written

__all__ = ["OnnxModel", "save_int8", "save_onnx"]

TOLERANCE = 1e-5
"""Largest difference between the file's answers and the program's, in deviations of the
answers: float32 rounding, 30 times what it was for any model that was tried."""

TRIED = ((2, 12), (1, 40), (3, 1))
"""Batch and length of the inputs on which answers are compared."""


class OnnxModel(nn.Module):
    """An ONNX file, called like the model it was made from, as `evaluate` does.

    Args:
        path: Of a file that `save_onnx` or `save_int8` wrote.

    Raises:
        UserError: If onnxruntime is not installed, or cannot run the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        runtime = _imported()[1]
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # it raises what it would log
        with _refusals():
            self.session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        self.names = [each.name for each in self.session.get_inputs()]
        like = torch.zeros((), dtype=torch.float32)  # inputs are made of this type
        self.register_parameter("like", nn.Parameter(like))

    def forward(
        self,
        inputs: Tensor,
        keep: Bool[Tensor, "batch tokens"] | None = None,
        context: Tensor | None = None,  # noqa: ARG002
        context_keep: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """The file's answers.

        Args:
            inputs: As the model takes them, in float32, on the processor.
            keep: False where an input is padding; None where nothing is.
            context: Not used; part of every model's call.
            context_keep: Not used.
        """
        if keep is None:
            keep = torch.ones(inputs.shape[:2], dtype=torch.bool)
        given = zip(self.names, (inputs.numpy(), keep.numpy()), strict=False)
        with _refusals():
            return torch.from_numpy(self.session.run(None, dict(given))[0])


def save_onnx(path: Path, program: ExportedProgram, facts: DataFacts) -> None:
    """Write a program as an ONNX file, in one step, once onnxruntime agrees with it.

    Batch and length are as free as the program's.

    Args:
        path: Ends in .onnx.
        program: From `nacs.export.export`.
        facts: Of the data the model was trained on; kept in the file's metadata.

    Raises:
        UserError: If ONNX cannot express the program, onnxruntime cannot run it or
            answers otherwise, or the file cannot be written.
    """
    _imported()
    axes = {0: "batch"} if facts.kind == "image" else {0: "batch", 1: "length"}
    shapes = (axes,) * len(example(facts))
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                dynamic_shapes=shapes,
                output_names=["answers"],
            )
    except Exception as error:  # torch raises a dozen kinds
        first = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(f"ONNX cannot express this model: {first}") from error
    assert made is not None
    made.model.metadata_props["facts.json"] = json.dumps(asdict(facts))
    with written(path) as beside:
        with quiet():
            made.save(str(beside))
        _check(OnnxModel(beside), program, facts)


def save_int8(path: Path, whole: Path, facts: DataFacts) -> None:
    """Write an ONNX file with the weights of its products in 8 bits, in one step.

    What they are multiplied with is brought to 8 bits as it comes (dynamic
    quantisation). The answers change: measure them.

    Args:
        path: Ends in .onnx.
        whole: A file that `save_onnx` wrote.
        facts: As given to `save_onnx`.

    Raises:
        UserError: If onnxruntime cannot run the file, or it cannot be written.
    """
    onnx, _ = _imported()
    from onnxruntime.quantization import quantize_dynamic

    with written(path) as beside:
        with quiet():
            # 7 bits of weights: with 8, sums overflow on processors without VNNI. One
            # scale a matrix: onnxruntime has no product with one a channel and head.
            quantize_dynamic(onnx.load(whole), beside, reduce_range=True)
        OnnxModel(beside)(*example(facts))


def _check(model: OnnxModel, program: ExportedProgram, facts: DataFacts) -> None:
    """Raise UserError unless the file answers as the program does."""
    run = program.module()
    for batch, length in TRIED:
        inputs = example(facts, batch=batch, length=length)
        with torch.no_grad():
            wanted, found = run(*inputs), model(*inputs)
        scale = wanted.std().clamp(min=1e-6)
        off = (found - wanted).abs().max() / scale
        if not off <= TOLERANCE:
            raise UserError(
                f"onnxruntime differs from the model by {off.item():.1e} deviations, "
                f"more than {TOLERANCE}; nothing was written."
            )


@contextmanager
def _refusals() -> Generator[None, None, None]:
    """What onnxruntime raises, as a UserError."""
    try:
        yield
    except Exception as error:  # its exceptions share no class of their own
        first = str(error).partition("\n")[0]
        raise UserError(f"onnxruntime cannot run this model: {first}") from error


def _imported() -> tuple[Any, Any]:
    """The packages onnx and onnxruntime."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # pyright: ignore
    except ImportError as error:
        raise UserError(
            f"`{error.name}` is not installed: pip install 'nacs[onnx]'."
        ) from error
    return onnx, onnxruntime
