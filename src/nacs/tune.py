"""Search for the settings of a model: many short trainings, chosen by validation.

    space, earlier trials → settings → train → a validation figure an epoch → study.db
                                         ↳ stopped where it is worse than the median

A folder holds the study and a run folder a trial. A search that was killed goes on when
it is started again: a trial that was running is marked as failed, and tried again with
the same settings from its last finished epoch. The test split is never looked at.
"""

import fcntl
import json
import math
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from nacs.data.base import Dataset
from nacs.errors import DivergenceError, UserError
from nacs.models import lookup
from nacs.pages import keep_pages
from nacs.recipe import TrainConfig
from nacs.runs import claim, describe_run, forget, read_json, read_metrics, write_json
from nacs.space import changed, distributions
from nacs.train import train

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ["METRICS", "Plan", "check", "summary", "tune"]

METRICS: dict[str, Literal["minimize", "maximize"]] = {
    "loss": "minimize",
    "rmse": "minimize",
    "accuracy": "maximize",
    "auroc": "maximize",
    "auprc": "maximize",
}
"""Validation figures that a search can go by, and which way is better."""

ATTEMPTS = 3
"""How often a trial may end without one more epoch before it is given up."""


class _Late(Exception):  # noqa: N818
    """The time is up; the trial goes on with the next start."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search tries, and on what."""

    model: str
    """Its name in `nacs.models.MODELS`."""

    sizes: Any
    """Its configuration, of which the space changes some values."""

    training: TrainConfig
    """How a trial is trained, likewise; its seed is the search's too."""

    dataset: Dataset
    """The splits; the test split is not used."""

    space: Mapping[str, str]
    """What is varied; see `nacs.space`."""

    metric: str
    """The validation figure to go by, in `METRICS`."""

    out: Path
    """Folder of the search."""

    def study(self) -> "Study":
        """The study in the folder, made if there is none."""
        import optuna
        from sqlalchemy import URL, exc

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file, late = self.out / "study.db", self.training.epochs // 5
        place = str(URL.create("sqlite", database=str(file)))
        waiting = {"connect_args": {"timeout": 60}}  # for another process's turn
        try:
            return optuna.create_study(
                storage=optuna.storages.RDBStorage(place, waiting),
                study_name="nacs",
                direction=METRICS[self.metric],
                pruner=optuna.pruners.MedianPruner(4, n_warmup_steps=late),
                load_if_exists=True,
            )
        except exc.DatabaseError as error:
            raise UserError(f"{file}: no readable study ({error.orig}).") from error


def tune(
    plan: Plan, *, trials: int = 50, jobs: int = 1, timeout: float | None = None
) -> dict[str, Any]:
    """Search, or go on with a search that was interrupted.

    Args:
        plan: What is tried.
        trials: How many in all, over all starts; pruned ones count.
        jobs: Processes, each of one thread if there are several.
        timeout: Seconds after which trials stop at the end of their epoch, to go on
            with the next start.

    Returns:
        See `summary`.

    Raises:
        UserError: If the folder is in use or belongs to another search, if the space
            makes no sense, or if no trial came to an end.
    """
    late = None if timeout is None else time.time() + timeout
    with claim(plan.out):
        check(plan, trials, jobs)
        study = plan.study()
        _again(study)
        while _left(study, trials) and not (late and time.time() > late):
            _run(plan, study, _left(study, trials), jobs, late)
            _again(study)
        return summary(plan, study)


def check(plan: Plan, trials: int, jobs: int) -> None:
    """Refuse what makes no sense, and another search's folder; remember this search.

    Raises:
        UserError: See `tune`.
    """
    if trials < 1 or jobs < 1:
        raise UserError(
            f"expected at least 1 trial and 1 job, got {trials} trials and {jobs} jobs"
        )
    if plan.metric not in METRICS:
        raise UserError(
            f"there is no metric '{plan.metric}'; metrics: {', '.join(METRICS)}"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "a search starts its own processes: leave out accelerate or torchrun, and "
            "give --jobs"
        )
    distributions(plan.space, plan.sizes, plan.training)
    _check_same(plan)


