"""Laps of gymnasium's CarRacing: a scripted driver, and laps it drove as `frames`.

    reset(seed)  →  track
    each 1/25 s: observation → driver(observation, seconds) → wanted
                 wanted + noise → two frames of the simulator → reward

The noise is on what the car does, never on what is recorded: a lap then also shows how
the driver comes back to the lane, which a clone of it needs to know (DART). A clone's
own laps, where the driver only says what it would do, show the rest (DAgger). Whoever
drives, recorded or in the end a model, drives in the one loop of `lap`.

References:
    Laskey et al., DART: Noise Injection for Robust Imitation Learning, CoRL 2017.
    https://arxiv.org/abs/1703.09327
    Coulter, Implementation of the Pure Pursuit Path Tracking Algorithm, 1992.
"""

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nacs.data.base import Array
from nacs.data.download import cache_folder
from nacs.data.frames import rows_of, windows
from nacs.data.npz import load_arrays
from nacs.data.splits import Samples
from nacs.errors import UserError

__all__ = [
    "CONTROLS",
    "Driver",
    "Lap",
    "Policy",
    "lap",
    "look",
    "read_laps",
    "read_recorded",
    "record",
]

CONTROLS = ("steering", "gas", "brake")
"""What a driver answers: steering in [-1, 1], gas and brake in [0, 1]."""

HOLD = 2
"""Frames of the simulator, 1/50 s each, for which an action is held."""

FRAMES_A_SECOND = 50
OFF, LOST = 6.5, 20.0
"""Distances from the middle of the lane, which is 13 wide, where the teacher of a
taught lap takes over, and where the lap ends."""

LONGEST = 500
"""Actions, 20 s; the simulator stops there."""

DASHBOARD = 84
"""The row of an observation of 96 × 96 pixels where the dashboard begins."""

SPEED = slice(12, 14)
"""The columns of the dashboard's bar of the speed."""

FRAME = (1, 48, 48)
"""Channels, height and width of what `look` returns."""

LAPS = 100
"""How many the data set car-racing has."""

Policy: TypeAlias = Callable[[Array, float], Array]
"""From an observation (96, 96, 3) and the seconds since the start to `CONTROLS`."""


class Driver:
    """A scripted driver that sees the track, not the picture (pure pursuit).

    It steers for a point ahead on the middle of the lane, and brakes for the bends of
    the next 14 tiles: as hard as it takes to stay on the road when it acts at 25 Hz.
    `docs/results/car-racing.json` has its returns.

    Args:
        env: The environment, after its reset.
    """

    def __init__(self, env: Any) -> None:
        self.env = env.unwrapped
        self.track = np.array([(tile[2], tile[3]) for tile in self.env.track])
        ahead = np.roll(self.track, -1, 0) - self.track
        heading = np.arctan2(ahead[:, 1], ahead[:, 0])
        turn = np.roll(heading, -1) - heading
        self.bends = np.abs(np.angle(np.exp(1j * turn)))

    @property
    def off(self) -> float:
        """How far the car is from the middle of the lane, which is 13 wide."""
        place = np.array(self.env.car.hull.position)
        return float(np.hypot(*(self.track - place).T).min())

    def __call__(self, observation: Array, seconds: float) -> Array:  # noqa: ARG002
        """What it would do now."""
        hull, tiles = self.env.car.hull, len(self.track)
        place, angle = np.array(hull.position), hull.angle
        speed = float(np.hypot(*hull.linearVelocity))
        here = int(((self.track - place) ** 2).sum(1).argmin())
        x, y = self.track[(here + int(3.225 + 0.057 * speed)) % tiles] - place
        off = np.arctan2(
            x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        )
        bend = self.bends[(here + np.arange(14)) % tiles].sum()
        faster = 0.05 * (max(27.5, 109.2 - 34 * bend) - speed)
        gas = np.clip(faster, 0, 1 if abs(off) < 0.2 else 0.3)
        steering = np.clip(1.418 * off, -1, 1)
        return np.array([steering, gas, np.clip(-faster, 0, 0.6)], np.float32)


class Lap(NamedTuple):
    """What was seen and wanted, one row an action, and the return."""

    observations: Array
    """(actions, 96, 96, 3) uint8."""

    seconds: Array
    """(actions,) since the start."""

    wanted: Array
    """(actions, controls) float32: the answers of the driver, or of its teacher."""

    reward: float
    """The return: 1000 for all tiles of the track, less 0.1 a frame."""


