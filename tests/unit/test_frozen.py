"""A frozen circuit is the live one, with less to compute."""

import statistics
from dataclasses import replace

import pytest
import torch

from nacs.attentive import (
    AttentiveCircuit,
    drop_modules,
    eliminate_edges,
    freeze,
    presets,
    sparse,
)
from nacs.attentive.frozen import linked_together
from nacs.attentive.sparse import edge_attention, edge_list
from nacs.models import count_parameters
from nacs.native import level
from nacs.tokenizers import TokenizerConfig

WIRINGS = ("paper", "released", "relay")
TINY = 1e-12
"""Float64 rounding of a circuit this small; measured differences are below 2e-16."""


def circuit(wiring="paper", **changes):
    readers = 6 if wiring == "relay" else 0
    sizes = replace(presets.tiny(), wiring=wiring, readers=readers, **changes)
    model = AttentiveCircuit(sizes).eval()
    with torch.no_grad():  # codes and biases that are not near their start
        for values in model.parameters():
            values += 0.3 * torch.randn_like(values)
    return model


def images(count=3):
    return torch.randn(count, 1, 8, 8)


def surgeries(model):
    yield model
    yield drop_modules(model, 7)
    yield eliminate_edges(model, 0.6)
    yield eliminate_edges(drop_modules(model, 9), 0.3)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("evaluation", ["expected", "threshold"])
def test_the_same_numbers(wiring, evaluation):
    pictures = images()
    for model in surgeries(circuit(wiring, evaluation=evaluation)):
        torch.testing.assert_close(
            freeze(model)(pictures), model(pictures), rtol=0, atol=TINY
        )


@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_context_fixes_one_circuit_for_many_inputs(wiring):
    context = TokenizerConfig(kind="series", width=32, features=2)
    pictures, told = images(), torch.randn(1, 5, 3)
    keep = torch.tensor([[True, True, True, False, True]])
    for model in surgeries(circuit(wiring, generator="conditional", context=context)):
        frozen = freeze(model, told, keep)
        live = model(
            pictures, None, told.expand(3, -1, -1), keep.expand(len(pictures), -1)
        )
        torch.testing.assert_close(frozen(pictures), live, rtol=0, atol=TINY)


def test_padding_is_still_not_read():
    series = TokenizerConfig(kind="series", width=32, features=2)
    model = circuit(tokenizer=series)
    values, keep = torch.randn(2, 6, 3), torch.ones(2, 6, dtype=torch.bool)
    keep[0, 4:] = False
    values[0, 4:] = torch.nan
    frozen = freeze(model)
    torch.testing.assert_close(
        frozen(values, keep), model(values, keep), rtol=0, atol=TINY
    )
    torch.testing.assert_close(
        frozen(values[:1], keep[:1]), frozen(values[:1, :4]), rtol=0, atol=TINY
    )


@pytest.mark.parametrize("graph", ["learned", "complete"])
@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize("edge_heads", [1, 2])
def test_every_kind_of_layer(graph, modulated, edge_heads):
    model = circuit(
        graph=graph, modulated=modulated, edge_heads=edge_heads, layer_scale=0.5
    )
    pictures = images()
    torch.testing.assert_close(
        freeze(model)(pictures), model(pictures), rtol=0, atol=TINY
    )


def test_the_live_model_stays_as_it_is():
    model = circuit().train()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    frozen = freeze(model)
    assert model.training
    assert not frozen.training
    assert model.state_dict().keys() == before.keys()
    assert all(p.requires_grad for p in model.read_in.parameters())
    assert not any(p.requires_grad for p in frozen.parameters())


def test_nothing_of_codes_and_signatures_is_computed_again():
    model = circuit()
    frozen = freeze(model)
    names = [name for name, _ in frozen.named_parameters()]
    assert not [n for n in names if "code_to_scale" in n or "generator" in n]
    assert count_parameters(frozen) < count_parameters(model)
    with torch.no_grad():  # what is left of signatures cannot matter
        for layer in frozen.propagators:
            layer.attention.links.bandwidth.fill_(1e-9)
        frozen.read_in.attention.query.linear.weight.zero_()
        frozen.read_out.attention.query.linear.weight.zero_()
    pictures = images()
    torch.testing.assert_close(frozen(pictures), model(pictures), rtol=0, atol=TINY)


def test_a_frozen_circuit_is_saved_and_loaded():
    model = circuit()
    weights = freeze(model).state_dict()
    other = freeze(circuit())
    other.load_state_dict(weights)
    pictures = images()
    torch.testing.assert_close(other(pictures), model(pictures), rtol=0, atol=TINY)


def alive(attention):
    """True where an edge of a frozen layer is left, list or mask."""
    edges = attention.fixed_edges
    if edges is None:
        return attention.fixed_kernel.isfinite()
    count = len(edges.starts) - 1  # one tile
    mask = torch.zeros(count, count, dtype=torch.bool)
    mask[edges.receivers, edges.senders.long()] = True
    return mask


