"""Frames: windows of a recording, a tokenizer for them, and an answer a frame."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from nacs import data
from nacs.cli import main
from nacs.data.frames import STRETCH, WINDOW, rows_of, stretches, windows
from nacs.data.readers import read
from nacs.data.splits import PARTS
from nacs.errors import UserError
from nacs.models import MODELS
from nacs.neuronal import neuronal_model, presets
from nacs.tasks import MEMORY, fitted, tokenizer_for
from nacs.tokenizers import TokenizerConfig, build_tokenizer

LEAST = 3 * STRETCH * WINDOW
CAUSAL = ("rnn", "lstm", "gru", "phased-lstm", "cfc", "ltc", "gru-ode", "ct-rnn")
ATTENDING = ("multi-head", "mtan", "contiformer")


def pictures(count, height=10, width=16):
    """Red is n + 10 in frame n and brighter to the right, green and blue are less."""
    shade = (np.arange(count) % 200 + 10)[:, None, None, None]
    brighter = shade + np.arange(width).reshape(1, 1, -1, 1)
    coloured = (brighter / [1, 2, 4]).astype(np.uint8)
    return np.broadcast_to(coloured, (count, height, width, 3))


def save_drive(path, count=LEAST, **change):
    """A drive in the layout of the Udacity frames, as PNG so that nothing is lost."""
    encoded = []
    for picture in pictures(count):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        encoded.append(file.getvalue())
    arrays = {
        "blob": np.frombuffer(b"".join(encoded), np.uint8),
        "offsets": np.cumsum([0, *map(len, encoded)]),
        "control": np.arange(count, dtype=np.float32)[:, None] * [1, 0, 0, 9],
        "time_ms": 5000 + 70 * np.arange(count) + np.arange(count) % 2,
    }
    arrays |= change
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


@pytest.fixture
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return save_drive(tmp_path_factory.mktemp("drive") / "drive.npz")


def frames_model(pooling="none", **change):
    config = presets.tiny()
    tokenizer = TokenizerConfig(kind="frames", width=32, channels=2, size=(5, 8))
    attention = replace(config.attention, causal=True, window=4, **change)
    return neuronal_model(
        replace(
            config, tokenizer=tokenizer, attention=attention, layers=2, pooling=pooling
        )
    )


def observed(batch=2, count=9):
    rows = torch.randn(batch, count, 81)
    rows[..., 0] = torch.rand(batch, count).cumsum(1)
    return rows


def test_windows_are_views_of_one_recording():
    rows = rows_of(np.full((70, 1, 2, 3), 51, np.uint8), np.arange(70) / 4)
    cut = windows(rows)
    assert [len(each) for each in cut] == [WINDOW, WINDOW]
    assert all(each.base is rows for each in cut)
    assert_close(rows[5], np.array([1.25, *[0.2] * 6], np.float32))


def test_stretches_have_a_gap_between_them():
    kept, stretch = stretches(126)
    assert np.bincount(stretch).tolist() == [STRETCH - 1] * 18
    gaps = np.diff(kept)
    assert (gaps[np.diff(stretch) == 1] == 2).all()
    assert (gaps[np.diff(stretch) == 0] == 1).all()


def test_a_drive_becomes_windows_of_halved_frames(drive):
    samples = read(drive)
    assert (samples.kind, samples.frame) == ("frames", (3, 5, 8))
    first = samples.inputs[0]
    assert first.shape == (WINDOW, 1 + 3 * 5 * 8)
    assert_close(first[:3, 0], np.array([0, 0.071, 0.140], np.float32))
    # frame 3 is 13 and brighter by a level a pixel to the right; two pixels become one
    inner = first[3, 1:].reshape(3, 5, 8)[0, 2, 1:-1] * 255
    assert_close(inner, 13 + np.arange(2.5, 14, 2, np.float32), atol=0.51, rtol=0)
    assert samples.targets.shape == (len(samples.inputs), WINDOW, 1)
    starts = [int(each.split()[1]) for each in samples.ids]
    for start, target in zip(starts, samples.targets, strict=True):
        assert_close(target[:, 0], start + np.arange(WINDOW, dtype=np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_no_frame_of_a_drive_is_in_two_splits_nor_next_to_another(drive, seed):
    dataset = data.load(drive, seed=seed)
    times = {
        name: np.concatenate([each[:, 0] for each in getattr(dataset, name).inputs])
        for name in PARTS
    }
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        apart = np.abs(times[one][:, None] - times[other]).min()
        assert apart > WINDOW * 0.07, (one, other)  # 70 ms a frame


def test_the_scale_of_frames_is_one_of_the_time_and_one_a_channel(drive):
    dataset = data.load(drive)
    assert dataset.train.mean is not None
    assert dataset.train.mean.shape == (4,)
    batch = dataset.train.batch(range(len(dataset.train)))
    values = batch.inputs[..., 1:].unflatten(-1, dataset.frame)
    # sums in float32
    assert_close(values.mean((0, 1, 3, 4)), torch.zeros(3).float(), atol=1e-4, rtol=0)
    spread = values.std((0, 1, 3, 4), correction=0)
    assert_close(spread, torch.ones(3).float(), atol=1e-4, rtol=0)
    steps = batch.inputs[..., 0].diff(dim=1)
    assert_close(steps.mean(), torch.tensor(1.0).float(), atol=1e-3, rtol=0)
    assert (batch.targets.shape, dataset.outputs) == ((len(batch.targets), 32, 1), 1)
    # one mean and deviation of all frames, not one a place in the window
    assert dataset.train.target_mean.shape == (1,)
    assert_close(batch.targets.mean().item(), 0.0, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control": None}, "expected an array control"),
        ({"time_ms": np.arange(3)}, r"expected time_ms of shape \(672,\) and control"),
        (
            {"control": np.zeros((5, 4))},
            r"\(672, controls\), got \(672,\) and \(5, 4\)",
        ),
        ({"time_ms": -np.arange(LEAST)}, "time runs backwards"),
        ({"blob": np.zeros(9)}, "expected blob to be bytes"),
    ],
)
def test_a_drive_that_contradicts_itself(tmp_path, change, message):
    path = save_drive(tmp_path / "drive.npz", **change)
    with pytest.raises(UserError, match=message):
        data.load(path)


def test_a_drive_too_short_to_be_split(tmp_path, capsys):
    path = save_drive(tmp_path / "drive.npz", count=WINDOW)
    assert main(["train", str(path), "--model", "neuronal"]) == 2
    assert "expected at least 672 frames" in capsys.readouterr().err
    assert len(read(path, labelled=False).inputs) == 1


def test_the_udacity_drive(shared):
    path = shared / "data" / "udacity_center_66x200.npz"
    if not path.exists():
        pytest.skip("the frames are not in ../shared")
    dataset = data.load(path)
    assert dataset.frame == (3, 33, 100)
    counts = [len(split) for split in (dataset.train, dataset.val, dataset.test)]
    assert counts == [72, 12, 24]


def test_a_token_a_frame():
    config = TokenizerConfig(kind="frames", width=32, channels=2, size=(5, 8))
    tokens, keep = build_tokenizer(config)(observed())
    assert (tokens.shape, keep) == ((2, 9, 32), None)


def test_bad_calls_of_the_tokenizer_of_frames():
    config = TokenizerConfig(kind="frames", width=32, channels=2, size=(5, 8))
    with pytest.raises(ValueError, match=r"expected 81 columns \(the time and 2 × 5 ×"):
        build_tokenizer(config)(observed()[..., :-1])
    with pytest.raises(
        ValueError, match=r"expected frames of shape \(batch, time, 81\)"
    ):
        build_tokenizer(config)(observed()[0])
    with pytest.raises(ValueError, match="4 pixels high and wide or more, got 3 × 8"):
        TokenizerConfig(kind="frames", size=(3, 8))


def test_a_frame_is_seen_alone_with_its_channels_and_its_time():
    tokenizer = build_tokenizer(
        TokenizerConfig(kind="frames", width=32, channels=2, size=(5, 8))
    )
    rows = observed()
    before, _ = tokenizer(rows)
    for column in (0, 1, 80):
        changed = rows.clone()
        changed[1, 4, column] += 0.3
        moved = (tokenizer(changed)[0] - before).abs().amax(-1)
        assert moved[1, 4] > 1e-6
        assert (moved > 0).sum() == 1
    later = rows.clone()
    later[..., 0] += 128  # a period of every wave, as they start
    assert_close(tokenizer(later)[0], before)


@pytest.mark.parametrize("pooling", ["none", "mean", "last"])
def test_a_stream_of_frames_is_the_whole_causal_sequence(pooling):
    model, rows = frames_model(pooling, horizon="elapsed"), observed()
    state, answers = None, []
    for place in range(9):
        answer, state = model.step(rows[:, place, 1:], rows[:, place, 0], state)
        answers.append(answer)
        assert all(mixer.keys.shape[2] <= 4 for mixer in state.mixers)
    whole = model(rows)
    wanted = torch.stack(answers, 1) if pooling == "none" else answers[-1]
    assert_close(whole, wanted)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_stream_through_a_recurrent_rival(cell):
    config = replace(
        MODELS[cell].preset("tiny"),
        tokenizer=TokenizerConfig(kind="frames", width=32, channels=2, size=(5, 8)),
        pooling="none",
    )
    model, rows, state = MODELS[cell].build(config), observed(), None
    whole = model(rows)
    for place in range(9):
        answer, state = model.step(rows[:, place, 1:], rows[:, place, 0], state)
        assert_close(answer, whole[:, place])


@pytest.mark.parametrize("name", ["neuronal", *CAUSAL, *ATTENDING])
def test_models_that_answer_every_frame_hear_no_later_one(name, drive):
    dataset = data.load(drive)
    config = fitted(MODELS[name].preset("tiny"), dataset)
    assert config.pooling == "none"
    model, inputs = MODELS[name].build(config).eval(), torch.randn(1, 6, 121)
    inputs[..., 0] = torch.arange(6)
    changed = inputs.clone()
    changed[:, 4:, 1:] += 1
    before, after = model(inputs), model(changed)
    assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().min() > 1e-6


def test_attention_over_frames_has_a_bounded_memory(drive):
    attention = fitted(presets.tiny(), data.load(drive)).attention
    assert (attention.causal, attention.window) == (True, MEMORY)


@pytest.mark.parametrize("name", ["transformer", "attentive"])
def test_models_that_hear_later_frames_are_refused(name, drive):
    dataset = data.load(drive)
    with pytest.raises(UserError, match="hears no later ones, got .*; give --model"):
        fitted(MODELS[name].preset("tiny"), dataset)


def test_the_tokenizer_of_frames(drive):
    found = tokenizer_for(data.load(drive, size=4), presets.tiny().tokenizer)
    assert (found.kind, found.channels, found.size) == ("frames", 3, (4, 6))


@pytest.mark.usefixtures("_float32")
def test_train_evaluate_and_predict_a_drive(drive, tmp_path, capsys):
    out = tmp_path / "run"
    given = ["train", str(drive), "--model", "neuronal", "--preset", "tiny", "--json"]
    given += ["--training.epochs", "2", "--training.batch", "4", "--out", str(out)]
    assert main(given) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["rmse"] == pytest.approx(result["test_rmse"])
    # the mean squared error in the unit of the targets is the loss under their scale
    deviation = json.loads((out / "config.json").read_text())["data"][
        "target_deviation"
    ]
    assert again["rmse"] == pytest.approx(again["loss"] ** 0.5 * deviation[0])
    assert main(["predict", str(out), str(drive), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [len(rows), rows[1]["id"]] == [LEAST, f"{drive}:frame 0 + 1"]
    assert set(rows[0]) == {"id", "target_0"}


@pytest.mark.usefixtures("_float32")
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model", "attentive"], "hears no later ones, got AttentiveConfig"),
        (["--model", "neuronal", "--length", "9"], "got 9 for .* of kind frames"),
        (
            ["--model", "neuronal", "--preset", "tiny", "--sizes.pooling", "mean"],
            r"answers of shape \(\d+, 32, 1\), got \(\d+, 1\); `pooling` is none",
        ),
    ],
)
def test_mistakes_with_frames_are_one_line(drive, tmp_path, capsys, extra, message):
    given = ["train", str(drive), "--out", str(tmp_path / "run"), *extra]
    assert main(given) == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.usefixtures("_float32")
def test_observations_of_frames_are_not_left_out(drive, tmp_path, capsys):
    out = tmp_path / "run"
    given = ["train", str(drive), "--model", "gru", "--preset", "tiny"]
    main([*given, "--training.epochs", "1", "--out", str(out)])
    capsys.readouterr()
    assert main(["evaluate", str(out), "--drop", "0.3"]) == 2
    assert "--drop is for series" in capsys.readouterr().err