def lap(
    seed: int,
    driver: Callable[[Any], Policy],
    *,
    noise: float = 0.0,
    taught: bool = False,
    longest: int = LONGEST,
) -> Lap:
    """Drive one lap of the track of a seed.

    Args:
        seed: Draws the track.
        driver: From the environment after its reset to what drives.
        noise: Deviation of the noise on steering and gas; it changes in 0.4 s.
        taught: Whether what the scripted driver would do is recorded instead. It also
            drives while the car is off the lane, and the lap ends once the car is lost.
        longest: Actions after which the lap ends.

    Raises:
        UserError: If gymnasium or Box2D is missing.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        gymnasium, _ = map(import_module, ("gymnasium", "Box2D"))
    except ImportError as error:
        raise UserError(
            "car-racing needs gymnasium with Box2D: pip install 'nacs[driving]'"
        ) from error
    env = gymnasium.make("CarRacing-v3", continuous=True)
    observation: Array
    observation, _ = env.reset(seed=seed)
    policy, teacher = driver(env), Driver(env) if taught else None
    random = np.random.default_rng(seed)
    seen: list[Array] = []
    wanted: list[Array] = []
    total, done, drift = 0.0, False, np.zeros(2)
    while not done and len(wanted) < longest:
        seen.append(observation)
        seconds = HOLD / FRAMES_A_SECOND * len(wanted)
        action = policy(observation, seconds)
        wanted.append(teacher(observation, seconds) if teacher else action)
        if teacher and teacher.off > OFF:
            action = wanted[-1]
        drift = 0.9 * drift + noise * 0.19**0.5 * random.normal(size=2)
        action = disturbed(action, drift)
        for _ in range(HOLD):
            observation, reward, ended, cut, _ = env.step(action)
            total, done = total + float(reward), ended or cut
            if done:
                break
        done = bool(done or (teacher and teacher.off > LOST))
    env.close()
    times = HOLD / FRAMES_A_SECOND * np.arange(len(wanted))
    return Lap(np.stack(seen), times, np.stack(wanted), total)


def disturbed(action: Array, noise: Array) -> Array:
    """The action with noise on steering and on gas less brake, within its bounds."""
    steering = np.clip(action[0] + noise[0], -1, 1)
    push = np.clip(action[1] - action[2] + noise[1], -1, 1)
    return np.array([steering, max(push, 0), max(-push, 0)], np.float32)


def look(observation: Array) -> Array:
    """An observation as a grey frame of 48 × 48 pixels: (1, 48, 48) uint8.

    Green tells grass from road best. Of the dashboard only the speed is left, as a bar
    as wide as the frame: it also shows what was steered, which a clone would copy.
    """
    green = observation[..., 1].astype(np.float32)
    green[DASHBOARD:] = green[DASHBOARD:, SPEED].mean(1, keepdims=True)
    small = green.reshape(48, 2, 48, 2).mean((1, 3))
    return small.round().astype(np.uint8)[None]


NOISE = (0.0, 0.1, 0.15, 0.2, 0.25)
"""Deviations of the noise, lap by lap in turn."""

FIRST_SEED = 1000
"""Of the recorded tracks, which follow each other; seeds below are left for driving."""


def record(
    folder: Path,
    laps: int,
    *,
    driver: Callable[[Any], Policy] = Driver,
    noise: Sequence[float] = NOISE,
    first: int = FIRST_SEED,
    longest: int = LONGEST,
) -> list[Path]:
    """Files of taught laps, driven now where a file is not there yet.

    Args:
        folder: Where they are kept, a file a lap; made if absent.
        laps: How many.
        driver: Who drives; what is recorded is what the scripted driver would do.
        noise: Deviations of the noise, lap by lap in turn.
        first: Seed of the first track.
        longest: Actions after which a lap ends.
    """
    from rich.console import Console
    from rich.progress import track

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{first + number}.npz" for number in range(laps)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if not missing:
        return paths
    for number in track(missing, "driving", console=Console(stderr=True)):
        if paths[number].exists():  # by another process since
            continue
        driven = lap(
            first + number,
            driver,
            noise=noise[number % len(noise)],
            taught=True,
            longest=longest,
        )
        frames = np.stack([look(each) for each in driven.observations])
        part = paths[number].with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(
                file, frames=frames, seconds=driven.seconds, wanted=driven.wanted
            )
        part.replace(paths[number])
    return paths


def read_laps(laps: int = LAPS, folder: Path | None = None) -> Samples:
    """Windows of the first laps, recorded first where they are not there yet.

    Args:
        laps: How many.
        folder: Where they are kept; car-racing in the cache folder if not given.

    Raises:
        UserError: A file of a lap is broken; or gymnasium is missing, and a lap.
    """
    return read_recorded(record(folder or cache_folder() / "car-racing", laps))


def read_recorded(paths: Sequence[Path]) -> Samples:
    """Windows of recorded laps; whole laps are held out for validation and test.

    The target of every frame is what the scripted driver would do then.

    Raises:
        UserError: A file of a lap is broken.
    """
    inputs: list[Array] = []
    targets: list[Array] = []
    ids: list[str] = []
    for path in paths:
        try:
            driven = load_arrays(path)
            frames, seconds = driven["frames"], driven["seconds"]
            wanted = driven["wanted"]
        except (UserError, KeyError) as error:
            raise UserError(
                f"{path}: expected a recorded lap, got {error}; delete it to have it "
                "driven again"
            ) from error
        seen = windows(rows_of(frames, seconds))
        inputs += seen
        targets += windows(wanted)
        ids += [f"{path.stem} {number}" for number in range(len(seen))]
    return Samples(
        name="car-racing",
        kind="frames",
        inputs=inputs,
        targets=np.stack(targets),
        ids=np.array(ids),
        groups=np.array([each.split()[0] for each in ids]),
        frame=FRAME,
        fractions=(0.1, 0.1),
    )
