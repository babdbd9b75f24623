"""The rivals of the neuronal model do what their papers say."""

import pytest
import torch
from scipy.integrate import solve_ivp
from torch.testing import assert_close
from torchdiffeq import odeint

from nacs.baselines.liquid import Liquid
from nacs.baselines.ode import ContiFormer, OdeRecurrent
from nacs.baselines.recurrent import PhasedLSTM, Recurrent, since_before
from nacs.baselines.rivals import MIXERS, RivalConfig
from nacs.baselines.time_attention import TimeAttention

TIMED = sorted(MIXERS)


@pytest.mark.parametrize("name", TIMED)
def test_time_stamps_count(name):
    mixer = MIXERS[name](8, 2)
    tokens, times = torch.randn(2, 6, 8), torch.rand(2, 6).cumsum(1)
    assert not torch.allclose(mixer(tokens, times), mixer(tokens, 2 * times), rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(MIXERS) - {"phased-lstm"}))
def test_causal_rivals_hear_no_later_token(name):
    mixer = MIXERS[name](8, 2, True)
    tokens, times = torch.randn(1, 6, 8), torch.rand(1, 6).cumsum(1)
    changed, later = tokens.clone(), times.clone()
    changed[:, 4:], later[:, 4:] = 5, 99
    assert_close(mixer(tokens, times)[:, :4], mixer(changed, later)[:, :4])


def test_time_since_the_token_before():
    times = torch.tensor([[2.0, 2.5, 4.0, 0.0]])  # the last is padding
    assert_close(since_before(times), torch.tensor([[0.0, 0.5, 1.5, 0.0]]))


def test_phased_lstm_opens_for_a_part_of_its_period():
    mixer = PhasedLSTM(1)
    with torch.no_grad():
        mixer.log_period.fill_(0.0)
        mixer.shift.fill_(0.25)
        mixer.open.fill_(0.4)
    times = torch.tensor([[0.25, 0.35, 0.45, 0.55, 0.65, 1.05, 1.45]])
    k = mixer.openness(times).flatten()
    wanted = torch.tensor([0.0, 0.5, 1.0, 0.5, 4e-4, 8e-4, 1.0])
    assert_close(k, wanted, atol=1e-9, rtol=0)
    with torch.no_grad():
        mixer.shift.fill_(0.5)
        mixer.open.fill_(0.01)
    mixer.leak = 0.0
    out = mixer(torch.randn(1, 4, 1), torch.tensor([[0.6, 0.7, 0.8, 0.9]]))
    assert_close(out, torch.zeros(1, 4, 1))  # closed all the time: nothing is stored


def test_ct_rnn_follows_its_ode():
    """Two midpoint steps against an exact solver: their error is below 2e-3 here."""
    mixer = OdeRecurrent(3, "ct-rnn")
    token, times = torch.randn(1, 1, 3), torch.zeros(1, 1)
    drive = mixer.hear(token[:, 0]).detach()
    truth = solve_ivp(
        lambda _, h: mixer.slope(torch.tensor(h)[None], drive)[0].detach().numpy(),
        (0, 0.1),
        [0.0] * 3,
        rtol=1e-9,
    ).y[:, -1]
    assert_close(mixer(token, times)[0, 0], torch.tensor(truth), atol=2e-3, rtol=0)


def test_gru_ode_relaxes_when_nothing_happens():
    mixer = OdeRecurrent(4, "gru-ode")
    tokens = torch.randn(1, 2, 4)
    near, far = (mixer(tokens, torch.tensor([[0.0, t]]))[:, 1] for t in (0.0, 1.0))
    assert not torch.allclose(near, far)
    at_once = mixer.jump(tokens[:, 1], mixer(tokens[:, :1], torch.zeros(1, 1))[:, 0])
    assert_close(near, at_once)


