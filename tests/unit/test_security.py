"""A file from a stranger runs no code, writes nowhere else and takes no endless memory.

Each test makes a hostile file; `tests/fuzz` makes the merely broken ones.
"""

import ast
import gzip
import io
import json
import lzma
import os
import pickle
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from nacs import data
from nacs.attentive import AttentiveCircuit, presets
from nacs.data import unpacking
from nacs.data.named import find_published
from nacs.errors import UserError
from nacs.models import MODELS
from nacs.runs import claim, load_run, load_tensors, read_json, write_json, written
from nacs.sized import sized

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


# --- no code is run


def dangers(source):
    """Calls and imports through which data becomes code, or a path in an archive."""
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
    calls = {"eval", "exec", "compile", "__import__"}
    methods = {"extractall", "extract", "system", "popen", "unpack_archive"}
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] in modules}
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            found.add(node.module)
        if not isinstance(node, ast.Call):
            continue
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        where = ast.unparse(node.func)
        name = where.rpartition(".")[2]
        risky = (
            (isinstance(node.func, ast.Name) and name in calls)
            or ("." in where and name in methods)
            or (where == "torch.load" and given.get("weights_only") is not True)
            or (where == "np.load" and given.get("allow_pickle") is not False)
            or given.get("allow_pickle")
            or given.get("shell")
        )
        found |= {where} if risky else set()
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_turns_data_into_code(path):
    assert not dangers(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "npy.read_array(stream, allow_pickle=True)",
        "yaml.load(text)\nimport yaml",
        "archive.extractall(folder)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_every_danger_is_seen(line):
    assert dangers(line)
    assert not dangers("model.eval()\ntorch.load(path, weights_only=True)")


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def hostile(folder, victim):
    """A pickle under every name that a reader takes."""
    payload = pickle.dumps(Payload(victim))
    for name in ("t.csv", "t.jsonl", "t.json", "t.npz", "t.parquet", "t.npy"):
        (folder / name).write_bytes(payload)
        yield folder / name
    for name in ("b/0.png", "b/0.txt", "b/0.xyz", "b/0.off"):
        path = folder / name.replace("/", name[-3:] + "/")
        for each in (path, path.with_name("1" + path.suffix)):
            each.parent.mkdir(exist_ok=True)
            each.write_bytes(payload)
        yield path.parent.parent
    np.savez(folder / "objects.npz", x=np.array([Payload(victim)]), y=np.zeros(1))
    yield folder / "objects.npz"
    torch.save({"layer": torch.ones(2)}, folder / "zipped.npz")
    yield folder / "zipped.npz"


def test_pickles_are_refused_by_every_reader(tmp_path):
    victim = tmp_path / "owned"
    for path in hostile(tmp_path, victim):
        with pytest.raises(UserError):
            data.load(path)
    checkpoint = tmp_path / "t.safetensors"
    for write in (pickle.dump, torch.save):
        with checkpoint.open("wb") as file:
            write(Payload(victim), file)
        with pytest.raises(UserError, match="broken checkpoint"):
            load_tensors(checkpoint)
    assert not victim.exists()
    pickle.loads(pickle.dumps(Payload(victim)))  # the payload does work
    assert victim.exists()


# --- nothing is written elsewhere


def tarred(path, names):
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("aclImdb/train/pos/1_1.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)


def test_archives_write_nothing(tmp_path):
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    names = ("../evil", "../../evil", str(tmp_path / "evil"), "data_batch_1.bin")
    for name in ("cifar-10-binary.tar.gz", "aclImdb_v1.tar.gz"):
        tarred(folder / name, names)
    for name in ("tiny-imagenet-200.zip", "t.npz"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for each in names:
                archive.writestr(f"{each}.npy", b"evil")
    before = sorted(tmp_path.rglob("*"))
    for path in folder.iterdir():
        with pytest.raises(UserError):
            data.load(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [".lock", "checkpoint", "tensorboard"])
def test_a_link_in_a_run_folder_leads_nowhere(tmp_path, name):
    """`nacs train --out FOLDER` would empty a file or write into a folder elsewhere."""
    victim, run = tmp_path / "victim", tmp_path / "run"
    run.mkdir()
    victim.write_text("precious")
    (run / name).symlink_to(victim)
    with pytest.raises(UserError, match="expected no link"), claim(run):
        pass
    assert victim.read_text() == "precious"


def test_no_link_can_lie_in_wait_under_a_temporary_name(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    with written(tmp_path / "a.json") as one, written(tmp_path / "a.json") as two:
        assert one != two
        one.write_text("{}")
        two.write_text("{}")
    names = [f".{os.getpid()}.a.json", f".{one.name.split('.')[1]}.a.json"]
    for name in names:
        (tmp_path / name).symlink_to(victim)
    write_json(tmp_path / "a.json", {"a": 1})
    assert victim.read_text() == "precious"


def test_a_link_in_place_of_a_file_is_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "view.json").symlink_to(victim)
    write_json(tmp_path / "view.json", {"a": 1})
    assert victim.read_text() == "precious"
    assert not (tmp_path / "view.json").is_symlink()


# --- no memory by claim


@pytest.fixture
def small_bounds(monkeypatch):
    """Bounds of a few kilobytes, so that the bombs of these tests can be small."""
    monkeypatch.setattr(unpacking, "FREE", 1 << 12)


TABLE = "id,time,v,label\n" + "".join(f"s{i},0,1,{i % 2}\n" for i in range(9))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_packed_text_may_not_explode(tmp_path, small_bounds, kind, pack):
    bomb = TABLE.encode() + b"s0,0,1,0\n" * 200_000
    path = tmp_path / f"t.{kind}.{'gz' if pack is gzip.compress else 'xz'}"
    path.write_bytes(pack(bomb if kind == "csv" else b"\n" * 1_000_000))
    with pytest.raises(UserError, match="unpack to"):
        data.load(path)


def test_a_line_without_end_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "LONGEST_LINE", 1000)
    for name in ("t.csv", "t.jsonl", "t.json"):
        (tmp_path / name).write_text("x" * 5000)
        with pytest.raises(UserError, match="row 1: expected a line of fewer than"):
            data.load(tmp_path / name)


def test_a_cell_without_end(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TABLE + f's9,0,"{"1" * 200_000}",0\n')
    with pytest.raises(UserError, match="field limit"):
        data.load(path)


@pytest.mark.parametrize("what", ["id", "label", "group"])
def test_a_name_without_end_does_not_widen_all_others(tmp_path, what):
    """numpy keeps names as wide as the widest: 100 kB and 100,000 rows are 40 GB."""
    row = {"id": "a", "text": "hello", "label": "b", "group": "g"}
    rows = [row | {"label": "c"}, row | {what: "x" * 2000}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="at most 1000 characters"):
        data.load(tmp_path / "t.jsonl")
    cells = {"id": "s9", "label": "0", "group": "g"} | {what: "x" * 2000}
    rows = [f"s{i},0,1,{i % 2},g{i}" for i in range(9)]
    rows.append(f"{cells['id']},0,1,{cells['label']},{cells['group']}")
    (tmp_path / "t.csv").write_text("\n".join(["id,time,v,label,group", *rows]))
    with pytest.raises(UserError, match="row 11: expected a name of at most"):
        data.load(tmp_path / "t.csv")


def test_a_parquet_page_may_not_explode(tmp_path, small_bounds):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"id": ["a"] * 300_000, "time": [0.0] * 300_000})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 10_000
    with pytest.raises(UserError, match="unpack to"):
        data.load(tmp_path / "t.parquet")


