"""The search of `nacs.tune` run by Ray Tune: the same space, figure and folder.

    Ray Tune (Optuna's draws, ASHA) → train in Ray's processes → study.db → summary

A cluster that is already there is used, else one is started on this machine for the
time of the search. The folder must be one that all machines of a cluster see.
"""

import os
from typing import Any

from nacs.errors import DivergenceError, UserError
from nacs.runs import claim, forget
from nacs.space import changed, distributions
from nacs.train import train
from nacs.tune import METRICS, Plan, check, summary

__all__ = ["tune_ray"]


def tune_ray(
    plan: Plan, *, trials: int = 50, jobs: int = 1, timeout: float | None = None
) -> dict[str, Any]:
    """Search with Ray Tune, or go on with such a search.

    Args:
        plan: What is tried.
        trials: How many in all; those that ASHA stops early count.
        jobs: Trials at a time.
        timeout: Seconds after which no trial goes on.

    Returns:
        See `nacs.tune.summary`.

    Raises:
        UserError: As `nacs.tune.tune`; if Ray is not installed.
    """
    # Ray writes to a server of its makers otherwise, and shows what nobody asked for.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "`ray` is not installed; run pip install 'nacs[ray,tune]'"
        ) from error
    with claim(plan.out):
        check(plan, trials, jobs)
        ours = not ray.is_initialized()
        if ours:
            _start(jobs)
        try:
            _keep(plan, _fit(plan, trials, jobs, timeout))
        finally:
            if ours:
                ray.shutdown()
        return summary(plan, plan.study())


def _start(jobs: int) -> None:
    import ray

    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False)


def _fit(plan: Plan, trials: int, jobs: int, timeout: float | None) -> Any:
    """Ray's results; its own folder makes it go on where it stopped."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def trainable(settings: dict[str, Any]) -> None:
        _one(plan, settings)

    mode = {"minimize": "min", "maximize": "max"}[METRICS[plan.metric]]
    place = (plan.out / "ray").resolve()
    if tune.Tuner.can_restore(str(place)):
        restored = tune.Tuner.restore(
            str(place), trainable, resume_unfinished=True, restart_errored=True
        )
        return restored.fit()
    search = OptunaSearch(
        space=distributions(plan.space, plan.sizes, plan.training),
        metric=plan.metric,
        mode=mode,
        seed=plan.training.seed,
    )
    # One more than there are epochs, or the last epoch would end a trial too early.
    epochs = plan.training.epochs
    scheduler = ASHAScheduler(
        max_t=epochs + 1, grace_period=1 + epochs // 5, metric=plan.metric, mode=mode
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, max_concurrent=jobs),
            scheduler=scheduler,
            num_samples=trials,
            time_budget_s=timeout,
        ),
        run_config=tune.RunConfig(
            name=place.name, storage_path=str(place.parent), verbose=0
        ),
    )
    return tuner.fit()


def _one(plan: Plan, settings: dict[str, Any]) -> None:
    """One trial, in a process of Ray's."""
    from ray import tune

    def report(row: dict[str, Any]) -> None:
        tune.report({plan.metric: row[f"val_{plan.metric}"]})

    folder = plan.out.resolve() / "trials" / tune.get_context().get_trial_id()
    try:
        sizes, training = changed(plan.sizes, plan.training, settings)
        train(plan.model, sizes, plan.dataset, training, folder, report=report)
    except DivergenceError:
        return  # its last figure is that of an epoch before the end: stopped early


def _keep(plan: Plan, results: Any) -> None:
    """Add Ray's trials to the study, so that both kinds are summed up alike."""
    import optuna
    from optuna.trial import TrialState

    study = plan.study()
    known = {each.user_attrs.get("folder") for each in study.get_trials(deepcopy=False)}
    kinds = distributions(plan.space, plan.sizes, plan.training)
    for result in results:
        figures = result.metrics or {}
        folder = figures.get("trial_id")
        if folder is None or folder in known or plan.metric not in figures:
            continue
        ended = figures["training_iteration"] >= plan.training.epochs
        trial = optuna.create_trial(
            state=TrialState.COMPLETE if ended else TrialState.PRUNED,
            value=figures[plan.metric],
            params=result.config,
            distributions=kinds,
            user_attrs={"folder": folder},
        )
        study.add_trial(trial)
        forget(plan.out / "trials" / folder)
