"""ModFC, ModFFN, links, SKMDPA, read-in and read-out equal the released code.

Source: github.com/mweiss17/NeuralAttentiveCircuits@41ae372, recorded 2026-11-23; the
tolerance is that of float64 over some ten sums (data/README.md).
"""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close as _assert_close

from cases import attention_of, ffn_of, fill, fill_fc, fill_read_in, load
from nacs.attentive.attention import attention_weights
from nacs.attentive.circuit import Modules
from nacs.attentive.layers import ReadIn, ReadInAttention, confidence_weights
from nacs.attentive.links import (
    cosine_distance,
    link_log_probabilities,
    link_probabilities,
    sample_log_kernel,
    threshold_log_kernel,
)
from nacs.attentive.modulated import ModFC

assert_close = partial(_assert_close, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        "paper",
        "paper_nobias",
        "paper_token_axis",
        "class_defaults",
        "alpha_zero",
        "plain_fc",
    ],
)
def test_modfc(name):
    case = load("modfc", name)
    code = case["c"].shape[-1] if case.meta["modulated"] else 0
    offset = 1.0 if case.meta["add_one"] else 0.0
    layer = ModFC(10, 6, code_features=code, bias=case.meta["bias"], offset=offset)
    fill_fc(layer, case)
    x, c = (case[key].requires_grad_() for key in "xc")
    y = layer(x, c)
    assert_close(y, case["y"])
    y.backward(case["gy"])
    grads = {"dx": x, "dc": c, "dW": layer.linear.weight, "db": layer.linear.bias}
    if code:
        grads |= {"dW_c": layer.code_to_scale.weight, "dalpha": layer.gain}
    compared = [
        assert_close(grads[key].grad, case[key]) for key in grads if key in case
    ]
    assert len(compared) >= 3


@pytest.mark.parametrize(
    "name", ["geglu", "gelu", "geglu_layerscale_rounded", "geglu_noresidual"]
)
def test_modffn(name):
    case = load("modffn", name)
    layer = ffn_of(
        case,
        gated=case.meta["geglu"],
        residual=case.meta["residual"],
        layer_scale=1.0 if case.meta["layer_scale"] else None,
    )
    normed = layer.norm(case["theta"])
    assert_close(normed, case["ln_out"])
    assert_close(layer.expand(normed, case["c"]), case["fc1_out"])
    assert_close(layer.contract(case["act_out"], case["c"]), case["fc2_out"])
    assert_close(layer(case["theta"], case["c"]), case["y"])


LINKS = ["plain", "bandwidth", "trunc_direct", "trunc_direct_bandwidth", "trunc_masked"]


@pytest.mark.parametrize("name", [*LINKS, "no_diagonal", "batched"])
def test_link_probabilities(name):
    case = load("link_kernel", name)
    distance = cosine_distance(case["s_recv"], case["s_send"])
    log_p = link_log_probabilities(
        distance,
        case["epsilon"],
        truncation=case.meta.get("truncation"),
        self_links=not case.meta.get("eliminate_diagonal", False),
    )
    assert_close(log_p, case["logP"])
    assert_close(log_p.exp(), case["P"])
    total = log_p.logsumexp(-1, keepdim=True)
    assert_close(log_p - total, case["logP_norm"])
    assert_close((log_p - total).exp(), case["P_norm"])


@pytest.mark.parametrize(
    ("name", "straight_through"),
    [
        ("grad_plain", False),
        ("grad_trunc_direct_st", False),
        ("grad_trunc_direct_nost", False),
        ("grad_trunc_masked_st", True),
    ],
)
def test_link_gradients(name, straight_through):
    case = load("link_kernel", name)
    s, epsilon = case["s"].requires_grad_(), case["epsilon"].requires_grad_()
    p = link_probabilities(
        cosine_distance(s, s),
        epsilon,
        truncation=case.meta.get("truncation"),
        straight_through=straight_through,
    )
    assert_close(p, case["P"])
    p.backward(case["G"])
    assert_close(s.grad, case["ds"])
    assert_close(epsilon.grad, case["depsilon"])


