"""scikit-learn estimators: circuits for tables, images and series in memory.

    X, y → samples of a kind → `nacs.train` in a temporary folder → model
    X → samples, scaled as in training → model → classes, probabilities or numbers

| X                                                  | what it is                      |
|----------------------------------------------------|---------------------------------|
| (samples, features)                                | a table, a feature a token; to a|
|                                                    | neuronal model, a step a column |
| (samples, channels, time)                          | series, as aeon has them        |
| list of (time, channels) or aeon's (channels, time)| series that differ in length    |
| (samples, height, width, channels)                 | images                          |

NaN in a series is a missing value.
"""

# ruff: noqa: N803 - scikit-learn passes X by this name

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from nacs.data.base import Array, Dataset, Kind, Split
from nacs.data.memory import (
    all_to_train,
    arranged,
    ragged_series,
    times_first,
    unlabelled,
)
from nacs.errors import UserError
from nacs.evaluation import predict
from nacs.models import lookup
from nacs.recipe import TrainConfig
from nacs.runs import describe_run, load_run, load_tensors, save_tensors, write_json
from nacs.tasks import fitted
from nacs.train import train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise UserError(
        "the estimators need scikit-learn; run pip install 'nacs[estimators]'"
    ) from error

__all__ = [
    "AttentiveClassifier",
    "AttentiveRegressor",
    "NeuronalClassifier",
    "NeuronalRegressor",
]

SAVE = 50
"""Steps without a checkpoint: passes over few samples are made together."""


def _unheard(row: dict[str, Any]) -> None:
    """No bar is shown and no test split looked at where someone hears the figures."""


