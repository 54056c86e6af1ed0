"""scikit-learn's MLPClassifier in float32, made to run all epochs; two classes are one logistic
output there.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.cases import MOMENTUM, RATES, Case, Go, Watch, Weights

BATCHED, PACKAGES = False, ("scikit-learn",)


def prepare(
    case: Case, optimizer: str, starts: list[Weights], *, epochs: int, watch: Watch | None = None
) -> Go:
    data, binary = case.data(), case.sizes[-1] == 2
    model = MLPClassifier(
        case.sizes[1:-1],
        solver=optimizer,
        alpha=0.0,
        learning_rate_init=RATES[optimizer],
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        max_iter=1,
        n_iter_no_change=10**9,
        warm_start=True,
        # a seed would give partial_fit the same order every epoch
        random_state=np.random.RandomState(0),
    )
    model.set_params(batch_size=case.batch)
    warnings.simplefilter("ignore", ConvergenceWarning)
    first = np.unique(data.classes, return_index=True)[1]
    # one step, to build the model; then it gets its start
    few = np.concatenate([first, np.arange(case.batch)])
    model.fit(data.inputs[few], data.classes[few])
    model.coefs_ = [w.copy() for w, _ in starts[0]]
    model.intercepts_ = [b.copy() for _, b in starts[0]]
    if binary:  # logit of class 1 = difference of the two outputs
        w, b = starts[0][-1]
        model.coefs_[-1], model.intercepts_[-1] = w[:, 1:] - w[:, :1], b[1:] - b[:1]

    def weights() -> list[Weights]:
        found = [(w.copy(), b.copy()) for w, b in zip(model.coefs_, model.intercepts_, strict=True)]
        if binary:
            w, b = found[-1]
            found[-1] = (np.hstack([np.zeros_like(w), w]), np.concatenate([np.zeros_like(b), b]))
        return [found]

    def go() -> None:
        model.max_iter, model.n_iter_ = epochs, 0
        before = model.t_
        model.fit(data.inputs, data.classes)
        assert model.n_iter_ == epochs and model.t_ >= before, (
            "scikit-learn stopped before its last epoch"
        )

    def go_watched() -> None:
        assert watch is not None
        for _ in range(epochs):
            model.partial_fit(data.inputs, data.classes)
            watch(weights)

    if watch is not None:
        del model._optimizer  # partial_fit then makes one for the new start and keeps it
        return go_watched
    return go