@pytest.mark.parametrize("name", ["sample_train", "sample_train_trunc"])
def test_sampling(name):
    case = load("link_kernel", name)
    s = case["s"].requires_grad_()
    log_p = link_log_probabilities(
        cosine_distance(s, s), case["epsilon"], truncation=case.meta.get("truncation")
    )
    log_k = sample_log_kernel(log_p, case["u"], case["tau"].item())
    assert_close(log_k, case["logK"])
    normed = log_k - log_k.logsumexp(-1, keepdim=True)
    assert_close(normed, case["logK_norm"])
    log_k.exp().backward(case["G"])
    assert_close(s.grad, case["ds"])


def test_evaluation_modes():
    case = load("link_kernel", "eval_modes")
    log_p = link_log_probabilities(
        cosine_distance(case["s"], case["s"]), case["epsilon"]
    )
    assert_close(log_p, case["logK_no_sample"])
    assert_close(threshold_log_kernel(log_p), case["logK_threshold"].double())


SKMDPA_CASES = [
    "propagator_style",
    "propagator_style_trunc",
    "readout_style",
    "readout_style_trunc",
    "qkv_bias_layerscale",
    "no_mask",
    "not_normalised",
    "train_sampled",
    "train_sampled_trunc",
]


@pytest.mark.parametrize("name", SKMDPA_CASES)
def test_skmdpa(name, monkeypatch):
    case = load("skmdpa", name)
    layer = attention_of(
        case, sender_width=None if case.meta["share_layernorm"] else 16
    )
    if case.meta["train"]:
        assert layer.links is not None
        layer.train().links.temperature = case["tau"].item()
        monkeypatch.setattr(torch, "rand", lambda *_, **__: case["u"])
    alone = case.meta["self_attention"]
    receivers = Modules(
        *(case[f"{k}_recv"].requires_grad_() for k in ("s", "c", "theta"))
    )
    sent = (
        receivers
        if alone
        else Modules(*(case[f"{k}_send"] for k in ("s", "c", "theta")))
    )

    q, k, v = layer.project(receivers, sent)
    for ours, theirs in ((q, "q_out"), (k, "k_out"), (v, "v_out")):
        assert_close(ours.transpose(1, 2).flatten(2), case[theirs])
    assert_close(q @ k.mT / math.sqrt(q.shape[-1]), case["A"])
    mask = layer.log_kernel(receivers, sent, 2)
    weights = attention_weights(q, k, mask)
    assert_close(weights, case["W_attn"])
    masked = case["A"] + (0 if mask is None else mask.unsqueeze(-3))
    assert_close(masked.softmax(-1), case["A_masked"].softmax(-1))

    y = layer(receivers, sent)
    assert_close(y, case["y"])
    y.backward(case["gy"])
    assert_close(receivers.states.grad, case["dtheta_recv"])
    if "ds_recv" in case and not alone:
        assert_close(receivers.signatures.grad, case["ds_recv"])


READ_IN = ["published", "heads_bias_noresidual", "layerscale", "shared_key_value"]


def read_in_of(case):
    code = case["q.W_c"].shape[1]
    layer = ReadInAttention(
        16,
        12,
        heads=case.meta["heads"],
        head_width=case.meta["head_dim"],
        code_features=code,
        shared_keys=case.meta["shared_kv"],
        bias="q.b" in case,
        residual=case.meta["residual"],
        layer_scale=1.0 if case.meta["layer_scale"] else None,
    )
    fill_read_in(layer, case)
    return layer


@pytest.mark.parametrize("form", ["plain", "folded", "auto"])
@pytest.mark.parametrize("name", READ_IN)
def test_read_in(name, form):
    case = load("readin", name)
    layer = read_in_of(case)
    layer.form = form
    assert_close(layer(Modules(None, case["c"], case["theta0"]), case["X"]), case["y"])
    queries = layer.query(layer.receiver_norm(case["theta0"]), case["c"])
    assert_close(queries, case["q_out"])
    tokens = layer.token_norm(case["X"]).unsqueeze(-2)
    assert_close(layer.key(tokens, case["c"]).squeeze(-2), case["k_out"].squeeze(-2))
    assert_close(layer.value(tokens, case["c"]).squeeze(-2), case["v_out"].squeeze(-2))