@pytest.mark.skipif(level() == "off", reason="nothing is compiled")
@pytest.mark.parametrize(("removed", "sparse"), [(0.9, True), (0.3, False)])
def test_few_edges_become_a_list(removed, sparse):
    model = eliminate_edges(circuit(), removed)
    frozen = freeze(model)
    layers = [layer.attention for layer in frozen.propagators]
    assert all((layer.fixed_edges is not None) == sparse for layer in layers)
    if sparse:
        kernel = layers[0].fixed_kernel
        assert kernel.shape == (1, alive(layers[0]).sum())
    dense = freeze(model, sparse=False)
    assert not any(layer.attention.fixed_edges for layer in dense.propagators)
    pictures = images()
    wanted = model(pictures)
    for each in (frozen, dense):
        torch.testing.assert_close(each(pictures), wanted, rtol=0, atol=TINY)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_blocks_without_an_edge_may_be_skipped(monkeypatch):
    """As on a GPU, where it was never measured: FlexAttention's plain form."""
    monkeypatch.setattr(sparse, "BLOCK_DEVICES", ("cpu",))
    monkeypatch.setattr(sparse, "usable", lambda *_: False)
    model = circuit(modules=512)
    places = torch.randperm(512) % 4  # four groups, far from each other
    with torch.no_grad():
        spread = model.get_parameter("generator.processors.signatures")
        spread.copy_(0.1 * spread + 5 * torch.eye(4, spread.shape[1])[places])
    pruned, pictures = eliminate_edges(model, 0.9), images()
    frozen = freeze(pruned)
    layers = [layer.attention for layer in frozen.propagators]
    assert all(layer.fixed_blocks.sparsity() == 75 for layer in layers)
    torch.testing.assert_close(frozen(pictures), pruned(pictures), rtol=0, atol=TINY)
    assert not any(p.attention.fixed_blocks for p in freeze(model).propagators)


@pytest.mark.skipif(level() == "off", reason="nothing is compiled")
@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_live_circuit_learns_along_its_edges(wiring, monkeypatch):
    """The same output and gradients with a list of edges as with a mask."""
    model = eliminate_edges(circuit(wiring), 0.9)
    pictures, found = images(), []
    for densest in (0.6, 0.0):  # the relay wiring's readers are heard by everybody
        monkeypatch.setattr("nacs.attentive.sparse.DENSEST", densest)
        called = []

        def counted(*given, called=called):
            called.append(1)
            return edge_attention(*given)

        monkeypatch.setattr("nacs.attentive.attention.edge_attention", counted)
        model.zero_grad()
        out = model(pictures)
        out.square().sum().backward()
        assert bool(called) == bool(densest)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([out, *gradients])
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("frozen", [True, False])
def test_lists_of_edges_under_autocast(frozen):
    """bfloat16 has 8 bits; how far off that is depends on the circuit, so the median.

    Of 60 circuits it was 0.038 frozen and 0.049 live.
    """
    off = []
    for _ in range(15):
        model = eliminate_edges(circuit(), 0.9).float()
        model = freeze(model) if frozen else model
        pictures = images().float()
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                low = model(pictures).float()
            exact = model(pictures)
        off.append(((low - exact).norm() / exact.norm()).item())
    assert 0 < statistics.median(off) < 0.06


@pytest.mark.skipif(level() == "off", reason="nothing is compiled")
def test_links_are_sampled_on_the_edges_alone():
    model = eliminate_edges(circuit(), 0.9).train()
    layer = model.propagators[0].attention
    design = model.design()
    edges = edge_list(design.edges)
    signatures = design.processors.signatures
    drawn = layer.links.on_edges(signatures, signatures, 4000, edges)
    assert drawn.shape == (4000, len(edges.senders))
    log_p = layer.links.log_probabilities(signatures, signatures)
    wanted = log_p[edges.receivers, edges.senders.long()].exp()
    # P(K > 1/2) = P of a binary Concrete; 4,000 draws have a deviation below 0.008.
    often = (drawn.exp() > 0.5).double().mean(0)
    torch.testing.assert_close(often, wanted, rtol=0, atol=0.04)


def test_linked_modules_lie_together():
    chain = torch.randperm(24)
    edges = torch.eye(24, dtype=torch.bool)
    edges[chain[:-1], chain[1:]] = edges[chain[1:], chain[:-1]] = True
    order = linked_together(edges)
    assert sorted(order.tolist()) == list(range(24))
    row, column = edges[order][:, order].nonzero(as_tuple=True)
    assert (row - column).abs().max() == 1


@pytest.mark.parametrize("generator", ["unconditional", "conditional"])
def test_surgery_is_over(generator):
    model = eliminate_edges(drop_modules(circuit(generator=generator), 9), 0.7)
    context = images(1)
    frozen = freeze(model, context)
    left = frozen.config
    assert (left.modules, left.kept, left.edges_removed) == (9, 0, 0)
    mask = alive(frozen.propagators[0].attention)
    whole = model.design(*model.tokenizer(context)).edges.reshape(9, 9)
    order = linked_together(whole)
    assert torch.equal(mask, whole[order][:, order])
    assert not torch.equal(mask, whole)


def test_what_cannot_be_frozen_says_why():
    with pytest.raises(ValueError, match="sampled cannot be frozen"):
        freeze(circuit(evaluation="sample"))
    model = circuit(generator="conditional")
    with pytest.raises(ValueError, match="for one context, got none"):
        freeze(model)
    with pytest.raises(ValueError, match="for one context, got 3"):
        freeze(model, images(3))
