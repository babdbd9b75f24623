"""Laws of the ODE behind a logit, and of the wiring of its circuit."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ncps.wirings import AutoNCP
from scipy.integrate import solve_ivp
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from nacs.neuronal import euler, exact, ncp, steady
from nacs.neuronal.sparse import Backbone, MaskedLinear, SensoryGate

numbers = st.floats(-10, 10).map(torch.tensor)
rates = st.floats(1e-6, 10).map(torch.tensor)
spans = st.floats(0, 5).map(torch.tensor)


@given(drive=numbers, rate=rates, first=spans, second=spans, start=numbers)
def test_exact_is_a_flow(drive, rate, first, second, start):
    """Waiting twice equals waiting once for as long."""
    halfway = exact(drive, rate, first, start)
    twice = exact(drive, rate, second, halfway)
    assert_close(twice, exact(drive, rate, first + second, start))


@given(drive=numbers, rate=rates, start=numbers, elapsed=spans)
def test_exact_nears_the_equilibrium_at_its_rate(drive, rate, start, elapsed):
    rest = steady(drive, rate, elapsed)
    gap = (exact(drive, rate, elapsed, start) - rest).abs()
    assert_close(
        gap, (start - rest).abs() * torch.exp(-rate * elapsed), rtol=1e-6, atol=1e-8
    )
    assert_close(exact(drive, rate, 50 / rate, start), rest)


@given(drive=st.floats(0, 10).map(torch.tensor), rate=rates, elapsed=spans)
def test_exact_from_zero_stays_between_zero_and_the_equilibrium(drive, rate, elapsed):
    logit = exact(drive, rate, elapsed)
    assert 0 <= logit <= drive / rate * (1 + 1e-12)


@given(drive=numbers, rate=st.floats(0.01, 3).map(torch.tensor), start=numbers)
def test_exact_equals_an_ode_solver(drive, rate, start):
    """To 1e-6, at the solver's own tolerance of 1e-9."""
    found = solve_ivp(
        lambda _, a: drive.item() - rate.item() * a,
        (0, 2),
        [start.item()],
        rtol=1e-9,
        atol=1e-9,
    ).y[0, -1]
    assert exact(drive, rate, 2.0, start).item() == pytest.approx(found, abs=1e-6)


@given(drive=numbers, rate=rates, start=numbers, elapsed=spans, steps=st.integers(1, 9))
def test_euler_has_the_closed_form_of_its_recursion(drive, rate, start, elapsed, steps):
    rest = drive / rate
    wanted = rest + (start - rest) * (1 - elapsed / steps * rate) ** steps
    assert_close(
        euler(drive, rate, elapsed, start, steps=steps), wanted, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("rate", [0.3, 1.0, 3.0])
def test_euler_converges_at_first_order(rate):
    drive, rate, elapsed = map(torch.tensor, (1.0, rate, 1.0))
    truth = exact(drive, rate, elapsed)
    errors = [
        (euler(drive, rate, elapsed, steps=n) - truth).abs() for n in (64, 128, 256)
    ]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.05)


def test_exact_keeps_precision_when_decay_is_slow():
    """At rate · elapsed = 1e-8 a float32 `1 - exp(-x)` rounds to zero."""
    drive, rate, elapsed = torch.tensor([1.0, 1e-6, 1e-2], dtype=torch.float32)
    assert_close(exact(drive, rate, elapsed), elapsed)


@pytest.mark.parametrize("solver", [exact, euler])
def test_solver_gradients(solver):
    inputs = [torch.rand(3, 4).add(0.1).requires_grad_() for _ in range(4)]
    assert torch.autograd.gradcheck(solver, inputs)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_wiring_is_that_of_autoncp(sparsity):
    theirs = AutoNCP(50, 10, sparsity_level=sparsity, seed=7)
    theirs.build(12)
    ours = ncp(12, 24, 16, 10, sparsity=sparsity, seed=7)
    among, heard = theirs.adjacency_matrix, theirs.sensory_adjacency_matrix
    assert heard is not None
    assert np.array_equal(ours.sensory, heard[:, 26:])
    assert np.array_equal(ours.inter, among[26:, 10:26])
    assert np.array_equal(ours.command, among[10:26, 10:26])
    assert np.array_equal(ours.motor, among[10:26, :10])
    assert not heard[:, :26].any()
    assert ours.synapses == theirs.synapse_count + theirs.sensory_synapse_count


def test_wiring_at_the_ends_of_sparsity():
    dense = ncp(6, 8, 4, 2, sparsity=0.0, seed=1)
    assert all(part.all() for part in (dense.sensory, dense.inter, dense.motor))
    sparse = ncp(6, 8, 4, 2, sparsity=0.99, seed=1)
    assert (sparse.motor != 0).any(0).all()
    assert (sparse.inter != 0).any(0).all()


def reach(function, inputs):
    """True where an input reaches an output: |Jacobian| > 0, as inputs × outputs."""
    return (jacobian(function, inputs) != 0).T


def test_no_synapse_no_influence():
    wiring = ncp(10, 12, 6, 4, sparsity=0.8, seed=3)
    masks = [torch.from_numpy(part != 0) for part in (wiring.sensory, wiring.inter)]
    layer = MaskedLinear(wiring.sensory)
    torch.nn.init.normal_(layer.weight)
    assert torch.equal(reach(layer, torch.randn(10)), masks[0])
    gate = SensoryGate(wiring)
    path = masks[0].int() @ masks[1].int() @ torch.from_numpy(wiring.motor != 0).int()
    assert not (path > 0).all()
    assert torch.equal(reach(gate, torch.randn(10)), path > 0)


def test_the_backbone_reaches_its_motors_by_the_wiring_alone():
    wiring = ncp(10, 12, 6, 2, sparsity=0.9, seed=3)
    backbone = Backbone(wiring)
    masks = [torch.from_numpy(p != 0).int() for p in (wiring.sensory, wiring.inter)]
    recurrent = torch.from_numpy(wiring.command != 0).int()
    commands = masks[0] @ masks[1]
    commands = commands + commands @ recurrent
    path = commands @ torch.from_numpy(wiring.motor != 0).int()

    def outputs(pair):
        drive, rate = backbone(
            backbone.from_queries(pair[:5]), backbone.from_keys(pair[5:])
        )
        return torch.stack([drive, rate])

    assert (path == 0).any()
    assert torch.equal(reach(outputs, torch.randn(10)), path > 0)


def test_motors_and_heads_are_one_layer():
    backbone = Backbone(ncp(10, 12, 6, 5, sparsity=0.5, seed=3))
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter)
    queries, keys = torch.randn(7, 12), torch.randn(7, 12)
    motor = backbone.motor(backbone.commands(queries, keys))
    drive, rate = backbone(queries, keys)
    assert_close(drive, backbone.drive(motor[:, :2]).squeeze(-1).sigmoid())
    plain = torch.nn.functional.softplus(backbone.rate(motor[:, 2:]).squeeze(-1))
    assert_close(rate, plain + 1e-6)
