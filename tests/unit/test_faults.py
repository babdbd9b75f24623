"""What goes wrong on users' machines, made to happen here.

Full disks are in test_train.py, interrupted downloads in test_data_named.py, hostile
files in test_security.py.
"""

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import soak
from nacs import data
from nacs.attentive import presets
from nacs.data import folders
from nacs.errors import UserError
from nacs.recipe import TrainConfig
from nacs.runs import claim, load_run, load_tensors, read_metrics, whole_folder
from nacs.train import _Run, train

ROOT = Path(__file__).resolve().parents[2]
CONFIG = TrainConfig(epochs=2, batch=64)


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def digits():
    found = data.load("digits")
    return replace(found, train=found.train.take(range(150)))


def run(out, digits, config=CONFIG):
    return train("attentive", presets.tiny(), digits, config, out)


def usual(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def python(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **options,
    )


# --- killed


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost(tmp_path):
    """Three of the twenty kills of benchmarks/kills.py: one a verb, and one again."""
    found = tmp_path / "kills.json"
    program = ROOT / "benchmarks" / "kills.py"
    done = python(program, "--kills", 4, "--out", found, env=usual())
    _, complaint = done.communicate(timeout=550)
    assert done.returncode == 0, complaint[-2000:]
    kills = json.loads(found.read_text())["kills"]
    assert [row["same"] for row in kills] == [True] * 4
    assert {row["verb"] for row in kills} == {"train", "prune", "export"}


HOLD = """
import sys, time
from pathlib import Path
from nacs.runs import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_runs_in_one_folder(tmp_path):
    """The second is refused and told by whom; the lock of a killed process is gone."""
    (tmp_path / "checkpoint").mkdir()
    left = tmp_path / "checkpoint" / ".0123456789abcdef.model.safetensors"
    other = tmp_path / ".hidden.json"
    for path in (left, other):
        path.write_text("half")
    first = python("-c", HOLD, tmp_path, env=usual())
    try:
        assert first.stdout.readline() == "held\n"
        refused = pytest.raises(UserError, match=f"another run .*{first.pid}")
        with refused, claim(tmp_path):
            pass
    finally:
        first.kill()
        first.communicate()
    with claim(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
    assert not left.exists()
    assert other.exists()


def test_two_that_prune_into_one_folder(tmp_path):
    def both():
        with whole_folder(tmp_path / "small") as mine:
            (mine / "mine").write_text("")
            with whole_folder(tmp_path / "small") as theirs:
                (theirs / "theirs").write_text("")

    with pytest.raises(UserError, match="could not be written"):
        both()
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    assert (tmp_path / "small" / "theirs").exists()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
def test_a_process_whose_partner_dies_says_so(tmp_path):
    """Without a launcher that would end both: it neither hangs nor dumps its stack."""
    options = ["train", "digits", "--preset", "tiny", "--training.epochs", "500"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "1"}
    shared["MASTER_PORT"] = str(free_port())
    command = ["-m", "nacs.cli", *options, "--out", tmp_path / "run"]
    both = [
        python(*command, env=usual(RANK=rank, LOCAL_RANK=rank, **shared))
        for rank in "01"
    ]
    checkpoint = tmp_path / "run" / "checkpoint" / "training.safetensors"
    try:
        while not checkpoint.exists() and both[0].poll() is None:
            time.sleep(0.1)
        both[1].send_signal(signal.SIGKILL)
        _, complaint = both[0].communicate(timeout=120)
    finally:
        for each in both:
            each.kill()
            each.communicate()
    assert both[0].returncode == 2, complaint[-2000:]
    assert "nacs: " in complaint
    assert "another process of this run has ended" in complaint
    assert "Traceback" not in complaint
    assert load_tensors(checkpoint)["progress"][0] >= 1


# --- numbers that break


@pytest.mark.parametrize("batch", [1, 3])
def test_weights_that_break_are_never_saved(tmp_path, digits, monkeypatch, batch):
    """Batch 3 is the epoch's last: its loss is still fine, the weights are not."""
    calls = []

    def step(self, *given, before=_Run._step, **named):
        loss = before(self, *given, **named)
        calls.append(loss)
        if len(calls) == 3 + batch:  # of the second epoch
            next(self.bare.parameters()).data.fill_(float("nan"))
        return loss

    monkeypatch.setattr(_Run, "_step", step)
    named = 2 if batch == 1 else 3  # the one after it is the first to show
    with pytest.raises(UserError, match=f"loss is nan in epoch 2, batch {named};"):
        run(tmp_path, digits)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    state = load_tensors(tmp_path / "checkpoint" / "training.safetensors")
    assert state["progress"][0] == 1
    model, _ = load_run(tmp_path)
    assert all(each.isfinite().all() for each in model.parameters())
    monkeypatch.undo()
    assert np.isfinite(run(tmp_path, digits)["test_loss"])


def test_nan_in_data_is_named(tmp_path):
    x = np.zeros((30, 4, 4), np.float32)
    x[17, 2, 2] = np.nan
    np.savez(tmp_path / "t.npz", x=x, y=np.arange(30) % 2)
    with pytest.raises(UserError, match="sample 17 has NaN"):
        data.load(tmp_path / "t.npz")


def test_numbers_beyond_float32_are_named(tmp_path):
    """They would become infinite on their way into the model."""
    rows = [f"s{i},{t},{i}.5,{i % 2}" for i in range(9) for t in (0, 1)]
    rows.append("s9,0,1e39,1")
    (tmp_path / "t.csv").write_text("\n".join(["id,time,v,label", *rows]))
    with pytest.raises(UserError, match="sample s9.*more than float32 holds"):
        data.load(tmp_path / "t.csv")


# --- files that go


def test_a_file_that_goes_while_it_is_read(tmp_path, monkeypatch):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    listed = folders.readable_files

    def gone(root):
        found = listed(root)
        found[1].unlink()
        return found

    monkeypatch.setattr(folders, "readable_files", gone)
    with pytest.raises(UserError, match=r"2\.png: expected an image"):
        data.load(tmp_path)


def test_a_checkpoint_that_goes_or_is_another_s(tmp_path, digits):
    run(tmp_path, digits, replace(CONFIG, epochs=1))
    config = json.loads((tmp_path / "config.json").read_text())
    config["training"]["epochs"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    kept = tmp_path / "checkpoint" / "training.safetensors"
    weights = tmp_path / "checkpoint" / "model.safetensors"
    whole = kept.read_bytes()
    kept.write_bytes(weights.read_bytes())
    with pytest.raises(UserError, match=r"training\.safetensors: not of this run"):
        run(tmp_path, digits)
    kept.unlink()
    with pytest.raises(UserError, match=r"training\.safetensors: no such file"):
        run(tmp_path, digits)
    kept.write_bytes(whole)
    assert run(tmp_path, digits)["epochs"] == 2


# --- the machine


def test_a_clock_that_runs_backwards(tmp_path, digits, monkeypatch):
    whole = run(tmp_path / "whole", digits)
    now = iter(range(10**9, 0, -(10**4)))
    monkeypatch.setattr(time, "time", lambda: next(now))
    run(tmp_path / "run", digits, replace(CONFIG, epochs=1))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["training"]["epochs"] = 2
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    again = run(tmp_path / "run", digits)
    assert 0 < again["seconds"] < 600
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert 0 < rows[0]["seconds"] < rows[1]["seconds"]
    assert {k: again[k] for k in again if "test" in k} == {
        k: whole[k] for k in whole if "test" in k
    }


@pytest.mark.parametrize(("leak", "grows"), [(False, False), (True, True)])
def test_a_leak_would_be_seen(monkeypatch, leak, grows):
    """The soak of `make soak`, of a moment, with a megabyte and a file a turn lost."""
    monkeypatch.setattr(soak, "EVERY", 0.01)
    kept = []

    def work():
        time.sleep(0.02)
        if leak:
            # New pages: an array may fit where the process has memory to spare.
            lost = mmap.mmap(-1, 1 << 20)
            lost.write(b"1" * (1 << 20))
            kept.append((lost, os.open(os.devnull, os.O_RDONLY)))

    found = soak.soaked(work, 0.02)
    assert found["open_files"]["after"] - found["open_files"]["before"] == len(kept[1:])
    # What is lost is 180,000 MB an hour; the process itself may take a megabyte or two
    # in this second, which is some thousands.
    assert (found["megabytes_an_hour"]["slope"] > 50_000) == grows
    for _, file in kept:
        os.close(file)


def test_a_slope_and_its_error():
    hours, megabytes = np.arange(4.0), np.array([1.0, 3.0, 5.0, 7.0])
    assert soak.slope(hours, megabytes) == (2.0, 0.0)
    assert soak.slope(hours, np.array([0.0, 1.0, 0.0, 1.0]))[1] > 0.1


STRANGE = """
import os, sys
from nacs.cli import main
print(sys.stdout.encoding)
for arguments in (
    ["train", "Bilder ä 数", "--size", "8", "--preset", "tiny", "--training.epochs",
     "1", "--out", "Läufe/数"],
    ["predict", "Läufe/数", "Bilder ä 数/Kätzchen/0.png"],
    ["prune", "Läufe/数", "--keep", "0.5"],
    ["view", "Läufe/数", "--html", "Läufe/数.html"],
):
    given = [os.fsdecode(each.encode()) for each in arguments]  # as from a shell
    assert main(given) == 0, arguments
print("ä")
"""


def test_no_home_an_old_locale_and_names_from_anywhere(tmp_path):
    for label in ("Kätzchen", "犬"):
        folder = tmp_path / "Bilder ä 数" / label
        folder.mkdir(parents=True)
        for row in range(6):
            noise = Image.effect_noise((9, 9), 20 * (1 + row))
            noise.save(folder / f"{row}.png")
    program = tmp_path / "program.py"
    program.write_text(STRANGE, encoding="utf-8")
    home = {"HOME": "/nonexistent", "XDG_CACHE_HOME": "", "MPLCONFIGDIR": ""}
    home = {**home, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    path = {"PYTHONPATH": str(ROOT / "src")}
    done = python(program, cwd=tmp_path, env=usual(**home, **path))
    said, complaint = done.communicate(timeout=300)
    assert done.returncode == 0, complaint[-2000:]
    assert said.startswith(("ascii", "ANSI_X3.4-1968")), said
    assert "Kätzchen" in said  # the bytes of the name, whatever the locale
    assert said.endswith("\\xe4\n")
    assert "Traceback" not in complaint
    assert (tmp_path / "Läufe" / "数.html").exists()


FULL = """
import resource, signal, sys
from nacs.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes then fail as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


def test_no_room_for_a_program_leaves_nothing(tmp_path, digits):
    run(tmp_path / "run", digits, replace(CONFIG, epochs=1))
    before = sorted(tmp_path.rglob("*"))
    done = python("-c", FULL, "export", tmp_path / "run", env=usual())
    _, complaint = done.communicate(timeout=200)
    assert done.returncode == 2, complaint[-2000:]
    assert "could not be written" in complaint
    assert "Traceback" not in complaint
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_ends_between_its_files_loses_no_row(tmp_path, digits, monkeypatch):
    from nacs import train as trained

    wrote = trained.write_metrics

    def broken(path, rows):
        if len(rows) == 2:
            raise KeyboardInterrupt
        wrote(path, rows)

    monkeypatch.setattr(trained, "write_metrics", broken)
    config = replace(CONFIG, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", digits, config)
    monkeypatch.undo()
    run(tmp_path / "run", digits, config)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3]


def test_nobody_has_no_home():
    with pytest.raises(UserError, match="~nobody-here/x"):
        data.load("~nobody-here/x")
