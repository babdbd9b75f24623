"""CarRacing: the scripted driver, laps it recorded, and a model at the wheel.

Only tests that use the fixture `simulator` need gymnasium.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from nacs import data
from nacs.cli import main
from nacs.data.driving import (
    CONTROLS,
    FRAME,
    Driver,
    disturbed,
    lap,
    look,
    read_laps,
    record,
)
from nacs.data.frames import WINDOW
from nacs.data.splits import assemble
from nacs.driving import Clone, clone
from nacs.errors import UserError
from nacs.neuronal import neuronal_model, presets
from nacs.tasks import fitted


@pytest.fixture
def simulator():
    pytest.importorskip("gymnasium")
    pytest.importorskip("Box2D")


def circle(radius, *, speed=30.0, outside=0.0):
    """A car on a circular track, driven anticlockwise, at its rightmost point."""
    tiles = int(2 * np.pi * radius / 3.5)
    angles = 2 * np.pi * np.arange(tiles) / tiles
    track = [(0, 0, radius * np.cos(a), radius * np.sin(a)) for a in angles]
    hull = SimpleNamespace(
        position=(radius + outside, 0.0), angle=0.0, linearVelocity=(0.0, speed)
    )
    env = SimpleNamespace(track=track, car=SimpleNamespace(hull=hull))
    return SimpleNamespace(unwrapped=env)


def act(**given):
    return Driver(circle(**given))(np.zeros(0), 0.0)


def save_laps(folder, laps=10, steps=70):
    folder.mkdir()
    for number in range(laps):
        frames = np.full((steps, *FRAME), 10 * number, np.uint8)
        frames[:, 0, 0, 0] = np.arange(steps)
        wanted = np.stack([np.arange(steps), [number] * steps, np.zeros(steps)], 1)
        np.savez(
            folder / f"{1000 + number}.npz",
            frames=frames,
            seconds=np.arange(steps) / 25,
            wanted=wanted.astype(np.float32),
        )
    return folder


def test_the_driver_steers_for_the_lane():
    ahead = act(radius=100.0)
    assert ahead[0] < 0  # to the left
    assert act(radius=100.0, outside=5.0)[0] < ahead[0]
    assert act(radius=100.0, outside=-8.0)[0] > 0
    # int(3.225 + 0.057 * 30) = 4 tiles ahead on the chord of the circle: half its angle
    tiles = int(200 * np.pi / 3.5)
    assert ahead[0] == pytest.approx(-1.418 * 4 * np.pi / tiles)


def test_the_driver_knows_how_far_off_the_lane_it_is():
    driver = Driver(circle(100.0, outside=-8.0))
    assert driver.off == pytest.approx(8.0)
    driver.env.car.hull.position = (0.0, 0.0)
    assert driver.off == pytest.approx(100.0)


def test_the_driver_is_as_fast_as_the_bends_allow():
    straight, bend = 1e5, 25.0
    assert act(radius=straight)[1:].tolist() == [1, 0]
    assert act(radius=straight, speed=110.0)[1] == 0
    # at 25 the next 14 tiles of 44 turn by 115 degrees
    wanted = 109.2 - 34 * 14 / 44 * 2 * np.pi
    braking = act(radius=bend, speed=wanted + 4)
    assert braking[1:].tolist() == pytest.approx([0, 0.2])
    assert act(radius=bend, speed=wanted - 4)[1:].tolist() == pytest.approx([0.2, 0])
    assert act(radius=bend, speed=99.0)[2] == pytest.approx(0.6)


def test_noise_moves_the_pedals_within_their_bounds():
    action = np.array([0.9, 0.2, 0.0])
    assert_close(disturbed(action, np.zeros(2)), action.astype(np.float32))
    moved = disturbed(action, np.array([0.5, -0.5]))
    assert_close(moved, np.array([1, 0, 0.3], np.float32))
    assert_close(disturbed(action, np.array([0, 2]))[1:], np.array([1, 0], np.float32))


def test_a_look_is_green_halved_and_shows_the_speed_alone():
    observation = np.zeros((96, 96, 3), np.uint8)
    observation[..., 1] = 60
    observation[0, :2, 1] = 100, 200
    observation[..., 0] = observation[..., 2] = 255
    observation[84:] = 0
    observation[84:, 40:60] = 255  # what is steered
    observation[90:, 12:14] = 240
    frame = look(observation)
    assert (frame.shape, frame.dtype) == (FRAME, np.uint8)
    assert frame[0, 0, :2].tolist() == [105, 60]
    assert frame[0, 42:].tolist() == [[0] * 48] * 3 + [[240] * 48] * 3


def test_laps_become_windows_and_stay_in_one_split(tmp_path):
    folder = save_laps(tmp_path / "laps")
    samples = read_laps(10, folder)
    assert len(samples.inputs) == 20
    assert samples.targets.shape == (20, WINDOW, len(CONTROLS))
    assert samples.ids[:3].tolist() == ["1000 0", "1000 1", "1001 0"]
    places = samples.inputs[1][:, 1] * 255
    assert_close(samples.targets[1, :, 0], places, atol=1e-4, rtol=0)  # float32
    assert samples.inputs[1][0, 0] == pytest.approx(WINDOW / 25)
    dataset = assemble(samples, seed=0)
    laps = [
        {each.split()[0] for each in split.ids}
        for split in (dataset.train, dataset.val, dataset.test)
    ]
    assert sorted(map(len, laps)) == [1, 1, 8]
    assert len(set.union(*laps)) == 10


def test_a_broken_lap_is_named(tmp_path):
    folder = save_laps(tmp_path / "laps", laps=2)
    (folder / "1001.npz").write_bytes(b"PK nothing")
    with pytest.raises(UserError, match=r"1001.npz: expected a recorded lap.*delete"):
        read_laps(2, folder)


def test_a_missing_simulator_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NACS_DATA", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "gymnasium", None)
    assert main(["train", "car-racing", "--model", "neuronal"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "pip install 'nacs[driving]'" in said


def test_train_on_laps_in_the_cache(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setenv("NACS_DATA", str(tmp_path))
    monkeypatch.setattr("nacs.data.driving.read_laps.__defaults__", (10, None))
    save_laps(tmp_path / "car-racing")
    given = ["train", "car-racing", "--model", "neuronal", "--preset", "tiny"]
    out = tmp_path / "run"
    assert main([*given, "--training.epochs", "1", "--out", str(out)]) == 0
    assert (out / "result.json").exists()


@pytest.fixture
def cloned(tmp_path):
    dataset = assemble(read_laps(10, save_laps(tmp_path / "laps")), seed=0)
    model = neuronal_model(fitted(presets.tiny(), dataset))
    return model.eval(), dataset.train


def test_a_clone_answers_as_the_whole_sequence_does(cloned):
    model, split = cloned
    with torch.no_grad():
        model.head.weight.mul_(0.01)
        model.head.bias.copy_(torch.tensor([-1.7, -3.0, 5.0]))
    observations = np.random.default_rng(0).integers(
        256, size=(20, 96, 96, 3), dtype=np.uint8
    )
    driver = Clone(model, split)
    answers = [driver(each, n / 25) for n, each in enumerate(observations)]
    rows = np.stack([look(each).ravel() / 255 for each in observations])
    rows = np.concatenate([np.arange(20)[:, None] / 25, rows], 1)[None]
    whole = replace(
        split,
        inputs=rows.astype(np.float32),
        targets=np.zeros((1, 20, 3), np.float32),
        ids=np.array([""]),
    )
    with torch.no_grad():
        wanted = model(whole.batch([0]).inputs.double())
    wanted = whole.unscaled(wanted)[0].numpy().clip([-1, 0, 0], 1)
    assert_close(np.stack(answers), wanted.astype(np.float32))
    assert len({tuple(each) for each in answers}) == 20
    assert clone(model, split)(None).state is None


def test_the_noise_is_driven_but_not_recorded(simulator):
    straight = lap(7, Driver, longest=12)
    again = lap(7, Driver, longest=12)
    noisy = lap(7, Driver, noise=0.5, longest=12)
    assert straight.observations.shape == (12, 96, 96, 3)
    assert_close(straight.seconds, np.arange(12) / 25)
    assert_close(straight.observations, again.observations)
    assert_close(straight.wanted, again.wanted)
    assert_close(noisy.wanted[0], straight.wanted[0])
    assert (noisy.wanted[-1] != straight.wanted[-1]).any()
    still = lap(7, idle, noise=0.5, longest=12)
    assert not still.wanted.any()
    assert (still.observations[-1] != still.observations[0]).any()
    assert straight.reward > 0


def idle(_):
    return lambda *_: np.zeros(3, np.float32)


def flooring(_):
    return lambda *_: np.array([1, 1, 0], np.float32)


def test_a_taught_lap_shows_what_the_driver_would_do(simulator):
    driven = lap(7, idle, taught=True, longest=12)
    assert (driven.wanted[:, 1] == 1).all()
    assert driven.reward == lap(7, idle, longest=12).reward


def test_the_teacher_takes_over_off_the_lane(simulator, monkeypatch):
    alone = lap(7, flooring, taught=True, longest=12)
    monkeypatch.setattr("nacs.data.driving.OFF", -1.0)
    helped = lap(7, flooring, taught=True, longest=12)
    assert (alone.wanted[-1] != helped.wanted[-1]).any()
    assert_close(helped.observations, lap(7, Driver, longest=12).observations)


def test_a_taught_lap_ends_once_the_car_is_lost(simulator, monkeypatch):
    monkeypatch.setattr("nacs.data.driving.LOST", 4.0)
    driven = lap(7, flooring, taught=True, longest=40)
    assert 5 < len(driven.wanted) < 40
    assert len(lap(7, flooring, longest=40).wanted) == 40


def test_an_action_is_held_for_two_frames(simulator):
    """A car that stands earns nothing and loses 0.1 a frame."""
    short, longer = (lap(7, idle, longest=longest) for longest in (5, 8))
    assert longer.reward - short.reward == pytest.approx(-3 * 2 * 0.1)
    assert longer.wanted.tolist() == [[0, 0, 0]] * 8


def test_a_recording_goes_on_where_it_stopped(simulator, tmp_path):
    paths = record(tmp_path / "laps", 2, longest=3)
    assert [path.name for path in paths] == ["1000.npz", "1001.npz"]
    with np.load(paths[0]) as driven:
        assert driven["frames"].shape == (3, *FRAME)
    paths[0].unlink()
    before = paths[1].stat().st_mtime_ns
    assert record(tmp_path / "laps", 2, longest=3) == paths
    assert paths[0].exists()
    assert paths[1].stat().st_mtime_ns == before
    assert not list((tmp_path / "laps").glob("*.part"))
    other = record(tmp_path, 1, driver=idle, noise=(0.0,), first=7, longest=3)
    with np.load(other[0]) as driven:
        assert (driven["wanted"][:, 1] == 1).all()  # of the scripted driver
        assert_close(driven["frames"][2], look(lap(7, idle, longest=3).observations[2]))


def test_a_clone_drives(simulator, cloned):
    driven = lap(7, clone(*cloned), longest=4)
    assert (np.abs(driven.wanted) <= 1).all()
    assert len(driven.wanted) == 4


def test_the_name_is_listed():
    assert "CarRacing" in data.NAMES["car-racing"]
