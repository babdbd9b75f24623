"""Laws of the attentive circuit's layers and of its surgery."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from nacs.attentive import AttentiveCircuit, ModFC, Modules, drop_modules, presets
from nacs.attentive.attention import SKMDPA, attention_weights
from nacs.attentive.layers import ReadInAttention, confidence_weights
from nacs.attentive.links import (
    Links,
    cosine_distance,
    importance,
    link_log_probabilities,
    sample_log_kernel,
    strongest_edges,
)
from nacs.attentive.priors import sample_graph
from nacs.attentive.surgery import eliminate_edges, surviving_modules


def modules(count, *, batch=(), code=3, signature=4, width=8):
    return Modules(
        torch.randn(*batch, count, signature),
        torch.randn(*batch, count, code),
        torch.randn(2, count, width),
    )


def test_modfc_without_gain_is_linear():
    layer = ModFC(4, 3, code_features=2, gain=0.0)
    x = torch.randn(5, 4)
    assert_close(layer(x, torch.randn(5, 2)), layer.linear(x), atol=0, rtol=0)


def test_modules_do_not_leak():
    """A module's output depends on its own state and code only."""
    layer = ModFC(4, 3, code_features=2)
    torch.nn.init.ones_(layer.gain)
    states, codes = torch.randn(5, 4), torch.randn(5, 2)
    jacobian = torch.autograd.functional.jacobian(lambda s: layer(s, codes), states)
    others = ~torch.eye(5, dtype=torch.bool)
    assert (jacobian.transpose(1, 2)[others] == 0).all()
    assert (jacobian.transpose(1, 2)[~others] != 0).any()


@given(delta=st.floats(1e-6, 1.0), seed=st.integers(0, 1000))
def test_softmax_cancels_the_normaliser_of_the_kernel(delta, seed):
    """Eq 3 divides K by δ + Σ_j K_ij, which is one number per row."""
    torch.manual_seed(seed)
    kernel = torch.rand(5, 7)
    logits = torch.randn(5, 7)
    normalised = kernel / (delta + kernel.sum(-1, keepdim=True))
    assert_close(
        (logits + normalised.log()).softmax(-1), (logits + kernel.log()).softmax(-1)
    )


def test_complete_graph_without_gain_is_plain_attention():
    layer = SKMDPA(8, heads=2, head_width=4, code_features=3, links=Links(1.0)).eval()
    for part in (layer.query, layer.key, layer.value, layer.out):
        torch.nn.init.zeros_(part.gain)
    plain = SKMDPA(8, heads=2, head_width=4)
    plain.load_state_dict(layer.state_dict(), strict=False)
    group = modules(6)
    alike = group._replace(signatures=torch.ones(6, 4))
    assert_close(layer(alike, alike), plain(group, group))
    assert not torch.allclose(layer(group, group), plain(group, group))


def test_no_message_without_a_link():
    """The Jacobian is exactly zero where an edge is gone."""
    layer = SKMDPA(8, heads=2, head_width=4, code_features=3, links=Links(1.0)).eval()
    group = modules(5)
    edges = torch.rand(5, 5) > 0.5
    edges.fill_diagonal_(True)

    def heard(states):
        with_states = group._replace(states=states)
        return layer(with_states, with_states, edges)[0]

    states = group.states[:1]
    jacobian = torch.autograd.functional.jacobian(heard, states)[:, :, 0].abs()
    reach = jacobian.amax(dim=(1, 3))
    assert (reach[~edges] == 0).all()
    assert (reach[edges] > 0).all()


def test_a_module_nobody_talks_to_is_not_nan():
    layer = SKMDPA(
        8, sender_width=8, heads=2, head_width=4, links=Links(1.0), residual=False
    ).eval()
    receivers, senders = modules(3), modules(4)
    receivers.states.requires_grad_()
    edges = torch.ones(3, 4, dtype=torch.bool)
    edges[1] = False
    out = layer(receivers, senders, edges)
    out.sum().backward()
    assert_close(out[:, 1], layer.out.linear.bias.expand(2, 8))
    assert torch.isfinite(receivers.states.grad).all()
    q, k, _ = layer.project(receivers, senders)
    weights = attention_weights(q, k, layer.log_kernel(receivers, senders, 2, edges))
    assert (weights[:, :, 1] == 0).all()
    assert_close(weights[:, :, 0].sum(-1), torch.ones(2, 2))


