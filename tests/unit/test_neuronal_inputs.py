"""What a neuronal layer is called with.

What fits gives the right numbers; what does not gets one clear message, and compiled
code is never given it.
"""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from nacs.native.calls import attend, select
from nacs.native.edges import edges
from nacs.native.parts import usable
from nacs.neuronal import NeuronalAttention, NeuronalConfig, neuronal_model, presets
from nacs.neuronal.inspect import observe, synapses
from nacs.neuronal.pairs import key_spacing

SMALL = NeuronalConfig(width=16, heads=2, top_k=4)


def layer(**options):
    return NeuronalAttention(replace(SMALL, **options))


def tokens(count=12, batch=3):
    return torch.randn(batch, count, 16)


def ones(*shape):
    return torch.ones(shape, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, x: f(x, x, x[:, :5]), r"value of shape \(3, 12, 16\), got \(3, 5"),
        (lambda f, x: f(x, x[:1]), r"key of shape \(3, 12, 16\), got \(1, 12, 16\)"),
        (lambda f, x: f(x, keep=ones(1, 12)), r"keep of shape \(3, 12\) .* \(1, 12\)"),
        (lambda f, x: f(x, keep=ones(3, 9)), r"keep of shape \(3, 12\) .* \(3, 9\)"),
        (lambda f, x: f(x, keep=ones(3, 12).long()), "torch.bool, got .* torch.int64"),
        (lambda f, x: f(x, allowed=ones(12, 12)), r"allowed of shape \(3, 12, 12\)"),
        (lambda f, x: f(x, allowed=torch.ones(1, 12, 12)), "allowed .* torch.float64"),
        (lambda f, x: f(x, key_times=x[..., 0]), "without a `key`"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call(layer(), tokens())


def test_a_mask_of_all_allowed_is_none():
    attention, x = layer(), tokens()
    assert_close(attention(x, allowed=ones(1, 12, 12))[0], attention(x)[0])


def test_bad_calls_with_half_of_the_times():
    attention, x = layer(horizon="gate"), tokens()
    with pytest.raises(ValueError, match="neither, got query_times alone"):
        attention(x, x, query_times=x[..., 0])
    with pytest.raises(ValueError, match="neither, got key_times alone"):
        attention(x, x, key_times=x[..., 0])


@pytest.mark.parametrize(
    ("options", "token", "time", "message"),
    [
        ({}, (3, 16), (1,), r"time of shape \(3,\), got \(1,\)"),
        ({}, (3, 16), (3, 1), r"time of shape \(3,\), got \(3, 1\)"),
        ({}, (3, 1, 16), (3,), r"token of shape \(batch, 16\), got \(3, 1, 16\)"),
        ({"selection": "blocks"}, (3, 16), (3,), "use selection='exact'"),
    ],
)
def test_bad_calls_of_step(options, token, time, message):
    with pytest.raises(ValueError, match=message):
        layer(causal=True, **options).step(torch.randn(token), torch.zeros(time))


def test_bad_calls_with_another_state():
    attention = layer(causal=True)
    _, state = attention.step(torch.randn(2, 16), torch.zeros(2))
    with pytest.raises(ValueError, match="a batch of 2, the token of one of 3"):
        attention.step(torch.randn(3, 16), torch.ones(3), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "closed"}, "`solver` must be one of exact, euler, .* got 'closed'"),
        ({"horizon": "elapse"}, "`horizon` must be one of unit, gate, elapsed"),
        ({"selection": "block"}, "`selection` must be one of exact, blocks"),
        ({"gate": "Dense"}, "`gate` must be one of sparse, circuit, dense"),
        ({"heads": 0}, "`heads` must be at least 1, got 0"),
        ({"heads": -2}, "`heads` must be at least 1, got -2"),
        ({"width": 0}, "the nearest multiples are 4 and 8"),
        ({"inter": 0}, "`inter` must be at least 1"),
        ({"blocks": -1}, "`blocks` must be at least 0"),
        ({"top_k": 2.5}, "`top_k` must be a whole number, got 2.5"),
        ({"gate": "circuit", "width": 2, "heads": 1}, "set `width` to 4 or more"),
    ],
)
def test_bad_calls_of_the_options(change, message):
    with pytest.raises(ValueError, match=message):
        NeuronalConfig(**change)


def test_bad_calls_of_the_pooling():
    with pytest.raises(ValueError, match="`pooling` must be one of mean, last, none"):
        replace(presets.tiny(), pooling="max")


@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("shape", [(0, 12, 16), (3, 0, 16)])
@pytest.mark.parametrize("options", [{}, {"top_k": 0}, {"selection": "blocks"}])
def test_nothing_at_all(options, shape, learning):
    with torch.set_grad_enabled(learning):
        assert layer(**options)(torch.randn(shape))[0].shape == shape


