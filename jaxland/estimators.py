"""Estimators of scikit-learn whose loss landscape is mapped while they are fitted.

    from jaxland.estimators import LandscapeClassifier
    model = make_pipeline(StandardScaler(), LandscapeClassifier(hidden=(8,))).fit(X, y)
    model[-1].landscape_            # every minimum and transition state that was found

``predict`` takes the lowest minimum, or all of them weighed by their share of the posterior (``average=True``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxland.errors import DependencyError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise DependencyError.of("scikit-learn", "sklearn") from error

if TYPE_CHECKING:
    from jaxland.landscape.result import Landscape
    from jaxland.problem.problem import Problem


class _OnLandscape(BaseEstimator):
    """What the two have in common.

    Args:
        hidden: widths of the hidden layers.
        activation: of ``jaxland.mlp``; smooth ones, as minima and transition states need derivatives.
        l2: weight of the sum of squared parameters; it keeps minima apart and isolated.
        starts: random starts that are quenched.
        minima: stop when so many are joined to the lowest.
        rounds: of the search for transition states; 0 looks for minima alone.
        average: predict with all minima, each weighed by exp(-n (loss - lowest loss)), instead of the lowest.
        random_state: seed of every random choice.

    Attributes after ``fit``: ``landscape_``, ``problem_`` (standing at the lowest minimum), ``loss_`` (its loss),
    ``n_features_in_``, ``n_iter_`` (random starts), ``feature_names_in_`` where X has names, ``classes_``.
    """

    _loss = "squared_error"

    def __init__(
        self,
        hidden: tuple[int, ...] = (5,),
        activation: str = "tanh",
        l2: float = 1e-3,
        *,
        starts: int = 16,
        minima: int = 16,
        rounds: int = 1,
        average: bool = False,
        random_state: Any = None,
    ) -> None:
        self.hidden, self.activation, self.l2 = hidden, activation, l2
        self.starts, self.minima, self.rounds = starts, minima, rounds
        self.average, self.random_state = average, random_state

    def _fit(self, x: np.ndarray, y: np.ndarray, outputs: int) -> None:
        from sklearn.utils import check_random_state

        from jaxland.landscape import explore
        from jaxland.models import mlp
        from jaxland.problem.problem import Problem

        given = self.random_state
        seed = given if isinstance(given, int | np.integer) else check_random_state(given).randint(2**31 - 1)
        model = mlp((x.shape[1], *self.hidden, outputs), self.activation)
        problem = Problem.from_model(model, x, y, loss=self._loss, l2=self.l2, dtype="float64")
        self.landscape_: Landscape = explore(
            problem, starts=self.starts, minima=self.minima, rounds=self.rounds, seed=int(seed)
        )
        self.problem_: Problem = problem.at(self.landscape_.best)
        self.loss_ = float(self.landscape_.energies[0])
        self.n_iter_ = self.starts

    def _outputs(self, x: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """(share, outputs [n, c]) of every minimum that predicts."""
        found = self.landscape_
        if not self.average:
            return [(1.0, np.asarray(self.problem_.predict(None, x)))]
        weights = np.exp(-self.problem_.n * (found.energies - found.energies[0]))
        shares = weights / weights.sum()
        return [
            (float(share), np.asarray(self.problem_.predict(w, x)))
            for share, w in zip(shares, found.coordinates)
            if share > 1e-6
        ]

    def _validated(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=np.float64)


class LandscapeClassifier(ClassifierMixin, _OnLandscape):
    """A dense network with the cross-entropy, and the landscape of its loss."""

    _loss = "cross_entropy"

    def fit(self, X: Any, y: Any) -> LandscapeClassifier:
        """Map the landscape of the loss on X [n, d] and labels y [n]."""
        x, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{type(self).__name__} needs at least two classes; y has one class: {self.classes_[0]}")
        self._fit(x, codes, len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of every class [n, c]."""
        from scipy.special import softmax

        return sum(share * softmax(outputs, axis=1) for share, outputs in self._outputs(self._validated(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class [n]."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]


class LandscapeRegressor(RegressorMixin, _OnLandscape):
    """A dense network with the squared error, and the landscape of its loss."""

    def fit(self, X: Any, y: Any) -> LandscapeRegressor:
        """Map the landscape of the loss on X [n, d] and values y [n]."""
        x, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self.centre_ = float(np.mean(values))
        self.scale_ = float(np.std(values)) or 1.0
        self._fit(x, (np.asarray(values, np.float64) - self.centre_) / self.scale_, 1)
        return self

    def predict(self, X: Any, return_std: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Values [n], and with ``return_std`` how far they move when the training rows are resampled (RUE).

        The resampling uncertainty estimate (Schulam & Saria 2019) is that of the lowest minimum.
        """
        x = self._validated(X)
        found = sum(share * outputs[:, 0] for share, outputs in self._outputs(x))
        values = np.asarray(found) * self.scale_ + self.centre_
        if not return_std:
            return values
        from jaxland.hessian import curvature, uncertainty

        spread = uncertainty(curvature(self.problem_), x, of="output", samples=200)
        return values, np.asarray(spread.std) * self.scale_
