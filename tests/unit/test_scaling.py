"""The formulas of docs/scaling.md, on sizes that nobody measured."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import scaling
import scaling_costs
from nacs import native
from nacs.attentive import AttentiveCircuit, modulated
from scaling_costs import Sizes, flops, kept, parameters
from scaling_plans import Device, by_modules, fully_sharded, heard, table_4
from scaling_tables import blocks

UNEVEN = Sizes(
    modules=90,
    tokens=70,
    width=96,
    layers=3,
    code=80,
    signature=24,
    heads=2,
    wide=64,
    hidden=112,
    edge=32,
    outputs=5,
    classes=7,
    batch=2,
)


def step(model, tokens):
    model.zero_grad()
    model.execute(model.design(), tokens).sum().backward()


def circuit():
    model = AttentiveCircuit(scaling.config_of(UNEVEN))
    model.tokenizer = torch.nn.Identity()
    return model


def test_work_and_weights_are_those_counted():
    model = circuit().to("meta")
    tokens = torch.randn(2, 70, 96, device="meta", requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step(model, tokens)
    assert flops(UNEVEN) == counter.get_total_flops()
    assert sum(parameters(UNEVEN)) == sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize("fewest", [0, 2**17])
def test_what_is_kept_is_nearly_that_counted(fewest, monkeypatch):
    """The statistics of LayerNorms and the read-outs' own are left out."""
    if native.level() == "off" and not fewest:
        pytest.skip("nothing is compiled")
    for module in (modulated, scaling_costs):
        monkeypatch.setattr(module, "FEWEST", fewest)
    model = circuit().float()
    tokens = torch.randn(2, 70, 96, dtype=torch.float32, requires_grad=True)
    found = scaling.kept_bytes(model, lambda: step(model, tokens))
    assert 0.93 * found < 4 * kept(UNEVEN) < found


def test_an_exponent_is_found():
    rows = [{"sizes": {"width": n}, "seconds": 3 * n**1.5} for n in (1, 4, 8, 32)]
    rows[0]["seconds"] = 99.0  # below the range
    slope, off = scaling.fit(rows, "width", "seconds", 4)
    assert slope == pytest.approx(1.5)
    assert off == pytest.approx(1)


def test_few_edges_that_cross_are_few_messages():
    z = table_4(10**4, 64)
    assert heard(table_4(10**4), 4, None) == 7500
    assert heard(z, 4, 0.0) == 0
    # A module of degree 1 on each of 10⁴ devices hears one other.
    assert heard(table_4(10**4, 1), 10**4, 1.0) == pytest.approx(1)
    assert heard(z, 4, 0.001) == pytest.approx(160, rel=0.02)
    assert heard(z, 4, None) == pytest.approx(7500)
    device = Device()
    few, many = (by_modules(z, 64, device, share) for share in (0.1, None))
    assert few.received < many.received
    assert few.activations < many.activations


def test_a_share_of_the_weights_is_the_share_of_their_memory():
    """Of n devices each has 1/n, and the modules' and a layer's whole beside it."""
    z, device = table_4(10**4), Device()
    own, shared = parameters(z)
    two, four = (fully_sharded(z, n, device).weights for n in (2, 4))
    assert two - four == 16 * (own + shared) / 4
    assert fully_sharded(z, 2, device).received == 12 * (own + shared) / 2


def test_the_tables_are_those_of_the_results():
    text = (scaling.RESULTS.parents[1] / "docs" / "scaling.md").read_text("utf-8")
    for block in blocks():
        assert block in text