def test_a_zip_may_not_explode(tmp_path, small_bounds):
    np.savez_compressed(tmp_path / "t.npz", x=np.zeros((9, 500, 500), np.uint8))
    with pytest.raises(UserError, match="unpack to"):
        data.load(tmp_path / "t.npz")


def test_members_that_share_their_bytes_are_counted_each(tmp_path, small_bounds):
    """A directory that names the same member a thousand times over."""
    path = tmp_path / "t.npz"
    np.save(member := io.BytesIO(), np.arange(100_000).astype(np.uint8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member.getvalue())
        archive.filelist += archive.filelist * 999
    assert path.stat().st_size < 200_000
    with pytest.raises(UserError, match="unpack to 100,"):
        data.load(path)


def test_an_array_of_no_bytes_has_an_end(tmp_path):
    """10¹² values of type V0 fit a file of a hundred bytes."""
    head = f"{{'descr': '|V0', 'fortran_order': False, 'shape': ({10**12},)}}"
    head = head.ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("x.npy", array)
        archive.writestr("y.npy", array)
    with pytest.raises(UserError, match="announces shape"):
        data.load(tmp_path / "t.npz")


def test_a_tar_header_may_not_ask_for_memory(tmp_path):
    """An extended header of 8 GB would be read whole before any member."""
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 8 * 10**9
    path = tmp_path / "aclImdb_v1.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf() + bytes(4096)))
    with pytest.raises(UserError, match=r"unpack to 8,000,00"):
        data.load(path)


def test_pictures_together_may_not_explode(tmp_path, small_bounds):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for row in range(5):
            Image.new("1", (4000, 400)).save(tmp_path / name / f"{row}.png")
    with pytest.raises(UserError, match="unpack to"):
        data.load(tmp_path)
    assert data.load(tmp_path, size=4).shape == (1, 4, 4)


def test_a_picture_may_not_explode(tmp_path):
    """The header alone, of 400 million pixels."""
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "BMP")
    forged = bytearray(stream.getvalue())
    forged[18:26] = (20_000).to_bytes(4, "little") * 2
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.bmp").write_bytes(forged)
    with pytest.raises(UserError, match="image too large"):
        data.load(tmp_path)