def test_modules_may_be_relabelled():
    layer = SKMDPA(8, heads=2, head_width=4, code_features=3, links=Links(0.5)).eval()
    group, order = modules(6), torch.randperm(6)
    assert_close(layer(group, group)[:, order], layer(*[group.select(order)] * 2))


@given(seed=st.integers(0, 1000), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_sampling_is_finite_with_finite_gradients(seed, dtype):
    """Equal, opposite and zero signatures, and draws of exactly 0."""
    torch.manual_seed(seed)
    s = torch.randn(6, 4, dtype=dtype)
    s[1], s[2], s[3] = s[0], -s[0], 0
    s.requires_grad_()
    uniform = torch.rand(3, 6, 6, dtype=dtype)
    uniform[0, 0], uniform[0, 1] = 0, 1 - torch.finfo(dtype).eps
    log_p = link_log_probabilities(cosine_distance(s, s), 0.01)
    log_k = sample_log_kernel(log_p, uniform, 0.5)
    log_k.sum().backward()
    assert torch.isfinite(log_k).all()
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize("distance", [1e-6, 3e-7])
def test_close_signatures_keep_their_logit_in_single_precision(distance):
    """log(1 - P) through 1 - exp is off by up to a tenth here; 1e-4 is 20 roundings."""
    log_p, uniform = torch.tensor([[-distance]]), torch.tensor([[0.5]])
    exact = sample_log_kernel(log_p, uniform, 100.0)
    single = sample_log_kernel(log_p.float(), uniform.float(), 100.0)
    logit, wanted = (
        100 * (k.exp() / -torch.expm1(k)).log() for k in (single.double(), exact)
    )
    assert_close(logit, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_every_sample_draws_links_of_its_own(training):
    model = AttentiveCircuit(replace(presets.tiny(), evaluation="sample"))
    image = torch.randn(1, 1, 8, 8)
    first, second = model.train(training)(image.expand(2, -1, -1, -1))
    assert not torch.allclose(first, second)
    model = AttentiveCircuit(presets.tiny()).eval()
    assert_close(*model(image.expand(2, -1, -1, -1)))


@given(size=st.sampled_from([1e-8, 1e-3, 1e6]), seed=st.integers(0, 99))
def test_only_the_direction_of_a_signature_counts(size, seed):
    torch.manual_seed(seed)
    s = torch.randn(4, 3)
    assert_close(cosine_distance(size * s, s), cosine_distance(s, s))
    assert_close(cosine_distance(0 * s, s), torch.ones(4, 4))


def test_link_probabilities_ignore_autocast():
    """In bfloat16 1 - cosine of close signatures would be rounded to 1/128."""
    links, s = Links(1.0), torch.randn(6, 4).float()
    plain = links.log_probabilities(s, s)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(links.log_probabilities(s, s), plain, atol=0, rtol=0)


def test_sampled_kernel_has_the_probability_of_the_link():
    """P(K > ½) = P, whatever the temperature: 4 standard errors of 20,000 draws."""
    log_p = torch.tensor([[0.1, 0.5, 0.9]]).log()
    log_k = sample_log_kernel(log_p, torch.rand(20_000, 1, 3), 0.5)
    assert_close(
        (log_k > math.log(0.5)).double().mean(0), log_p.exp(), atol=0.015, rtol=0
    )


def test_read_in_forms_agree_with_all_gradients():
    """Table 4's options in float64; 1e-10 is the claim of the documentation."""
    layer = ReadInAttention(24, 12, heads=2, head_width=8, code_features=6, bias=True)
    group = Modules(None, torch.randn(9, 6), torch.randn(9, 24))
    tokens = torch.randn(3, 7, 12)
    keep = torch.rand(3, 7) > 0.3
    keep[:, 0] = True
    found = {}
    for form in ("plain", "folded"):
        layer.form = form
        leaves = [each.clone().requires_grad_() for each in (*group[1:], tokens)]
        out = layer(Modules(None, *leaves[:2]), leaves[2], keep)
        grads = torch.autograd.grad(
            out.sin().sum(), [*leaves, *layer.parameters()], allow_unused=True
        )
        found[form] = [out, *(torch.zeros(()) if g is None else g for g in grads)]
    for plain, folded in zip(found["plain"], found["folded"], strict=True):
        if folded.ndim == plain.ndim:
            assert_close(plain, folded, atol=1e-10, rtol=0)
        else:  # the keys' bias: no gradient at all against one that cancels
            assert plain.abs().max() < 1e-10


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_padding_never_changes_the_read_in(form):
    layer = ReadInAttention(8, 6, heads=2, head_width=4, code_features=3, form=form)
    group = Modules(None, torch.randn(5, 3), torch.randn(5, 8))
    tokens = torch.randn(2, 4, 6)
    padded = torch.cat([tokens, torch.full((2, 3, 6), math.nan)], 1)
    keep = torch.arange(7).expand(2, 7) < 4
    assert_close(layer(group, tokens), layer(group, padded, keep))
    nothing = layer(group, padded, torch.zeros(2, 7, dtype=torch.bool))
    assert torch.isfinite(nothing).all()


def test_with_nothing_to_read_both_forms_are_the_modules_own_states():
    layer = ReadInAttention(8, 6, heads=2, head_width=4, code_features=3, bias=True)
    torch.nn.init.ones_(layer.value.linear.bias)
    group = Modules(None, torch.randn(5, 3), torch.randn(5, 8))
    tokens, keep = torch.randn(2, 4, 6), torch.tensor([[True] * 4, [False] * 4])
    found = {}
    for layer.form in ("plain", "folded"):
        found[layer.form] = layer(group, tokens, keep)
        nothing = layer.out(torch.zeros(5, 8), group.codes)
        assert_close(found[layer.form][1], group.states + nothing)
    assert_close(found["plain"], found["folded"])


@pytest.mark.parametrize(
    ("count", "heads", "shared", "plain"),
    [(320, 1, False, False), (2, 8, False, False), (100, 8, True, True)],
)
def test_the_read_in_takes_the_cheaper_form(count, heads, shared, plain):
    layer = ReadInAttention(
        64, 64, heads=heads, head_width=8, code_features=4, shared_keys=shared
    )
    group = Modules(None, torch.randn(count, 4), torch.randn(count, 64))
    tokens = torch.randn(1, 500, 64)
    assert layer.is_plain_cheaper(group, tokens) == plain
    queries = torch.ones(count, 8 * heads)
    asked = layer.folded_queries(queries, group.codes)
    assert_close(
        layer.plain(queries, tokens, group.codes, None),
        layer.folded(asked, tokens, group.codes, None),
    )


def test_a_hard_choice_has_the_gradient_of_the_soft_one():
    scores = torch.randn(3, 5, requires_grad=True)
    weigh, values = torch.randn(3, 5), []
    for hard in (True, False):
        weights = confidence_weights(scores, hard=hard, temperature=2.0)
        values.append(torch.autograd.grad((weigh * weights).sum(), scores)[0])
        assert hard == ((weights == 0) | (weights == 1)).all()
    assert_close(*values)


@given(removed=st.floats(0, 1), count=st.integers(1, 9), seed=st.integers(0, 99))
def test_edges_go_in_pairs_and_weakest_first(removed, count, seed):
    torch.manual_seed(seed)
    links = torch.rand(count, count)
    links = (links + links.T) / 2
    kept = strongest_edges(links, removed)
    assert torch.equal(kept, kept.T)
    assert kept.diagonal().all()
    assert (~kept).sum() == 2 * round(removed * count * (count - 1) / 2)
    if 0 < (~kept).sum() < count * (count - 1):
        off = kept & ~torch.eye(count, dtype=torch.bool)
        assert links[~kept].max() <= links[off].min()


CONDITIONAL = replace(presets.tiny(), generator="conditional")


def test_conditional_circuits_differ_and_learn():
    model = AttentiveCircuit(CONDITIONAL).double()
    images = torch.randn(2, 1, 8, 8)
    model(images).sum().backward()
    for name, parameter in model.generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    model.eval()
    tokens, keep = model.tokenizer(images)
    links = model.links(model.design(tokens, keep))
    assert (links[0] - links[1]).abs().max() > 1e-6


@pytest.mark.parametrize("change", [{}, {"kept": 5}, {"edges_removed": 0.8}])
def test_a_batch_of_two_circuits_is_two_batches_of_one(change):
    model = AttentiveCircuit(replace(CONDITIONAL, **change)).double().eval()
    images = torch.randn(2, 1, 8, 8)
    apart = torch.cat([model(images[:1]), model(images[1:])])
    assert_close(model(images), apart)
    assert not torch.allclose(apart[0], apart[1])


def test_a_circuit_written_from_another_modality():
    context = replace(presets.tiny().tokenizer, kind="bytes")
    model = AttentiveCircuit(replace(CONDITIONAL, context=context)).double().eval()
    image = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1)
    words = torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]])
    keep = torch.tensor([[True, True, True, False], [True, True, False, False]])
    logits = model(image, context=words, context_keep=keep)
    assert not torch.allclose(logits[0], logits[1])
    words = words.masked_fill(~keep, 77)
    assert_close(model(image, context=words, context_keep=keep), logits)
    longer = torch.nn.functional.pad(words, (0, 3))
    keep = torch.nn.functional.pad(keep, (0, 3))
    assert_close(model(image, context=longer, context_keep=keep), logits)
    with pytest.raises(ValueError, match="expected `context`"):
        model(image)


