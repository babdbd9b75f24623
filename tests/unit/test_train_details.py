"""What each option of training does, seen from its effect."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from nacs import data
from nacs.attentive import AttentiveCircuit, presets
from nacs.augment import augmented, mix
from nacs.data.base import Batch, DataFacts
from nacs.data.listops import make_listops
from nacs.data.splits import assemble
from nacs.data.unlabelled import read_unlabelled
from nacs.evaluation import evaluate, predict
from nacs.graph import graph_figures
from nacs.recipe import TrainConfig
from nacs.runs import (
    facts_of,
    load_run,
    load_tensors,
    read_json,
    read_metrics,
    write_json,
)
from nacs.tasks import fitted
from nacs.tokenizers import TokenizerConfig, build_tokenizer
from nacs.train import train


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def digits():
    whole = data.load("digits")
    return replace(whole, train=whole.train.take(range(0, len(whole.train), 8)))


def trained(out, digits, **changes):
    config = TrainConfig(**({"epochs": 1, "batch": 32} | changes))
    train("attentive", presets.tiny(), digits, config, out)
    return load_tensors(out / "checkpoint" / "model.safetensors")


def start():
    torch.manual_seed(0)
    return AttentiveCircuit(presets.tiny()).state_dict()


def test_signatures_have_a_rate_of_their_own(tmp_path, digits):
    still = trained(tmp_path, digits, signature_rate=0.0)
    name = "generator.processors.signatures"
    assert_close(still[name], start()[name])
    assert not torch.equal(still["generator.processors.codes"], start()[name])


def test_a_clipped_gradient_is_small(tmp_path, digits):
    """So small that Adam's epsilon holds every step back."""
    usual = {"weight_decay": 0.0, "warmup_epochs": 0.0}
    for clip, near in ((1e-14, True), (1.0, False)):
        now = trained(tmp_path / str(clip), digits, clip=clip, **usual)
        before = {k: v for k, v in start().items() if v.is_floating_point()}
        moved = max((now[k] - v).abs().max() for k, v in before.items())
        assert (moved < 1e-5) == near


def test_the_graph_weight_counts(tmp_path, digits):
    usual = {"epochs": 4, "learning_rate": 3e-3, "signature_rate": 10.0}
    loss = {}
    for weight in (0.0, 30.0):
        trained(tmp_path / str(weight), digits, graph_weight=weight, **usual)
        rows = read_metrics(tmp_path / str(weight) / "metrics.jsonl")
        loss[weight] = rows[-1]["graph_loss"]
    assert loss[30.0] < 0.5 * loss[0.0]


def test_evaluation_leaves_the_model_as_it_was(digits):
    model = AttentiveCircuit(presets.tiny())
    evaluate(model.train(), digits.val)
    assert model.training
    evaluate(model.eval(), digits.val)
    assert not model.training


def test_augmentation_keeps_the_scale(digits):
    """A distortion that hits no image leaves the inputs as they were."""
    batch = digits.train.batch(range(16))
    changed, _ = augmented(batch, digits, TrainConfig(erasing=1e-9))
    assert_close(changed, batch.inputs, atol=1e-5, rtol=1e-5)


def test_ragged_samples_are_not_mixed():
    series = data.load("event-mnist")
    batch = series.train.batch(range(16))
    inputs, targets = augmented(batch, series, TrainConfig(mixup=1.0, cutmix=1.0))
    assert torch.equal(inputs, batch.inputs)
    assert torch.equal(targets, batch.targets)


def test_cutmix_shares_targets_by_area():
    images = torch.arange(8.0)[:, None, None, None].expand(8, 1, 9, 9)
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, soft = mix(images, torch.arange(8), classes=8, cutmix=1.0)
        assert_close(mixed.mean((1, 2, 3)), soft @ torch.arange(8.0))


def test_figures_of_a_circuit_written_from_a_context():
    told = replace(presets.tiny().tokenizer, kind="bytes")
    sizes = replace(presets.tiny(), generator="conditional", context=told)
    model = AttentiveCircuit(sizes)
    image, words = torch.zeros(2, 1, 8, 8), torch.tensor([[1, 2], [3, 4]])
    batch = Batch(image, torch.zeros(2), context=words)
    first = graph_figures(model, batch)
    other = graph_figures(model, batch._replace(context=words + 100))
    assert first != other
    assert graph_figures(model, batch._replace(inputs=image + 1)) == first


def test_bytes_know_their_place_and_their_range():
    tokenizer = build_tokenizer(TokenizerConfig(kind="bytes", width=8))
    ahead, back = tokenizer(torch.tensor([[1, 2], [2, 1]]))[0]
    assert not torch.allclose(ahead, back.flip(0))
    with pytest.raises(ValueError, match="symbols from 0 to 255, got 256"):
        tokenizer(torch.tensor([[0, 256]]))
    with pytest.raises(ValueError, match="symbols from 0 to 255, got -1"):
        tokenizer(torch.tensor([[0, -1]]))