def test_a_model_of_no_samples_and_of_no_tokens():
    model = neuronal_model(presets.tiny())
    assert model(torch.randn(0, 30, 1)).shape == (0, 2)
    with pytest.raises(ValueError, match="one token or more a sample"):
        model(torch.randn(3, 0, 1))


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
@pytest.mark.parametrize(
    "options",
    [
        {"horizon": "elapsed"},
        {"horizon": "gate"},
        {"integration": "quadrature", "top_k": 0},
    ],
)
def test_times_of_any_type(options, kind):
    """Seconds of today fit float64 alone, and are subtracted in it."""
    attention, x = layer(**options), tokens()
    times = torch.randint(1, 5, (3, 12)).cumsum(1)
    keep = torch.arange(12).expand(3, 12) < 9
    wanted = attention(x, query_times=times.double(), keep=keep)[0][:, :9]
    found = attention(x, query_times=times.to(kind), keep=keep)[0][:, :9]
    assert_close(found, wanted)
    single, late = attention.float(), times.double() + 1.7e9
    found = single(x.float(), query_times=late, keep=keep)[0][:, :9]
    assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
    half = single.bfloat16()(x.bfloat16(), query_times=times, keep=keep)[0]
    assert half.isfinite().all()


def test_a_stream_of_times_of_any_type():
    attention, x = layer(causal=True, horizon="elapsed").float(), tokens().float()
    times = 1.7e9 + torch.rand(3, 12, dtype=torch.float64).cumsum(1)
    whole, state = attention(x, query_times=times)[0], None
    for place in range(12):
        heard, state = attention.step(x[:, place], times[:, place], state)
        assert_close(heard, whole[:, place], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_a_key_stands_for_the_time_between_those_that_are_there(causal):
    """Wherever the padding is, and whatever its stamps are."""
    stamps = torch.tensor([3.0, 4.0, 6.0, 11.0])
    alone = key_spacing(stamps[None], None, causal=causal)[0]
    for there in ([0, 1, 2, 3], [2, 3, 4, 5], [0, 2, 3, 5]):
        times = torch.full((1, 6), torch.nan)
        times[0, there] = stamps
        keep = torch.zeros(1, 6, dtype=torch.bool)
        keep[0, there] = True
        found = key_spacing(times, keep, causal=causal)
        assert_close(found[0, there], alone)
        assert found.isfinite().all()
        assert (found > 0).all()
    assert_close(alone[1:3], torch.tensor([1.0, 2.0] if causal else [1.5, 3.5]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 0},
        {"selection": "blocks", "block": 4, "blocks": 1},
        {"horizon": "elapsed", "solver": "euler"},
    ],
)
def test_padding_of_nan_takes_no_part(options):
    attention, x = layer(**options), tokens()
    keep = torch.arange(12).expand(3, 12) < 9
    times = torch.rand(3, 12).cumsum(1)
    wanted = attention(x, query_times=times, keep=keep)[0][:, :9]
    x[:, 9:] = times[:, 9:] = torch.nan
    found = attention(x, query_times=times, keep=keep)[0][:, :9]
    assert_close(found, wanted)
    found.sum().backward()
    told = [p.grad for p in attention.parameters() if p.grad is not None]
    assert all(each.isfinite().all() for each in told)


def test_a_layer_without_a_horizon_learns_all_it_has():
    attention = layer(horizon="elapsed", solver="steady")
    attention(tokens())[0].sum().backward()  # asks for no times
    assert all(p.grad is not None for p in attention.parameters())


def test_what_is_observed_is_what_blocks_chose():
    attention, x = layer(selection="blocks", block=4, blocks=1), tokens(40)
    _, weights = attention(x, need_weights=True)
    seen = observe(attention, x)
    drawn = torch.zeros_like(weights).scatter_add(
        -1, seen.chosen, seen.alive.to(weights.dtype)
    )
    assert ((drawn > 0) == (weights > 0)).all()
    nobody = observe(attention, x, ~ones(3, 40))
    assert all(each.flow == 0 for each in synapses(attention, nobody))


def test_compiled_code_is_given_nothing_to_read_past():
    q, chosen = torch.randn(2, 2, 9, 8), torch.zeros(2, 2, 9, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="keys"):
        select(q, q[:1], None, 3, False, 0, 0)
    with pytest.raises(ValueError, match="keep"):
        select(q, q, ones(1, 9), 3, False, 0, 0)
    for rows, times in (
        ([q, q, q[:, :, :5]], []),
        ([q[:1], q, q], []),
        ([q, q, q], [q[:, 0, :4, 0], q[:, 0, :, 0], q[0, :, 0, 0]]),
    ):
        with pytest.raises(ValueError, match="expected"):
            attend(rows, chosen, None, times, None, [], True)
    starts, senders = torch.arange(10), torch.zeros(9, dtype=torch.int32)
    if usable(q):
        edges(q, q, q, starts, senders, None)
    for more in ((q, q[:, :, :4], None), (q, q, q[0, 0, :1, :4])):
        with pytest.raises(ValueError, match="expected"):
            edges(q, *more[:2], starts, senders, more[2])
    with pytest.raises(ValueError, match="senders"):
        edges(q, q, q, starts, senders.long(), None)