class _Circuit(BaseEstimator):
    """What the estimators share: from arrays to a trained model, and its answers."""

    _model: ClassVar[str]
    _columns_are_steps: ClassVar[bool]

    _listed: bool
    _time_first: bool
    _like: Split
    _sizes: Any
    _seed: int
    _state: dict[str, Tensor]
    model_: nn.Module

    def __init__(
        self,
        preset: Any = "tiny",
        *,
        epochs: int = 50,
        batch: int = 32,
        learning_rate: float = 3e-3,
        time_channel: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.preset = preset
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.time_channel = time_channel
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self._columns_are_steps
        return tags

    def _targets(self, y: Array) -> Array:
        """What the model is trained to answer."""
        raise NotImplementedError

    def _fit(self, X: Any, y: Any) -> Self:
        """Train from the start: the rate rises, then falls."""
        dataset = self._begin(X, y)
        passes, count = int(self.epochs), len(dataset.train)
        together = max(1, min(passes, SAVE * self.batch // count))
        again = dataset.train.take(np.tile(np.arange(count), together))
        epochs = -(-passes // together)
        config = self._training(
            epochs=epochs,
            min_learning_rate=self.learning_rate / 100,
            warmup_epochs=epochs / 10,
        )
        return self._train(replace(dataset, train=again), config, {})

    def _fit_more(self, X: Any, y: Any) -> Self:
        """Train for one epoch more, or for the first, at one rate."""
        if hasattr(self, "model_"):
            dataset, state = self._dataset(*self._read(X, y), self._like), self._state
        else:
            dataset, state = self._begin(X, y), {}
        done = int(state["progress"][0]) if state else 0
        config = self._training(
            epochs=done + 1, min_learning_rate=self.learning_rate, warmup_epochs=0.0
        )
        return self._train(dataset, config, state)

    def _begin(self, X: Any, y: Any) -> Dataset:
        """Read the first data, which decide scales and sizes."""
        channel = self.time_channel
        if channel is not None and (
            isinstance(channel, bool) or not hasattr(channel, "__index__")
        ):
            raise UserError(
                "`time_channel` must be the number of a channel or None, got "
                f"{channel!r:.80}."
            )
        if not hasattr(self.epochs, "__index__"):
            raise UserError(
                f"`epochs` must be a whole number, got {self.epochs!r:.80}."
            )
        kind = lookup(self._model).config
        if not isinstance(self.preset, str | kind):
            raise UserError(
                f"`preset` must be a name or sizes, got {self.preset!r:.80}; 'tiny' is "
                f"one, a {kind.__name__} the other."
            )
        dataset = self._dataset(*self._read(X, y, first=True))
        self._like = dataset.train.take([0])
        sizes = self.preset
        sizes = lookup(self._model).preset(sizes) if isinstance(sizes, str) else sizes
        self._sizes = fitted(sizes, dataset)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return dataset

    def _training(self, **numbers: Any) -> TrainConfig:
        return TrainConfig(
            batch=self.batch,
            learning_rate=self.learning_rate,
            seed=self._seed,
            **numbers,
        )

    def _dataset(
        self, kind: Kind, inputs: Any, y: Array, like: Split | None = None
    ) -> Dataset:
        name, targets = type(self).__name__, self._targets(y)
        classes = tuple(map(str, getattr(self, "classes_", ())))
        return all_to_train(name, kind, inputs, targets, classes=classes, like=like)

    def _train(
        self, dataset: Dataset, config: TrainConfig, state: dict[str, Tensor]
    ) -> Self:
        """Train, from a state where there is one, as an interrupted run goes on."""
        with TemporaryDirectory() as folder, torch.random.fork_rng():
            out = Path(folder)
            checkpoint = out / "checkpoint" / "training.safetensors"
            if state:
                described = describe_run(self._model, self._sizes, config, dataset)
                write_json(out / "config.json", described)
                save_tensors(checkpoint, state)
            train(self._model, self._sizes, dataset, config, out, report=_unheard)
            self._state = load_tensors(checkpoint)
            model, _ = load_run(out)
        self.model_ = model.double()
        return self

    def _answers(self, X: Any) -> Array:
        """(samples, outputs) logits, or numbers in deviations of training."""
        check_is_fitted(self, "model_")
        kind, inputs, _ = self._read(X)
        plain = replace(self._like, target_mean=None, target_deviation=None)
        answers = predict(self.model_, unlabelled(kind, inputs, plain))
        return answers.double().numpy()

    def _read(
        self, X: Any, y: Any = "no_validation", *, first: bool = False
    ) -> tuple[Kind, Array | list[Array], Array]:
        """What X holds: its kind and samples; and y; each checked by scikit-learn."""
        series = ragged_series(X, known=not first and self._listed)
        if first:
            self._listed = series is not None
            self._time_first = series is None or times_first(series)
        # A list is checked as a table of its channels.
        table: Any = X if series is None else self._channels(series)
        missing = self._columns_are_steps or getattr(table, "ndim", 2) == 3
        finite = "allow-nan" if missing else True
        checked: Any = validate_data(
            self, table, y, reset=first, allow_nd=True, ensure_all_finite=finite
        )
        table, y = checked if isinstance(checked, tuple) else (checked, None)
        kind, inputs = arranged(
            table if series is None else series,
            columns_are_steps=self._columns_are_steps,
            time_first=self._time_first,
            time_channel=self.time_channel,
        )
        return kind, inputs, y

    def _channels(self, series: list[Array]) -> Array:
        """(samples, channels) of zeros for a list of series."""
        counts = {each.shape[1 if self._time_first else 0] for each in series}
        if len(counts) > 1:
            raise UserError(
                f"expected series of as many channels each, got {sorted(counts)}"
            )
        return np.zeros((len(series), counts.pop()))


class _Classifier(ClassifierMixin, _Circuit):
    """A circuit that names classes."""

    classes_: Array

    def fit(self, X: Any, y: Any) -> Self:
        """Learn classes from samples, whatever was learned before.

        Args:
            X: See the top of this module.
            y: (samples,) labels of any type, of two classes or more.

        Raises:
            UserError: X or y is nothing that classes could be learned from.
        """
        self.classes_ = np.zeros(0)
        return self._fit(X, y)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Learn from more samples: one epoch, at one rate.

        Scales and sizes are those of the first samples.

        Args:
            X: As for `fit`.
            y: (samples,) labels.
            classes: All labels that will ever come; needed in the first call.

        Raises:
            UserError: As for `fit`, or `classes` is missing.
        """
        if not hasattr(self, "model_"):
            if classes is None:
                raise UserError(
                    "expected `classes`, all labels that will come, in the first call "
                    "of partial_fit, got None; pass classes=np.unique(y)."
                )
            self.classes_ = np.unique(classes)
        return self._fit_more(X, y)

    def _targets(self, y: Array) -> Array:
        """Numbers of classes; labels of the first call of `fit` are the classes."""
        check_classification_targets(y)
        if not len(self.classes_):
            self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise UserError(
                f"expected 2 classes or more, got one class: {y.tolist()[0]!r}."
            )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise UserError(
                f"y has the label {unknown.tolist()[0]!r}, expected one of the classes "
                f"{', '.join(map(str, self.classes_))}."
            )
        return np.searchsorted(self.classes_, y)

    def predict(self, X: Any) -> Array:
        """(samples,) the likeliest label of each."""
        answers = self._answers(X)
        return self.classes_[answers.argmax(1)]

    def predict_proba(self, X: Any) -> Array:
        """(samples, classes) probabilities, in the order of `classes_`."""
        return torch.from_numpy(self._answers(X)).softmax(-1).numpy()


class _Regressor(RegressorMixin, _Circuit):
    """A circuit that predicts numbers."""

    def fit(self, X: Any, y: Any) -> Self:
        """Learn numbers from samples, whatever was learned before.

        Args:
            X: See the top of this module.
            y: (samples,) numbers of any scale.

        Raises:
            UserError: X or y is nothing that numbers could be learned from.
        """
        return self._fit(X, y)

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from more samples: one epoch, at one rate.

        Scales and sizes are those of the first samples.
        """
        return self._fit_more(X, y)

    def _targets(self, y: Array) -> Array:
        return np.asarray(y, dtype=np.float64)

    def predict(self, X: Any) -> Array:
        """(samples,) numbers in the unit of y."""
        answers = self._answers(X)[:, 0]
        mean, deviation = self._like.target_mean, self._like.target_deviation
        assert mean is not None
        assert deviation is not None
        return answers * deviation + mean


class AttentiveClassifier(_Classifier):
    """An attentive circuit that names classes."""

    _model, _columns_are_steps = "attentive", False


class AttentiveRegressor(_Regressor):
    """An attentive circuit that predicts numbers."""

    _model, _columns_are_steps = "attentive", False


class NeuronalClassifier(_Classifier):
    """A neuronal model that names classes."""

    _model, _columns_are_steps = "neuronal", True


class NeuronalRegressor(_Regressor):
    """A neuronal model that predicts numbers."""

    _model, _columns_are_steps = "neuronal", True