def _check_same(plan: Plan) -> None:
    now = describe_run(plan.model, plan.sizes, plan.training, plan.dataset)
    now |= {"space": dict(plan.space), "metric": plan.metric}
    path = plan.out / "search.json"
    if not path.exists():
        if any(each.name != ".lock" for each in plan.out.iterdir()):
            raise UserError(f"{plan.out}: already holds something; give another --out")
        write_json(path, now)
    elif read_json(path) != json.loads(json.dumps(now)):
        raise UserError(
            f"{plan.out}: holds another search; give another --out, or remove that "
            "folder"
        )


def _left(study: "Study", trials: int) -> int:
    return max(0, trials - sum(map(_over, _latest(study))))


def _latest(study: "Study") -> "list[FrozenTrial]":
    """Trials, of those that were tried again the last attempt."""
    trials = study.get_trials(deepcopy=False)
    return list({_folder(each): each for each in trials}.values())


def _over(trial: "FrozenTrial") -> bool:
    """Whether a trial is done with: finished, pruned or given up."""
    return trial.state.name in {"COMPLETE", "PRUNED"} or _given_up(trial)


def _given_up(trial: "FrozenTrial") -> bool:
    return trial.state.name == "FAIL" and _attempts(trial) >= ATTEMPTS


def _attempts(trial: "FrozenTrial") -> int:
    """How often in a row a trial ended without one more epoch."""
    before = trial.user_attrs
    if len(trial.intermediate_values) > before.get("epochs", 0):
        return 0
    return before.get("attempts", 0) + 1