def test_conditional_circuits_in_the_released_wiring_read_with_other_codes():
    sizes = replace(CONDITIONAL, wiring="released")
    model = AttentiveCircuit(sizes).eval()
    design = model.design(*model.tokenizer(torch.randn(2, 1, 8, 8)))
    assert design.inputs.codes.shape == design.processors.codes.shape
    assert not torch.allclose(design.inputs.codes, design.processors.codes)


def test_dropping_nothing_changes_nothing():
    for config in (presets.tiny(), CONDITIONAL):
        model = AttentiveCircuit(config).double().eval()
        images = torch.randn(3, 1, 8, 8)
        assert_close(drop_modules(model, config.modules)(images), model(images))
        assert_close(eliminate_edges(model, 0.0)(images), model(images))
        smaller = drop_modules(model, 3)
        assert smaller(images).shape == (3, 10)
        assert not torch.allclose(smaller(images), model(images))


def test_importance_decides_who_stays():
    model = AttentiveCircuit(presets.tiny()).eval()
    strength = importance(model.links())
    best = strength.topk(5).indices.sort().values
    worst = strength.topk(5, largest=False).indices.sort().values
    assert torch.equal(surviving_modules(model, 5), best)
    assert torch.equal(surviving_modules(model, 5, order="reversed"), worst)
    drawn = surviving_modules(model, 5, order="random", seed=3)
    assert len(drawn.unique()) == 5
    assert not torch.equal(drawn, surviving_modules(model, 5, order="random", seed=4))


