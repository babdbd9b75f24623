"""Whole circuits equal the released code: both wirings, training, surgery.

Source: github.com/mweiss17/NeuralAttentiveCircuits@41ae372, recorded 2026-11-23; the
tolerance is that of float64 over three layers (data/README.md).
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.testing import assert_close as _assert_close

from cases import fill, fill_attention, fill_ffn, fill_read_in, load
from nacs.attentive import AttentiveCircuit, AttentiveConfig, drop_modules
from nacs.attentive.links import importance, strongest_edges
from nacs.attentive.surgery import eliminate_edges, surviving_modules
from nacs.tokenizers import TokenizerConfig

assert_close = partial(_assert_close, atol=1e-10, rtol=0)

GROUPS = {"inputs": "in", "processors": "p", "outputs": "o"}
PARTS = {"query": "q", "key": "k", "value": "v", "out": "o"}


def config_of(case):
    relay = case.meta["wiring"] == "alt"
    return AttentiveConfig(
        tokenizer=TokenizerConfig(
            kind="patches", width=12, channels=1, size=(4, 4), patch=2, positions=4
        ),
        classes=5,
        modules=7,
        outputs=3,
        readers=4 if relay else 0,
        width=16,
        code=8 if relay else 16,
        signature=4,
        layers=2,
        heads=2,
        head_width=8,
        edge_heads=2 if relay else 1,
        hidden=32,
        wiring="relay" if relay else "released",
        states="seeded" if relay else "code",
        layer_scale=1.0 if relay else None,
        truncation=case.meta["truncation"],
    )


def circuit_of(case):
    model = AttentiveCircuit(config_of(case)).double()
    generator = model.generator
    for group, letter in GROUPS.items():
        fill(getattr(generator, group).codes, case[f"c_{letter}"])
        fill(getattr(generator, group).signatures, case[f"s_{letter}"])
    if case.meta["wiring"] == "alt":
        norm, linear = generator.to_state
        fill(norm.weight, case["seed.ln.gamma"])
        fill(norm.bias, case["seed.ln.beta"])
        fill(linear.weight, case["seed.W"])
        fill(linear.bias, case["seed.b"])
    fill_read_in(model.read_in.attention, case.under("readin.attn"))
    fill_ffn(model.read_in.ffn, case.under("readin.ffn"))
    for name, block in blocks_of(model).items():
        fill_attention(block.attention, case.under(f"{name}.attn"))
        fill_ffn(block.ffn, case.under(f"{name}.ffn"))
    fill(model.read_out.confidence.weight, case["pool.w_conf"])
    fill(model.read_out.confidence.bias, case["pool.b_conf"])
    fill(model.read_out.to_logits.weight, case["pool.W"])
    fill(model.read_out.to_logits.bias, case["pool.b"])
    return model.eval()


def blocks_of(model):
    blocks = {f"prop{i}": layer for i, layer in enumerate(model.propagators)}
    return blocks | {"readout": model.read_out}


def parameter_of(model, name):
    """Our parameter for one of theirs."""
    if name[:2] in {"c_", "s_"}:
        letter = {short: group for group, short in GROUPS.items()}[name[2:]]
        group = getattr(model.generator, letter)
        return group.codes if name[0] == "c" else group.signatures
    if name.startswith("pool"):
        return {"w": model.read_out.confidence.weight}.get(
            name[5], model.read_out.confidence.bias
        )
    block, part, layer, kind = name.split(".")
    owner = (blocks_of(model) | {"readin": model.read_in})[block]
    owner = getattr(owner, {"attn": "attention"}.get(part, part))
    layer = getattr(owner, (PARTS_BACK | {"fc1": "expand", "fc2": "contract"})[layer])
    return {
        "alpha": getattr(layer, "gain", None),
        "W": layer.linear.weight,
        "W_c": layer.code_to_scale.weight,
    }[kind]


PARTS_BACK = {short: name for name, short in PARTS.items()}


@pytest.mark.parametrize("form", ["plain", "folded"])
@pytest.mark.parametrize(
    "name", ["published", "published_trunc", "alt_wiring", "alt_wiring_trunc"]
)
def test_circuit(name, form):
    case = load("latent_graph", name)
    model = circuit_of(case)
    model.read_in.attention.form = form
    seen = {}
    model.read_in.register_forward_hook(lambda *a: seen.update(theta_readin=a[2]))
    for index, layer in enumerate(model.propagators):
        layer.register_forward_hook(
            lambda *a, key=f"theta_prop{index}": seen.update({key: a[2]})
        )
    model.read_out.ffn.register_forward_hook(lambda *a: seen.update(theta_o=a[2]))
    logits = model.execute(model.design(), case["X"])
    assert len(seen) == 4
    for key, value in seen.items():
        assert_close(value, case[key])
    assert_close(logits, case["logits"])
    if "gy" not in case:
        return
    logits.backward(case["gy"])
    recorded = [key for key in case if key.startswith("grad.")]
    assert len(recorded) > 20
    for key in recorded:
        parameter = parameter_of(model, key.removeprefix("grad."))
        assert_close(parameter.grad, case[key], msg=lambda m, k=key: f"{k}: {m}")


def test_circuit_in_training(monkeypatch):
    case = load("latent_graph", "published_train")
    model = circuit_of(case).train()
    for block in blocks_of(model).values():
        block.attention.links.temperature = case["tau"].item()
    draws = iter([case["u_prop0"], case["u_prop1"], case["u_readout"]])
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(draws))
    assert_close(model.execute(model.design(), case["X"]), case["logits"])


@pytest.mark.parametrize("keep", [5, 3])
def test_dropped_modules(keep):
    base = load("latent_graph", "published")
    case = load("latent_graph", f"drop_modules_{keep}")
    model = circuit_of(base)
    assert_close(model.links(), case["P"])
    assert_close(importance(model.links()), case["q"])
    assert surviving_modules(model, keep).tolist() == case["idx"].tolist()
    smaller = drop_modules(model, keep)
    assert len(smaller.generator.processors.codes) == keep
    assert_close(smaller.execute(smaller.design(), base["X"]), case["logits"])


@pytest.mark.parametrize("percent", [50, 90])
def test_eliminated_edges(percent):
    base = load("latent_graph", "published")
    case = load("latent_graph", f"drop_edges_{percent}")
    model = circuit_of(base)
    mask = strongest_edges(model.links(), percent / 100)
    assert torch.equal(mask, case["keep_mask"])
    assert (~mask).sum() == 2 * case.meta["n_removed_pairs"]
    sparse = eliminate_edges(model, percent / 100)
    assert_close(sparse.execute(sparse.design(), base["X"]), case["logits"])


def test_perceiver_is_the_same_executor():
    """α = 0 and K ≡ 1 make a Perceiver IO: its recorded logits from our layers."""
    case = load("perceiver_io", "pio")
    base = config_of(load("latent_graph", "published"))
    config = replace(
        base,
        wiring="paper",
        states="free",
        modulated=False,
        graph="complete",
        outputs=1,
        hidden=64,
    )
    model = AttentiveCircuit(config).double().eval()
    fill(model.generator.processors.states, case["latents"])
    fill(model.generator.outputs.states, case["classification_query"])

    def attention(layer, prefix, sender_norm):
        part = case.under(prefix)
        keys, values = part["fn.to_kv.weight"].chunk(2)
        fill(layer.query.linear.weight, part["fn.to_q.weight"])
        fill(layer.key.linear.weight, keys)
        fill(layer.value.linear.weight, values)
        fill(layer.out.linear.weight, part["fn.to_out.weight"])
        fill(layer.out.linear.bias, part["fn.to_out.bias"])
        norm(layer.receiver_norm, part, "norm")
        if sender_norm is not None:
            norm(sender_norm, part, "norm_context")

    def norm(layer, part, name):
        fill(layer.weight, part[f"{name}.weight"])
        fill(layer.bias, part[f"{name}.bias"])

    def ffn(layer, prefix):
        part = case.under(prefix)
        norm(layer.norm, part, "norm")
        for ours, theirs in ((layer.expand, "fn.net.0"), (layer.contract, "fn.net.2")):
            fill(ours.linear.weight, part[f"{theirs}.weight"])
            fill(ours.linear.bias, part[f"{theirs}.bias"])

    read_in, read_out = model.read_in, model.read_out
    attention(read_in.attention, "cross_attend_blocks.0", read_in.attention.token_norm)
    ffn(read_in.ffn, "cross_attend_blocks.1")
    for index, layer in enumerate(model.propagators):
        attention(layer.attention, f"layers.{index}.0", None)
        ffn(layer.ffn, f"layers.{index}.1")
    attention(read_out.attention, "decoder_cross_attn", read_out.attention.sender_norm)
    ffn(read_out.ffn, "decoder_ff")
    fill(read_out.to_logits.weight, case["to_logits.weight"])
    fill(read_out.to_logits.bias, case["to_logits.bias"])
    assert_close(model.execute(model.design(), case["X"]), case["logits"])