def test_read_in_block():
    case = load("readin", "block_published")
    part = case.under("attn")
    block = ReadIn(read_in_of(part), ffn_of(case.under("ffn")))
    modules = Modules(None, case["c"], case["theta0"])
    assert_close(block.attention(modules, case["X"]), case["attn_out"])
    assert_close(block(modules, case["X"]), case["theta1"])


@pytest.mark.parametrize("name", ["published", "published_trunc"])
def test_propagator(name):
    case = load("propagator", name)
    attention = attention_of(case.under("attn"), sender_width=None)
    ffn = ffn_of(case.under("ffn"))
    modules = Modules(case["s"], case["c"], case["theta"])
    heard = attention(modules, modules)
    assert_close(heard, case["attn_out"])
    assert_close(ffn(heard, case["c"]), case["theta_next"])


def pool_of(case):
    from nacs.attentive.layers import ReadOut

    layer = ReadOut.__new__(ReadOut)
    nn.Module.__init__(layer)
    layer.confidence, layer.to_logits = nn.Linear(16, 1), nn.Linear(16, 5)
    fill(layer.confidence.weight, case["pool.w_conf"])
    fill(layer.confidence.bias, case["pool.b_conf"])
    fill(layer.to_logits.weight, case["pool.W"])
    fill(layer.to_logits.bias, case["pool.b"])
    return layer


@pytest.mark.parametrize("name", ["published", "published_trunc"])
def test_read_out(name):
    case = load("readout_pool", name)
    attention = attention_of(case.under("attn"), sender_width=16)
    ffn = ffn_of(case.under("ffn"))
    outputs = Modules(case["s_o"], case["c_o"], case["theta_o0"])
    senders = Modules(case["s_p"], case["c_p"], case["theta_p"])
    heard = attention(outputs, senders)
    assert_close(heard, case["attn_out"])
    states = ffn(heard, case["c_o"])
    assert_close(states, case["theta_o"])
    pool = pool_of(case)
    raw = pool.confidence(states).squeeze(-1)
    assert_close(raw, case["conf_raw"])
    assert_close(confidence_weights(raw), case["conf"])
    assert_close(pool.pool(states), case["logits"])


@pytest.mark.parametrize("name", ["pool_vanilla_T", "pool_gumbel", "pool_gumbel_hard"])
def test_pool(name):
    case = load("readout_pool", name)
    pool = pool_of(case)
    weights = confidence_weights(
        pool.confidence(case["theta_o"]).squeeze(-1),
        temperature=case["T"].item() if "T" in case else 1.0,
        exponential=case.get("expo"),
        hard=name.endswith("hard"),
    )
    assert_close(weights, case["conf"])
    pooled = (weights.unsqueeze(-1) * case["theta_o"]).sum(-2)
    assert_close(pool.to_logits(pooled), case["logits"])


def test_head_on_the_first_read_out():
    case = load("readout_pool", "head_first_slot")
    attention = attention_of(case.under("attn"), sender_width=16)
    ffn = ffn_of(case.under("ffn"), layer_scale=1.0)
    norm, head = nn.LayerNorm(16), ModFC(16, 5, code_features=8)
    fill(norm.weight, case["head.ln.gamma"])
    fill(norm.bias, case["head.ln.beta"])
    fill_fc(head, case.under("head.fc"))
    outputs = Modules(case["s_o"], case["c_o"], case["theta_o0"])
    senders = Modules(case["s_p"], case["c_p"], case["theta_p"])
    states = ffn(attention(outputs, senders), case["c_o"])
    y = head(norm(states), case["c_o"])
    assert_close(y, case["y"])
    assert_close(y[:, 0], case["logits"])