def test_a_conditional_circuit_keeps_each_samples_own_best():
    model = AttentiveCircuit(CONDITIONAL).eval()
    tokens, keep = model.tokenizer(torch.randn(3, 1, 8, 8))
    whole = model.design(tokens, keep)
    kept = drop_modules(model, 4).design(tokens, keep)
    assert kept.processors.codes is not None
    assert whole.processors.codes is not None
    for sample in range(3):
        best = importance(model.links(whole))[sample].topk(4).indices.sort().values
        assert_close(
            kept.processors.codes[sample], whole.processors.codes[sample, best]
        )


def test_readers_are_heard_when_edges_between_processors_go():
    sizes = replace(presets.tiny(), wiring="relay", states="seeded", readers=5)
    model = AttentiveCircuit(sizes).eval()
    alone = eliminate_edges(model, 1.0)
    first, second = alone(torch.randn(2, 1, 8, 8))
    assert not torch.allclose(first, second)


def test_the_regulariser_does_not_depend_on_labels():
    model = AttentiveCircuit(presets.tiny())
    before = model.regulariser()
    with torch.no_grad():
        (signatures,) = (
            each
            for name, each in model.named_parameters()
            if name == "generator.processors.signatures"
        )
        signatures.copy_(signatures[torch.randperm(len(signatures))])
    assert_close(model.regulariser(), before)


def test_signatures_start_close_where_the_drawn_graph_has_edges():
    torch.manual_seed(5)
    model = AttentiveCircuit(replace(presets.tiny(), start="prior"))
    torch.manual_seed(6)
    seed = int(torch.randint(2**31, ()).item())
    torch.manual_seed(6)
    model.prepare()
    links = sample_graph("scale-free", 16, seed=seed) == 1
    off = ~torch.eye(16, dtype=torch.bool)
    p = model.links().detach()
    assert p[links].min() > 0.5 > p[off & ~links].max()


def test_module_dropout_drops_modules_in_training_only():
    model = AttentiveCircuit(replace(presets.tiny(), module_dropout=0.9)).double()
    counts = {model.design().processors.states.shape[-2] for _ in range(50)}
    assert len(counts) > 5
    assert min(counts) >= 1
    assert model.eval().design().processors.states.shape[-2] == 16