def _again(study: "Study") -> None:
    """Mark trials that nobody is running any more as failed, and queue them again."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    for trial in _latest(study):
        if trial.state.name == "FAIL" and not _given_up(trial):
            kept = {
                "folder": _folder(trial),
                "epochs": len(trial.intermediate_values),
                "attempts": _attempts(trial),
            }
            study.enqueue_trial(trial.params, user_attrs=kept)


def _folder(trial: "FrozenTrial | Trial") -> str:
    return trial.user_attrs.get("folder", f"{trial.number:04d}")


def _run(plan: Plan, study: "Study", count: int, jobs: int, late: float | None) -> None:
    """Some trials, here or in processes; one that died leaves its trial running."""
    if jobs == 1:
        for _ in range(count):
            _one(plan, study, late)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, count), spawn, start_job) as pool:
        try:
            for done in [pool.submit(_job, plan, late) for _ in range(count)]:
                done.result()
        except BrokenProcessPool:
            print("nacs: a job was killed; its trial starts again", file=sys.stderr)
        finally:
            pool.shutdown(cancel_futures=True)


def start_job() -> None:
    """Freed memory kept, one thread, and an end when the parent process ends."""
    keep_pages()
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _job(plan: Plan, late: float | None) -> None:
    _one(plan, plan.study(), late)


@contextmanager
def _turn(out: Path) -> Generator[None, None, None]:
    """One process at a time draws settings, so that no two draw with one seed."""
    with (out / ".turn").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _one(plan: Plan, study: "Study", late: float | None) -> None:
    """Draw the settings of one trial and train with them."""
    import optuna
    from optuna.trial import TrialState

    if late and time.time() > late:
        return
    with _turn(plan.out):
        states = [each.state.name for each in study.get_trials(deepcopy=False)]
        drawn = sum(state not in {"FAIL", "WAITING"} for state in states)
        mixed = np.random.SeedSequence([plan.training.seed, drawn])
        study.sampler = optuna.samplers.TPESampler(seed=int(mixed.generate_state(1)[0]))
        trial = study.ask(distributions(plan.space, plan.sizes, plan.training))
    folder = plan.out / "trials" / _folder(trial)
    try:
        value = _value(plan, trial, folder, late)
    except _Late:
        return  # still running, as the study has it
    except optuna.TrialPruned as pruned:
        if str(pruned):
            trial.set_user_attr("why", str(pruned))
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)
    forget(folder)
    done = study.get_trials(deepcopy=False)[trial.number]
    print(_line(plan, done), file=sys.stderr)


def _value(plan: Plan, trial: "Trial", folder: Path, late: float | None) -> float:
    """Train; what the study is told is the figure of the weights that are kept."""
    import optuna

    try:
        sizes, training = changed(plan.sizes, plan.training, trial.params)
        with torch.device("meta"):
            lookup(plan.model).build(sizes)
    except ValueError as error:
        raise optuna.TrialPruned(f"impossible: {error}") from error
    report = _reporter(plan, trial, late)
    for row in read_metrics(folder / "metrics.jsonl"):  # of an earlier attempt
        report(row)
    try:
        result = train(plan.model, sizes, plan.dataset, training, folder, report=report)
    except DivergenceError as error:
        raise optuna.TrialPruned(str(error)) from error
    value = _figure(result, plan.metric)
    if not math.isfinite(value):
        raise optuna.TrialPruned(f"the {plan.metric} is {value}")
    return value


def _reporter(
    plan: Plan, trial: "Trial", late: float | None
) -> Callable[[dict[str, Any]], None]:
    import optuna

    told: set[int] = set()

    def report(row: dict[str, Any]) -> None:
        if row["epoch"] not in told:  # an attempt that was killed while it saved
            trial.report(_figure(row, plan.metric), row["epoch"])
        told.add(row["epoch"])
        # After the last epoch there is nothing to save.
        if row["epoch"] < plan.training.epochs and trial.should_prune():
            raise optuna.TrialPruned
        if late and time.time() > late:
            raise _Late

    return report


def _figure(row: Mapping[str, Any], metric: str) -> float:
    name = f"val_{metric}"
    if name not in row:
        known = [each[4:] for each in row if each[4:] in METRICS]
        raise UserError(
            f"this data has no validation figure '{metric}'; it has {', '.join(known)}"
        )
    return row[name]


def _line(plan: Plan, trial: "FrozenTrial") -> str:
    done = trial.state.name == "COMPLETE"
    shown = f"{plan.metric} {trial.value:.4g}" if done else "stopped early"
    return f"trial {_folder(trial)}: {trial.user_attrs.get('why', shown)}"


def summary(plan: Plan, study: "Study") -> dict[str, Any]:
    """What a search found.

    Returns:
        The best trials, best first, with their settings and folders; `sizes` and
        `training` of the best; how much the figure depends on each setting (shares
        that add up to 1); and how many trials were finished, pruned and given up.

    Raises:
        UserError: If no trial came to an end.
    """
    trials = study.get_trials(deepcopy=False)
    done = [each for each in trials if each.state.name == "COMPLETE"]
    if not done:
        why = [each.user_attrs["why"] for each in trials if "why" in each.user_attrs]
        last = why[-1] if why else "give more time, and start again"
        raise UserError(f"{plan.out}: no trial came to an end; {last}")
    sign = 1 if METRICS[plan.metric] == "minimize" else -1
    done.sort(key=lambda each: sign * (each.value or 0))
    sizes, training = changed(plan.sizes, plan.training, done[0].params)
    return {
        "metric": plan.metric,
        "best": [
            {"trial": _folder(each), plan.metric: each.value, **each.params}
            for each in done
        ],
        "model": plan.model,
        "sizes": json.loads(json.dumps(asdict(sizes))),
        "training": asdict(training),
        "importance": _importance(study, len(done)),
        "finished": len(done),
        "pruned": sum(each.state.name == "PRUNED" for each in trials),
        "given up": sum(map(_given_up, _latest(study))),
    }


def _importance(study: "Study", finished: int) -> dict[str, float]:
    """Shares of the variance between trials, where there are enough of them."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if finished < 4:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that all trials are equally good
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