def test_bad_calls_with_symbols_that_are_no_integers():
    tokenizer = build_tokenizer(TokenizerConfig(kind="bytes", width=8))
    with pytest.raises(ValueError, match="integer symbols"):
        tokenizer(torch.zeros(1, 2))


def test_a_word_hears_its_neighbours_where_there_are_blocks():
    config = TokenizerConfig(kind="tokens", width=8, vocabulary=9, blocks=(1,))
    tokenizer, words = build_tokenizer(config), torch.zeros(1, 9, dtype=torch.long)
    other = words.clone()
    other[0, 0] = 1
    changed = (tokenizer(words)[0] != tokenizer(other)[0]).any(-1)[0]
    assert changed.tolist() == [True] * 4 + [False] * 5
    with pytest.raises(ValueError, match="must be one number"):
        replace(config, blocks=(1, 1))


def test_blocks_for_symbols_stay_when_sizes_are_fitted():
    wanted = TokenizerConfig(kind="tokens", width=8, blocks=(2,))
    words = assemble(make_listops((40, 20, 20), shortest=5, longest=20), seed=0)
    assert fitted(
        replace(presets.tiny(), tokenizer=wanted), words
    ).tokenizer.blocks == (2,)
    assert fitted(presets.small(), words).tokenizer.blocks == ()


def test_points_are_told_in_waves():
    """Without waves a token would be affine in its coordinates."""
    tokenizer = build_tokenizer(TokenizerConfig(kind="points", width=8, bands=3))
    points = torch.tensor([[[0.0, 0, 0], [0.3, 0, 0], [0.6, 0, 0]]])
    low, middle, high = tokenizer(points)[0][0]
    assert not torch.allclose(middle - low, high - middle, atol=1e-3)


def test_packed_images_are_scaled_as_in_training(tmp_path):
    files = []
    for side in (9, 12):
        file = io.BytesIO()
        Image.new("L", (side, side), 7 * side).save(file, "PNG")
        files.append(np.frombuffer(file.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "x.npz", blob=np.concatenate(files), offsets=offsets)
    facts = DataFacts(
        source="x",
        kind="image",
        classes=("a", "b"),
        shape=(1, 6, 6),
        columns=(),
        size=6,
        length=None,
        mean=None,
        deviation=None,
    )
    split = read_unlabelled([tmp_path / "x.npz"], facts)
    assert split.inputs.shape == (2, 1, 6, 6)
    assert split.inputs[0, 0, 0, 0] == 63


def test_numbers_are_learned_on_their_own_scale(tmp_path):
    """Targets around a million: without their mean and deviation nothing is learned."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (200, 4, 4), np.uint8)
    y = (1e6 + 50 * x.mean((1, 2))).astype(np.float64)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    dataset = data.load(tmp_path / "x.npz")
    batch = dataset.train.batch(range(len(dataset.train)))
    assert batch.targets.mean().item() == pytest.approx(0, abs=1e-3)
    assert batch.targets.std().item() == pytest.approx(1, abs=0.05)
    tokenizer = TokenizerConfig(
        kind="patches", width=32, channels=1, size=(4, 4), patch=2, positions=16
    )
    sizes = replace(presets.tiny(), tokenizer=tokenizer, classes=1)
    config = TrainConfig(epochs=15, batch=32, learning_rate=3e-3)
    result = train("attentive", sizes, dataset, config, tmp_path / "run")
    spread = dataset.test.targets.std()
    assert result["test_rmse"] < 0.7 * spread
    model, described = load_run(tmp_path / "run")
    split = read_unlabelled([tmp_path / "x.npz"], facts_of(described))
    found = predict(model, split).squeeze(-1).numpy()
    assert np.abs(found - y).mean() < spread


def test_a_run_of_before_a_new_size_goes_on(tmp_path, digits):
    """Its config.json lacks the field, whose default it was trained with."""
    before = trained(tmp_path, digits)
    config = read_json(tmp_path / "config.json")
    del config["sizes"]["tokenizer"]["blocks"]
    write_json(tmp_path / "config.json", config)
    after = trained(tmp_path, digits)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("preset", [presets.small(), presets.tiny(), presets.demo()])
def test_patches_take_the_place_of_a_stem_that_does_not_fit(preset, digits):
    odd = digits.train.inputs[:, :, :7, :7]
    wanted = fitted(preset, replace(digits, train=replace(digits.train, inputs=odd)))
    assert (wanted.tokenizer.kind, wanted.tokenizer.size) == ("patches", (7, 7))
    assert wanted.tokenizer.width == preset.tokenizer.width
