"""An operation of our own: what torch is told of it, and what is not loaded for it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import nacs
from nacs.native.operation import Operation, operation


@operation("doubled_for_a_test")
def doubled(numbers: Tensor) -> Tensor:
    """Twice the numbers."""
    return 2 * numbers


@doubled.register_fake
def _like(numbers: Tensor) -> Tensor:
    return torch.empty_like(numbers)


doubled.register_autograd(
    lambda ctx, d_out: ctx.factor * d_out,
    setup_context=lambda ctx, inputs, output: setattr(ctx, "factor", 2),  # noqa: ARG005
)


def test_torch_differentiates_and_compiles_it():
    numbers = torch.randn(3, requires_grad=True)
    assert doubled.__doc__ == "Twice the numbers."
    torch.library.opcheck(doubled.overload, (numbers,))
    whole = torch.compile(
        lambda given: doubled(given) + 1, fullgraph=True, backend="aot_eager"
    )
    whole(numbers).sum().backward()
    torch.testing.assert_close(numbers.grad, torch.full((3,), 2.0))


def test_without_a_formula_a_gradient_is_refused():
    def halved(numbers: Tensor) -> Tensor:
        return numbers / 2

    once = Operation(halved, "halved_for_a_test")
    numbers = torch.randn(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="nacs::halved_for_a_test has no autograd"):
        once(numbers).sum().backward()


def test_the_first_call_does_not_load_torch_s_compiler():
    """It takes a second and 37 MB, of a program that answers in less."""
    code = (
        "import sys, torch; from nacs.native.modulate import geglu, plain_geglu;"
        "wide, scale = torch.randn(2, 3, 8), torch.randn(3, 4).requires_grad_();"
        "geglu(wide, scale).sum().backward() if sys.argv[1] else None;"
        "print('torch._dynamo' in sys.modules)"
    )
    source = str(Path(nacs.__file__).parent.parent)
    for call in ("", "call"):
        found = subprocess.run(
            [sys.executable, "-c", code, call],
            env={"PYTHONPATH": source},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == "False"
