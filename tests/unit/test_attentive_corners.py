"""Circuits where they are asked for more than an answer, or given too little."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call
from torch.testing import assert_close

from nacs.attentive import (
    AttentiveCircuit,
    drop_modules,
    eliminate_edges,
    freeze,
    presets,
)
from nacs.attentive.circuit import CircuitDesign, Modules
from nacs.attentive.effects import ranked_by_effect
from nacs.attentive.links import Links, importance
from nacs.attentive.priors import graph_loss
from nacs.data.base import Batch
from nacs.flops import multiply_adds
from nacs.graph import circuit_graph, graph_figures
from nacs.tokenizers import TokenizerConfig, build_tokenizer

TINY = presets.tiny()
IMAGES = torch.rand(3, 1, 8, 8, dtype=torch.float64)


def circuit(**changes):
    return AttentiveCircuit(replace(TINY, **changes)).eval()


@pytest.mark.parametrize("removed", [0.0, 0.8])
def test_a_frozen_circuit_has_the_graph_it_was_frozen_from(removed):
    model = eliminate_edges(circuit(prior="planted-partition"), removed)
    frozen = freeze(model)
    assert not torch.equal(model.links(), torch.ones(16, 16))
    order = importance(model.links()).sort().values
    assert_close(importance(frozen.links()).sort().values, order)
    assert circuit_graph(frozen).density == pytest.approx(circuit_graph(model).density)
    labelled = model.regulariser(rematch=False)
    assert_close(frozen.regulariser(rematch=False), labelled)
    batch = Batch(IMAGES, torch.zeros(3), None, None, None)
    found, wanted = graph_figures(frozen, batch), graph_figures(model, batch)
    assert found.keys() == wanted.keys()
    assert found["signature_spread"] == pytest.approx(wanted["signature_spread"])


def test_a_frozen_circuit_is_not_made_smaller():
    frozen = freeze(circuit())
    for act in (
        lambda: drop_modules(frozen, 4),
        lambda: eliminate_edges(frozen, 0.5),
        lambda: ranked_by_effect(frozen, lambda each: each(IMAGES).std(-1)),
    ):
        with pytest.raises(ValueError, match="the circuit it was frozen from smaller"):
            act()


def test_what_is_frozen_can_be_frozen_again_and_does_not_drop_modules():
    model = circuit(generator="conditional", module_dropout=0.9)
    once = freeze(model, IMAGES[:1])
    assert_close(freeze(once)(IMAGES), once(IMAGES))
    assert_close(once.train()(IMAGES), once.eval()(IMAGES))


@pytest.mark.parametrize("order", ["Importance", "randm", [1, 2, 3], [0.5] * 16])
def test_bad_calls_with_an_order(order):
    with pytest.raises(ValueError, match="`order` must"):
        drop_modules(circuit(), 4, order=order)
    with pytest.raises(ValueError, match="a whole number, got 4.5"):
        drop_modules(circuit(), 4.5)


def test_an_order_may_be_a_list():
    model = circuit()
    ranked = importance(model.links()).argsort(descending=True, stable=True)
    wanted = drop_modules(model, 4)(IMAGES)
    assert_close(drop_modules(model, 4, order=ranked.tolist())(IMAGES), wanted)
    assert not torch.equal(drop_modules(model, 4, order="reversed")(IMAGES), wanted)


@pytest.mark.parametrize("generator", ["conditional", "unconditional"])
def test_what_was_dropped_does_not_come_back(generator):
    model = drop_modules(circuit(generator=generator, kept=5), 3)
    assert model(IMAGES).isfinite().all()
    assert (model.config.kept or model.config.modules) == 3
    with pytest.raises(ValueError, match=r"must lie in \[1, 3\]"):
        drop_modules(model, 5)


def test_surgery_draws_nothing_and_what_stays_fixed_stays_so():
    model = circuit()
    model.tokenizer.requires_grad_(requires_grad=False)
    torch.manual_seed(3)
    wanted = torch.rand(())
    torch.manual_seed(3)
    smaller = drop_modules(model, 4)
    assert torch.equal(torch.rand(()), wanted)
    assert not any(each.requires_grad for each in smaller.tokenizer.parameters())
    assert all(each.requires_grad for each in smaller.propagators.parameters())


def test_a_loss_that_fails_leaves_the_model_in_training():
    model = circuit().train()
    with pytest.raises(ZeroDivisionError):
        ranked_by_effect(model, lambda _: torch.tensor(1 / 0))
    assert model.training


def test_edges_that_are_all_alike_are_not_eliminated():
    with pytest.raises(ValueError, match="all edges of a complete graph are alike"):
        eliminate_edges(AttentiveCircuit(presets.perceiver(TINY)), 0.5)


@pytest.mark.parametrize("readers", [15, 16])
def test_readers_are_not_dropped_with_the_processors(readers):
    group = Modules(None, None, torch.randn(16, 4))
    reading = Modules(None, None, torch.randn(readers, 4))
    design = CircuitDesign(reading, group, group)
    few = design.select(torch.arange(5), readers=True)
    assert few.inputs.states.shape == (readers, 4)
    assert few.processors.states.shape == (5, 4)
    sizes = {"wiring": "relay", "readers": readers, "module_dropout": 0.9}
    model = AttentiveCircuit(replace(TINY, **sizes, edges_removed=0.5)).train()
    for _ in range(5):
        assert model.design().inputs.states.shape[0] == readers
        model(IMAGES).sum().backward()
    conditional = circuit(wiring="relay", readers=readers, generator="conditional")
    assert eliminate_edges(drop_modules(conditional, 6), 0.5)(IMAGES).isfinite().all()


@pytest.mark.parametrize("assign", [True, False])
def test_the_prior_comes_back_from_where_there_are_no_numbers(assign):
    model = circuit(prior="scale-free")
    with torch.device("meta"):
        empty = AttentiveCircuit(model.config)
    if not assign:
        empty.to_empty(device="cpu")
        empty.prior.fill_(7)
    empty.load_state_dict(model.state_dict(), assign=assign)
    assert torch.equal(empty.prior, model.prior)
    assert_close(empty.regulariser(), model.regulariser())
    assert_close(empty.eval()(IMAGES), model(IMAGES))


def wide():
    torch.set_default_dtype(torch.float32)
    sizes = {"tokenizer": replace(TINY.tokenizer, width=128), "code": 128}
    model = circuit(**sizes, modules=64, width=128, hidden=512)
    frozen = freeze(model)
    packed = {n: p for n, p in frozen.named_modules() if hasattr(p, "packed")}
    assert packed, "nothing is packed"
    return frozen, packed, IMAGES.float()


@pytest.mark.parametrize("way", ["call", "in place", "replaced", "copy"])
def test_packed_weights_that_change_are_used_as_they_are(way):
    frozen, packed, images = wide()
    before = frozen(images)
    zeros = {f"{n}.weight": torch.zeros_like(p.weight) for n, p in packed.items()}
    if way == "call":
        changed = functional_call(frozen, zeros, (images,))
        assert torch.equal(frozen(images), before)
    else:
        frozen = copy.deepcopy(frozen) if way == "copy" else frozen
        for name, part in packed.items():
            part = frozen.get_submodule(name)
            if way == "replaced":
                part.weight = torch.nn.Parameter(zeros[f"{name}.weight"])
            else:
                part.weight.zero_()
        changed = frozen(images)
    assert not torch.allclose(changed, before)
    plain = freeze(frozen, packed=False)
    for name in packed:
        part = plain.get_submodule(name)
        part.packed = None
        part.weight.data.zero_()
    assert_close(changed, plain(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_places_of_half_precision_are_told_apart(kind):
    """1,000 and 1,001 are one number in bfloat16."""
    sizes = TokenizerConfig(kind="bytes", width=32)
    exact, half = build_tokenizer(sizes), build_tokenizer(sizes)
    half.load_state_dict(exact.state_dict())
    text = torch.zeros(1, 2000, dtype=torch.long)
    off = half.to(kind)(text)[0] - exact(text)[0]
    assert off.abs().max() < 0.05


@pytest.mark.parametrize("kind", ["points", "series"])
def test_waves_of_half_precision_are_those_of_the_numbers_given(kind):
    sizes = TokenizerConfig(kind=kind, width=32, features=0)
    tokenizer = build_tokenizer(sizes)
    given = torch.arange(150.0)[None, :, None]
    given = given.expand(-1, -1, 3) / 64 if kind == "points" else given
    tokens = tokenizer(given)[0]
    off = tokenizer.bfloat16()(given.bfloat16())[0] - tokens
    assert off.abs().mean() < 0.02 * tokens.abs().mean() + 0.02


def test_half_precision_has_gradients_and_probabilities():
    model = circuit(regulariser="kl", prior="scale-free").bfloat16().train()
    model.regulariser().backward()
    slopes = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(each.isfinite().all() for each in slopes)
    signatures = torch.randn(40, 16).bfloat16()
    sure = Links(0.25).bfloat16().log_probabilities(signatures, signatures)
    assert sure.diagonal().abs().max() < 1e-5
    same = torch.full((2, 2), 1.0)
    assert graph_loss(same, same, torch.arange(2), kind="kl", diagonal=True).isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "conditonal"}, "`generator` must be one of"),
        ({"graph": "learnd"}, "`graph` must be one of"),
        ({"wiring": "papr"}, "`wiring` must be one of"),
        ({"layers": 0}, "`layers` must be at least 1"),
        ({"truncation": 0.0}, "no module would hear another"),
        ({"generator": "conditional", "graph": "frozen"}, "writes graphs"),
    ],
)
def test_bad_calls_of_the_sizes(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": 0}, "`patch` must be at least 1"),
        ({"stages": 0}, "`stages` must be at least 1"),
        ({"positions": -2}, "`positions` must be at least 0"),
        ({"bands": -1}, "`bands` must be at least 0"),
        ({"size": (0, 0)}, "`size` must be positive"),
        ({"width": 4, "positions": 2, "stages": 4}, "must leave `width` 8 or more"),
    ],
)
def test_bad_calls_of_the_tokens(change, message):
    with pytest.raises(ValueError, match=message):
        TokenizerConfig(**change)


@pytest.mark.parametrize("keep", [torch.ones(2, 5), torch.ones(2, 4) > 0])
@pytest.mark.parametrize("kind", ["bytes", "points", "series"])
def test_bad_calls_with_a_mask(kind, keep):
    tokenizer = build_tokenizer(TokenizerConfig(kind=kind, width=32))
    columns = {"points": 3, "series": 1}.get(kind)
    given = torch.zeros(2, 5, columns) if columns else torch.zeros(2, 5).long()
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 5\) of torch.bool"):
        tokenizer(given, keep)


def test_a_conditional_circuit_is_asked_for_one_sample():
    told = TokenizerConfig(kind="bytes", width=32)
    model = circuit(generator="conditional", context=told)
    with pytest.raises(ValueError, match="links for every sample"):
        model.links()
    context = torch.zeros(2, 6, dtype=torch.long)
    with pytest.raises(ValueError, match="got 2 contexts and 3 samples"):
        model(IMAGES, context=context)
    assert multiply_adds(model, IMAGES[:2], None, context) > 0
    rival = presets.perceiver(model.config)
    assert AttentiveCircuit(rival)(IMAGES).shape == (3, 10)
    assert rival.generator == "unconditional"