def test_contiformer_without_time_between_is_plain_attention():
    mixer = ContiFormer(8, 2)
    tokens, times = torch.randn(2, 5, 8), torch.ones(2, 5)
    q, k, v = (
        x.unflatten(-1, (2, 4)).transpose(1, 2)
        for x in mixer.project(tokens).chunk(3, -1)
    )
    heard = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert_close(mixer(tokens, times), mixer.out(heard.transpose(1, 2).flatten(-2)))


@pytest.mark.parametrize("causal", [False, True])
def test_contiformer_moves_keys_and_values_by_the_midpoint_rule(causal):
    """Pair by pair, by torchdiffeq, and the way back; 3 samples in 2 blocks."""
    mixer = ContiFormer(8, 2, causal)
    mixer.PAIRS = 2 * 5 * 5 * 2 * 8
    with torch.no_grad():
        mixer.flow.weight.normal_()
    tokens = torch.randn(3, 5, 8, requires_grad=True)
    times = torch.rand(3, 5).cumsum(1)
    keep = torch.arange(5) < torch.tensor([[5], [3], [5]])

    heads = mixer.project(tokens).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    q, still = heads[0], torch.cat([heads[1], heads[2]], -1)
    apart = (times[:, :, None] - times[:, None]).abs()[:, None, :, :, None]
    pace = 1 - torch.exp(-mixer.log_pace.exp() * apart)
    moved = odeint(
        lambda _, x: pace * (torch.tanh(mixer.flow(x)) - x),
        still.unsqueeze(2).expand(-1, -1, 5, -1, -1),
        torch.tensor([0.0, 1.0]),
        method="midpoint",
        options={"step_size": 1.0},
    )[-1]
    keys, values = moved.chunk(2, -1)
    logits = torch.einsum("bhqd, bhqkd -> bhqk", q, keys) / 2
    hears = keep[:, None, None] & (torch.ones(5, 5).tril().bool() | (not causal))
    shares = logits.masked_fill(~hears, -torch.inf).softmax(-1)
    heard = torch.einsum("bhqk, bhqkd -> bqhd", shares, values).flatten(-2)
    wanted = mixer.out(heard)

    found = mixer(tokens, times, keep)
    assert_close(found, wanted)
    to = [tokens, *mixer.parameters()]
    for ours, plain in zip(
        torch.autograd.grad(found.square().sum(), to),
        torch.autograd.grad(wanted.square().sum(), to),
        strict=True,
    ):
        assert_close(ours, plain)


def test_multi_time_attention_looks_at_times_alone():
    mixer, other = (TimeAttention(8, 2, times_alone=alone) for alone in (True, False))
    tokens, times = torch.randn(1, 5, 8), torch.rand(1, 5).cumsum(1)

    def is_linear(mix):
        return torch.allclose(
            mix(2 * tokens, times) - mix(tokens, times),
            mix(tokens, times) - mix(0 * tokens, times),
        )

    assert is_linear(mixer)
    assert not is_linear(other)


def test_one_gap_a_sample_and_a_step():
    """ncps applies (batch, time) spans to the wrong axis: a batch is its samples."""
    for cell in ("cfc", "ltc"):
        mixer = Liquid(6, cell)
        tokens, times = torch.randn(3, 6, 6), torch.rand(3, 6).cumsum(1)
        apart = torch.cat(
            [mixer(tokens[i : i + 1], times[i : i + 1]) for i in range(3)]
        )
        assert_close(mixer(tokens, times), apart)


def test_recurrent_equals_torch():
    mixer = Recurrent(4, "gru")
    tokens, times = torch.randn(2, 5, 4), torch.rand(2, 5).cumsum(1)
    waited = since_before(times).unsqueeze(-1)
    assert_close(mixer(tokens, times), mixer.cell(torch.cat([tokens, waited], -1))[0])


def test_bad_rivals():
    with pytest.raises(ValueError, match="there is no mixer 'gruu'"):
        RivalConfig(mixer="gruu")
    with pytest.raises(ValueError, match="multiple of `heads`"):
        RivalConfig(heads=5)
    with pytest.raises(ValueError, match="`hidden` must be at least 1"):
        RivalConfig(hidden=0)
