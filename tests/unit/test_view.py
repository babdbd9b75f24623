"""The explorer: what it shows of a run, its server's manners, its single file."""

import base64
import json
import re

import numpy as np
import pytest
import torch

from nacs.attentive import drop_modules, eliminate_edges, presets
from nacs.attentive.model import AttentiveCircuit
from nacs.cli import main
from nacs.data import load
from nacs.evaluation import predict
from nacs.flops import multiply_adds
from nacs.models import lookup
from nacs.recipe import TrainConfig
from nacs.runs import describe_run, save_run, write_metrics
from nacs.tasks import fitted
from nacs.view import Viewed, surgery
from nacs.view.graph import along_the_codes, graph_part
from nacs.view.matrices import matrix_part
from nacs.view.numbers import as_bytes, finite
from nacs.view.page import ASSETS, asset, everything, inlined


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


def made_run(folder, model="attentive", data="digits", **changes):
    """A run folder with untrained weights, which is a run to the explorer."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    dataset, row = load(data), lookup(model)
    sizes = fitted(row.preset("tiny"), dataset)
    for name, value in changes.items():
        object.__setattr__(sizes, name, value)
    config = describe_run(model, sizes, TrainConfig(), dataset)
    save_run(folder, config, row.build(sizes).state_dict())
    write_metrics(folder / "metrics.jsonl", [{"epoch": 1, "loss": float("nan")}])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="module")
def viewed(folder):
    return Viewed(folder, samples=32)


def matrix(text, count):
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(count, count) / 255


def test_edges_are_the_links_likeliest_first(viewed):
    graph = viewed.document()["graph"]
    links = viewed.model.links().detach().numpy()
    i, j, p = (np.array(graph["edges"][name]) for name in "ijp")
    assert len(p) == graph["pairs"] == 16 * 15 // 2
    assert (i < j).all()
    assert (np.diff(p) <= 0).all()
    np.testing.assert_allclose(p, links[i, j], atol=1e-5)  # five digits are sent
    np.testing.assert_allclose(graph["importance"], links.sum(1), atol=1e-4)


def test_places_follow_the_signatures():
    """Two bundles of signatures lie apart, and so do their modules."""
    near = np.eye(4)[[0, 0, 0, 1, 1, 1]] + 0.01 * np.arange(24).reshape(6, 4) / 24
    links = np.kron(np.eye(2), np.full((3, 3), 0.9)) + 0.01
    graph = graph_part(links, np.ones((6, 6), bool), links.sum(1), near)
    first, second = np.array(graph["by_signature"]).reshape(2, 3, 2)
    assert np.ptp(first, 0).max() < 0.1 * np.abs(first.mean(0) - second.mean(0)).max()
    assert graph["community"] == [0, 0, 0, 1, 1, 1]


def test_read_outs_are_nodes_after_the_modules(viewed):
    graph, model = viewed.document()["graph"], viewed.model
    outputs = model.config.outputs
    assert graph["readouts"] == outputs
    assert len(graph["by_force"]) == len(graph["by_signature"]) == 16 + outputs
    design = model.design()
    links = model.read_out.attention.links
    signatures = design.outputs.signatures, design.processors.signatures
    p = links.log_probabilities(*signatures).exp().detach().numpy()
    heard = np.array(graph["heard"])
    modules, read_outs = heard[:, 0].astype(int), heard[:, 1].astype(int) - 16
    np.testing.assert_allclose(heard[:, 2], p[read_outs, modules], atol=1e-5)
    for out in range(outputs):
        assert sorted(modules[read_outs == out]) == sorted(np.argsort(-p[out])[:5])


def test_alike_codes_lie_near_each_other():
    codes = np.array([[1.0, 0.0], [3.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    place = along_the_codes(codes)
    assert {place.min(), place.max()} == {0.0, 1.0}
    assert abs(place[0] - place[1]) < 0.1 < abs(place[1] - place[2])
    assert abs(place[2] - place[3]) < 0.1


def test_the_prior_is_in_the_order_of_the_modules(viewed):
    """Sorted as it was matched, it is the prior itself."""
    model = Viewed(viewed.folder).model
    model.labels.copy_(torch.randperm(16))
    with torch.no_grad():
        links = model.links().numpy()
        told = matrix_part(model, links, model.design())
    assert told["matched"] == model.labels.tolist()
    order = np.ix_(told["matched"], told["matched"])
    placed = matrix(told["prior"], 16)[order]
    np.testing.assert_allclose(placed, model.prior, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(matrix(told["links"], 16), links, atol=0.5 / 255 + 1e-6)
    for counts in told["degrees"]["counts"].values():
        assert sum(counts) == 16


def test_surgery_is_that_of_prune(viewed):
    found = viewed.measure(0.5, 0.9)
    test = viewed.surgeon.split
    smaller = eliminate_edges(drop_modules(viewed.model, 8), 0.9)
    right = predict(smaller, test).argmax(-1).numpy() == test.targets
    assert found["kept"] == 8
    assert found["accuracy"] == pytest.approx(right.mean())
    whole = viewed.measure(0.5, 0.0)
    gone = 2 * round(0.9 * 8 * 7 / 2)
    each = viewed.model.config.heads * viewed.model.config.head_width
    saved = whole["multiply_adds"] - found["multiply_adds"]
    assert saved == 2 * gone * viewed.model.config.layers * each
    one = test.batch([0]).inputs
    for share, kept in ((0.5, 8), (0.0, 16)):
        told = viewed.measure(share, 0.0)["multiply_adds"]
        assert told == multiply_adds(drop_modules(viewed.model, kept), one)


def test_curves_are_kept_until_the_checkpoint_changes(tmp_path, monkeypatch):
    for which in surgery.SHARES:
        monkeypatch.setitem(surgery.SHARES, which, (0.0, 0.2))
    run = made_run(tmp_path / "run")
    first = Viewed(run, samples=8).curves()
    kept = json.loads((run / "view.json").read_text())
    assert kept["curves"] == first
    assert [row["kept"] for row in first["modules"]] == [16, 13]
    kept["curves"] = {"modules": [], "edges": []}
    (run / "view.json").write_text(json.dumps(kept))
    assert Viewed(run, samples=8).curves()["modules"] == []
    assert Viewed(run, samples=9).curves()["modules"]


def test_a_sample_tells_what_led_to_its_answer(viewed):
    found = viewed.sample(5)
    split = viewed.dataset.test
    logits = predict(viewed.model, split.take([5]))[0]
    np.testing.assert_allclose(found["probabilities"], logits.softmax(-1), atol=1e-4)
    assert found["target"] == split.targets[5]
    assert sum(found["confidences"]) == pytest.approx(1, abs=1e-5)
    assert sum(found["heard"]) == pytest.approx(1, abs=1e-4)
    levels = np.frombuffer(base64.b64decode(found["attention"]), np.uint8)
    attention = levels.reshape(16, -1) / 255 * np.array(found["peaks"])[:, None]
    # half a level of 255 each of the tokens
    np.testing.assert_allclose(attention.sum(1), 1, atol=0.02)
    assert np.shape(found["flow"]) == (viewed.model.config.layers, 16)
    with pytest.raises(ValueError, match=r"sample must lie in \[0, 358\]"):
        viewed.sample(359)


def test_read_in_attention_is_the_one_that_is_used(viewed):
    """Modules that read the values with it hear what the read-in lets them hear."""
    model, split = viewed.model, viewed.dataset.test
    found = viewed.sample(0)
    tokens, _ = model.tokenizer(split.batch([0]).inputs)
    part, modules = model.read_in.attention, model.design().inputs
    levels = np.frombuffer(base64.b64decode(found["attention"]), np.uint8).copy()
    attention = torch.from_numpy(levels.reshape(16, -1) / 255).float()
    attention = attention * torch.tensor(found["peaks"]).unsqueeze(1)
    pooled = attention @ part.token_norm(tokens)[0] * part.value.scale(modules.codes)
    heard = part.out(pooled @ part.value.linear.weight.T, modules.codes)
    right = part(modules, tokens)[0] - modules.states
    # attention is sent in 255 levels of its peak
    torch.testing.assert_close(heard, right, atol=0.02, rtol=0)


def test_pruned_and_complete_circuits(tmp_path):
    run = made_run(tmp_path / "pruned", edges_removed=0.5)
    graph = Viewed(run).document()["graph"]
    assert graph["pairs"] == len(graph["edges"]["p"]) == 60
    run = made_run(tmp_path / "perceiver", model="perceiver")
    assert Viewed(run).document()["graph"] is None


def test_a_conditional_circuit_has_a_graph_a_sample(tmp_path):
    seen = Viewed(made_run(tmp_path / "run", generator="conditional"))
    first, second = (seen.graph(index)["graph"]["edges"]["p"] for index in (0, 1))
    assert first != second
    assert seen.document()["graph"]["edges"]["p"] == first
    found = everything(seen, 2)
    assert [each["edges"]["p"] for each in found["graphs"]] == [first, second]
    assert found["circuits"]["samples"] == seen.circuits()["samples"]


def test_the_map_puts_alike_circuits_near_each_other(tmp_path):
    """Places keep what of the distances between link matrices two numbers can."""
    seen = Viewed(made_run(tmp_path / "run", generator="conditional"))
    found = seen.circuits()
    assert len(found["samples"]) == len(found["places"]) == len(found["targets"]) == 256
    some, places = found["samples"], np.array(found["places"])
    with torch.no_grad():
        each = [seen.model.links(seen._design(seen.model, i)) for i in some[:40]]
    rows = torch.stack(each).flatten(1)
    wanted = torch.cdist(rows, rows).numpy()
    told = np.linalg.norm(places[:40, None] - places[None, :40], axis=-1)
    assert (told <= wanted + 1e-4).all()
    upper = np.triu_indices(40, 1)
    assert np.corrcoef(told[upper], wanted[upper])[0, 1] > 0.6
    assert sum(found["told"]) <= 1


def test_an_unconditional_circuit_has_no_map(viewed):
    with pytest.raises(ValueError, match="every sample has the same circuit"):
        viewed.circuits()


def test_a_neuronal_run(tmp_path):
    seen = Viewed(made_run(tmp_path / "run", model="neuronal", data="noisy-sensors"))
    told = seen.document()
    assert told["graph"] is None
    assert told["layers"] > 0
    found = seen.neuronal(0, 0)
    ends = {f"{g} {n}" for g, busy in found["groups"].items() for n in range(len(busy))}
    assert {end for wire in found["synapses"] for end in wire[:2]} <= ends
    flows = [wire[3] for wire in found["synapses"]]
    assert flows == sorted(flows, reverse=True)
    assert {"inter", "command", "motor"} == set(found["activity"])
    logits, tokens = found["logits"], len(found["activity"]["motor"][0])
    assert logits["first"] == 0
    assert {len(logits[name]) for name in ("keys", "drive", "time_constant")} == {
        tokens
    }
    with pytest.raises(ValueError, match="layer must lie in"):
        seen.neuronal(0, 99)
    assert everything(seen, 1)["activities"][0][0]["layer"] == 0


def test_numbers_that_json_does_not_know(viewed):
    assert finite({"a": [float("nan"), 1.5, float("inf")]}) == {"a": [None, 1.5, None]}
    assert matrix(as_bytes(np.array([[0, np.nan], [0.5, 2]])), 2).max() == 1


def test_mistakes_are_one_line(folder, tmp_path, capsys):
    broken = made_run(tmp_path / "broken")
    (broken / "checkpoint" / "model.safetensors").write_bytes(b"no tensors")
    for run, said in ((tmp_path / "none", "no such folder"), (broken, "broken")):
        assert main(["view", str(run)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert main(["view", str(folder), "--with", str(tmp_path / "none")]) == 2
    assert main(["view", str(folder), "--samples", "0"]) == 2
    assert main(["view", str(folder), "--port", "99999"]) == 2


def test_one_file_holds_everything_and_asks_nobody(folder, tmp_path, capsys):
    out = tmp_path / "run.html"
    arguments = ["--html", str(out), "--samples", "8"]
    assert main(["view", str(folder), *arguments]) == 0
    text = out.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="(?!data:)', text.split("<script")[0])
    found = re.search(r'id="inlined">(.*?)</script>', text, re.DOTALL)
    told = json.loads(found[1])
    assert told["graph"]["modules"] == 16
    assert len(told["samples"]) == 12
    assert len(told["curves"]["modules"]) == 9


def test_names_in_the_file_cannot_end_its_script(viewed):
    text = inlined({"run": "</script><script>alert(1)</script>"})
    assert "<script>alert" not in text


def test_a_run_whose_data_is_gone_is_still_shown(tmp_path):
    run = made_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["source"] = "/no/such/data"
    (run / "config.json").write_text(json.dumps(config))
    told = everything(Viewed(run))
    assert told["graph"]["modules"] == 16
    assert "/no/such/data" in told["missing"]


def test_only_built_files_are_handed_out():
    assert asset("index.html")
    assert asset("../page.py") is None
    assert asset("licences.md") is None
    assert {p.name for p in ASSETS.iterdir()} >= {"explorer.js", "explorer.css"}


# --- the server


@pytest.fixture(scope="module")
def client(viewed):
    pytest.importorskip("fastapi")
    testclient = pytest.importorskip("starlette.testclient")
    from nacs.view.server import app

    return testclient.TestClient(
        app(viewed, 8324),
        base_url="http://127.0.0.1:8324",
        raise_server_exceptions=False,
    )


def test_the_page_and_its_answers(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/explorer.js").headers["content-type"].startswith("text/java")
    run = client.get("/api/run").json()
    assert run["training"]["digits"] == [{"epoch": 1, "loss": None}]
    assert client.get("/api/metrics").json() == run["training"]
    assert client.get("/api/surgery?modules=0.5&edges=0").json()["kept"] == 8
    assert client.get("/api/sample?i=1").json()["index"] == 1


def test_other_hosts_and_origins_are_refused(client, folder):
    wrong = {"host": "evil.example:8324"}
    assert client.get("/api/run", headers=wrong).status_code == 403
    assert client.get("/", headers={"host": "127.0.0.1:1"}).status_code == 403
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        wrong = {"origin": origin}
        answer = client.post("/api/save", json={"name": "stolen"}, headers=wrong)
        assert answer.status_code == 403
    assert not folder.with_name("stolen").exists()


@pytest.mark.parametrize(
    "path",
    ["/../page.py", "/%2e%2e/page.py", "/..%2fpage.py", "/assets/../look.py", "/x.js"],
)
def test_no_other_file_is_served(client, path):
    assert client.get(path).status_code == 404


def test_mistakes_are_told(client):
    for question in ("sample?i=99999", "surgery?modules=2", "neuronal?i=0"):
        answer = client.get(f"/api/{question}")
        assert answer.status_code == 400
        assert answer.json()["error"]


def test_save_writes_a_run_beside_and_nowhere_else(client, folder):
    own = {"origin": "http://127.0.0.1:8324"}
    for name in ("../up", "/tmp/there", "", ".hidden", "a/b"):
        answer = client.post("/api/save", json={"name": name}, headers=own)
        assert answer.status_code == 400
    wanted = {"modules": 0.5, "edges": 0.25, "name": "digits-small"}
    answer = client.post("/api/save", json=wanted, headers=own)
    assert answer.status_code == 200, answer.text
    seen = Viewed(folder.with_name("digits-small"))
    assert isinstance(seen.model, AttentiveCircuit)
    assert seen.model.config.modules == 8
    assert seen.model.config.edges_removed == pytest.approx(0.25)
    again = client.post("/api/save", json=wanted, headers=own)
    assert "already holds" in again.json()["error"]
    assert (
        client.post("/api/save", json={"name": "none"}, headers=own).status_code == 400
    )


def test_presets_are_not_touched():
    """`made_run` changes frozen sizes; those of the table stay as they are."""
    assert presets.tiny().generator == "unconditional"
