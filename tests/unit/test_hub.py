"""Models survive the way to the Hub and back, and their card says what was measured."""

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from nacs import data, freeze
from nacs.attentive import AttentiveCircuit, drop_modules, eliminate_edges, presets
from nacs.card import command
from nacs.errors import UserError
from nacs.neuronal import neuronal_model
from nacs.neuronal import presets as neuronal_presets
from nacs.recipe import TrainConfig
from nacs.runs import read_json
from nacs.sequence import SequenceModel
from nacs.tasks import fitted
from nacs.train import train

FILES = {"config.json", "model.safetensors", "README.md"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """As HF_HUB_OFFLINE=1, which is read when the library is first imported."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch, with options that are not the default."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("runs") / "digits"
    dataset = data.load("digits")
    few = {part: getattr(dataset, part).take(range(40)) for part in ("train", "val")}
    dataset = replace(dataset, **few)
    sizes = fitted(replace(presets.tiny(), modules=12, gated=False), dataset)
    training = TrainConfig(epochs=1, batch=20, learning_rate=2e-3, seed=3)
    train("attentive", sizes, dataset, training, folder)
    return folder


def trained_links():
    config = replace(presets.tiny(), learnable_bandwidth=True, truncation=1.2)
    model = AttentiveCircuit(config)
    for each in model.parameters():
        each.data.add_(0.1 * torch.randn_like(each))
    return model.eval()


def pruned():
    return eliminate_edges(drop_modules(trained_links(), keep=5), removed=0.6)


def neuronal():
    return neuronal_model(neuronal_presets.elapsed()).eval()


@pytest.mark.parametrize("make", [trained_links, pruned, neuronal])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_comes_back_bit_for_bit(make, dtype, tmp_path):
    model = make().to(dtype)
    model.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    again = type(model).from_pretrained(tmp_path / "model")
    kept, found = model.state_dict(), again.state_dict()
    assert kept.keys() == found.keys()
    assert all(torch.equal(kept[name], found[name]) for name in kept)
    assert {each.dtype for each in again.parameters()} == {dtype}
    assert not again.training
    if dtype is not torch.bfloat16:
        shape = (2, 1, 8, 8) if isinstance(model, AttentiveCircuit) else (2, 9, 1)
        inputs = torch.rand(shape, dtype=dtype).cumsum(1)
        assert torch.equal(model(inputs), again(inputs))


def test_a_run_is_a_model_and_its_card_has_the_runs_figures(run, tmp_path):
    model = AttentiveCircuit.from_pretrained(run)
    model.save_pretrained(tmp_path)
    result, config = read_json(run / "result.json"), read_json(run / "config.json")
    assert read_json(tmp_path / "config.json") == config
    assert read_json(tmp_path / "result.json") == result
    card = (tmp_path / "README.md").read_text()
    accuracy, count = result["test_accuracy"], result["test_count"]
    assert f"| test accuracy | {accuracy:.4g} on {count} samples |" in card
    assert f"value: {result['test_accuracy']}" in card
    assert "digits: image, 1 × 8 × 8, 10 classes" in card
    assert f"nacs {result['versions']['nacs']}" in card
    assert "| seed | 3 |" in card
    assert "| parameters | " in card
    loaded = huggingface_hub.ModelCard(card)
    loaded.data.model_name, loaded.data.library_name = "digits", "nacs"
    assert loaded.data.eval_results[0].metric_type == "accuracy"
    again = AttentiveCircuit.from_pretrained(tmp_path)
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == card


def test_the_card_names_the_command_that_repeats_the_run(run):
    from nacs.console import parse
    from nacs.verbs.train import Options, with_sizes

    config = read_json(run / "config.json")
    words = shlex.split(command(config))
    assert words[:3] == ["nacs", "train", "digits"]
    assert "--sizes.no-gated" in words
    start = fitted(presets.tiny(), data.load("digits"))
    options = parse(with_sizes(Options, start), words[2:], "train", "")
    assert json.loads(json.dumps(asdict(options.sizes))) == config["sizes"]
    assert json.loads(json.dumps(asdict(options.training))) == config["training"]
    assert (options.model, options.preset) == ("attentive", "tiny")


def test_no_command_repeats_a_run_that_started_from_another(run, tmp_path):
    """Which folder the other is in, its config.json does not say."""
    digits = data.load("digits")
    sizes = AttentiveCircuit.from_pretrained(run).config
    train("attentive", sizes, digits, TrainConfig(epochs=1), tmp_path / "on", start=run)
    AttentiveCircuit.from_pretrained(tmp_path / "on").save_pretrained(tmp_path / "card")
    card = (tmp_path / "card" / "README.md").read_text()
    assert "| started from | weights of a run on digits |" in card
    assert "accuracy" in card
    assert "nacs train" not in card


def test_figures_are_not_told_of_other_weights(run, tmp_path):
    model = AttentiveCircuit.from_pretrained(run)
    next(model.parameters()).data.add_(1)
    model.save_pretrained(tmp_path / "changed")
    drop_modules(AttentiveCircuit.from_pretrained(run), 3).save_pretrained(
        tmp_path / "pruned"
    )
    for name in ("changed", "pruned"):
        card = (tmp_path / name / "README.md").read_text()
        assert "accuracy" not in card
        assert "nacs train" not in card
        assert not (tmp_path / name / "result.json").exists()
    # how inputs are scaled is still true
    assert "data" in read_json(tmp_path / "changed" / "config.json")


def test_where_the_data_lay_is_not_told(run, tmp_path):
    model = AttentiveCircuit.from_pretrained(run)
    model.origin["config"]["data"]["source"] = "/home/somebody/secret/digits.npz"
    model.save_pretrained(tmp_path)
    for name in ("config.json", "README.md"):
        text = (tmp_path / name).read_text()
        assert "digits.npz" in text
        assert "somebody" not in text


def test_what_is_pushed_is_what_is_saved(run, tmp_path, monkeypatch):
    calls, sent = [], {}

    class Hub:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, repo, *, private, exist_ok):
            calls.append(("create", repo, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            calls.append(("upload", repo_id, commit_message))
            for path in Path(folder_path).iterdir():
                sent[path.name] = path.read_bytes()
            return SimpleNamespace(commit_url="https://huggingface.co/me/digits/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    model = AttentiveCircuit.from_pretrained(run)
    url = model.push_to_hub("me/digits", private=True, token="t", message="First")
    assert url == "https://huggingface.co/me/digits/1"
    create, upload = (
        ("create", "me/digits", True, True),
        ("upload", "me/digits", "First"),
    )
    assert calls == [("token", "t"), create, upload]
    model.save_pretrained(tmp_path)
    assert sent == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(sent) == FILES | {"result.json"}


def test_a_repository_is_fetched_by_its_name(run, tmp_path, monkeypatch):
    AttentiveCircuit.from_pretrained(run).save_pretrained(tmp_path / "snapshot")
    asked = []

    def fetched(repository, **options):
        asked.append((repository, options))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    model = AttentiveCircuit.from_pretrained("me/digits", revision="v1", token="t")
    assert model.config.modules == 12
    ((repository, options),) = asked
    assert (repository, options["revision"], options["token"]) == (
        "me/digits",
        "v1",
        "t",
    )
    assert set(options["allow_patterns"]) == FILES | {"result.json"}


def test_the_hub_out_of_reach_is_one_message(tmp_path):
    match = "me/none: no such folder, and nothing to be had from the Hub"
    with pytest.raises(UserError, match=match):
        AttentiveCircuit.from_pretrained("me/none", cache_dir=tmp_path)
    with pytest.raises(UserError, match="not a name: no such folder"):
        AttentiveCircuit.from_pretrained("not a name")
    with pytest.raises(UserError, match="me/none: could not be uploaded"):
        trained_links().push_to_hub("me/none")


def test_what_cannot_be_a_model_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="save it before `freeze`"):
        freeze(trained_links()).save_pretrained(tmp_path / "frozen")
    assert not (tmp_path / "frozen").exists()
    with pytest.raises(UserError, match="is the folder of a run"):
        trained_links().save_pretrained(run)
    neuronal().save_pretrained(tmp_path / "neuronal")
    with pytest.raises(UserError, match="expected a AttentiveCircuit; call Sequence"):
        AttentiveCircuit.from_pretrained(tmp_path / "neuronal")
    broken = tmp_path / "neuronal" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(UserError, match="a broken checkpoint"):
        SequenceModel.from_pretrained(tmp_path / "neuronal")