def test_a_checkpoint_may_not_ask_for_memory(tmp_path):
    head = {"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    text = json.dumps(head).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(UserError, match="broken checkpoint"):
        load_tensors(path)
    path.write_bytes((10**12).to_bytes(8, "little") + text)
    with pytest.raises(UserError, match="broken checkpoint"):
        load_tensors(path)


def test_sizes_are_believed_only_as_far_as_the_checkpoint_goes():
    """Nothing is built in memory whose shapes are not those of the checkpoint."""
    torch.set_default_dtype(torch.float32)
    state = AttentiveCircuit(presets.tiny()).state_dict()
    built = []

    def build(sizes) -> nn.Module:
        built.append(torch.empty(()).device.type)
        return AttentiveCircuit(sizes)

    sized(build, presets.tiny(), state)
    assert built == ["meta", "cpu"]
    built.clear()
    for change in (
        {"hidden": 4000},
        {"hidden": 10**9},
        {"layers": 10**9},
        {"modules": 10**12},
        {"prior": "none such"},
    ):
        with pytest.raises(UserError, match="does not fit|no model can be built"):
            sized(build, replace(presets.tiny(), **change), state)
    assert set(built) == {"meta"}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_built_without_memory_first(name):
    torch.set_default_dtype(torch.float32)
    row = MODELS[name]
    if name in {"gru-ode"}:
        pytest.importorskip("torchdiffeq")
    sizes = row.preset("tiny")
    state = row.build(sizes).state_dict()
    sized(row.build, sizes, state).load_state_dict(state)


def test_a_json_file_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("nacs.runs.LARGEST_TEXT", 100)
    (tmp_path / "config.json").write_text("{" + " " * 200 + "}")
    with pytest.raises(UserError, match="expected at most 100 bytes"):
        read_json(tmp_path / "config.json")
    monkeypatch.undo()
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="no readable JSON"):
        read_json(tmp_path / "config.json")


def test_a_config_names_no_class(tmp_path):
    write_json(tmp_path / "config.json", {"model": "os.system", "sizes": {}})
    (tmp_path / "checkpoint").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "checkpoint" / "model.safetensors")
    with pytest.raises(UserError, match="There is no model 'os.system'"):
        load_run(tmp_path)


def test_unmatched_archives_are_none(tmp_path):
    assert find_published(tmp_path) is None
