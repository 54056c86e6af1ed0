"""How targets become what a network learns, and how its predictions become answers again.

Letters: N examples, C outputs, M members.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ravine.data.column_encoders import mean_and_spread
from ravine.data.parsing import numbers_of, signs_of, texts_of
from ravine.data.task_type import TaskType
from ravine.errors import DataError
from ravine.old_names import get_key

TargetScaling = Literal["auto", "standard", "log", "none"]
# Below that the logarithm lost: test R² 0.279 -> 0.253 at skewness 4.6 (CPS1988 wages), 0.9775 ->
# 0.9748 at 1.6 (diamonds), 0.863 -> 0.857 at 1.9 (ames); scikit-learn's MLP 128-128, three splits.
# Learned from logarithms is rather the median than the mean, and the score is about the mean.
MIN_SKEWNESS_TO_LOG = 8.0
MIN_SKEWNESS_TO_MENTION = 2.0  # that of an exponential distribution


@dataclass(frozen=True)
class Target:
    """What is predicted, and for regression the scale: y <- (f(y) − center) / spread.

    f is the identity or the logarithm (`transform`).
    """

    task_type: TaskType
    transform: Literal["as it is", "log", "log1p"] = "as it is"
    center: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """How many outputs a network needs: one for binary, else one for each of the labels."""
        return 1 if self.task_type.kind == "binary" else len(self.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each class, label or number is called."""
        asked = self.task_type
        return asked.names if asked.kind == "regression" else tuple(map(str, asked.classes))

    def encode(self, frame: pd.DataFrame) -> Tensor:
        """int64 [N] for classes, float32 [N, 1] for binary, [N, C] for regression and labels."""
        if self.task_type.kind == "regression":
            y = _transform(self.numbers(frame), self.transform)
            scaled = (y - np.array(self.center)) / np.array(self.spread)
            return torch.from_numpy(scaled.astype(np.float32))
        if self.task_type.kind == "labels":
            return torch.from_numpy(_flags(frame, self.task_type))
        index = torch.from_numpy(_places(frame[self.task_type.names[0]], self.task_type))
        return index if self.task_type.kind == "classes" else index[:, None].float()

    def numbers(self, frame: pd.DataFrame) -> np.ndarray:
        """The numbers of a regression target, float64 [N, C]."""
        columns = zip(self.task_type.names, self.task_type.styles, strict=True)
        return np.stack([numbers_of(frame[name], name, style) for name, style in columns], 1)

    def decode(self, predictions: Tensor) -> Tensor:
        """Predictions, or encoded targets, [..., C] in the target's own units, float64.

        Classes and their probabilities stay what they are.
        """
        if self.task_type.kind != "regression":
            return predictions
        scale = partial(torch.tensor, dtype=torch.float64, device=predictions.device)
        y = predictions.double() * scale(self.spread) + scale(self.center)
        return y.exp() if self.transform == "log" else y.expm1() if self.transform == "log1p" else y

    def frame(self, predictions: Tensor, index: Any = None) -> pd.DataFrame:
        """Predictions [N, C] as a table: the answer, and the probability of each class or label."""
        values = self.decode(predictions).detach().cpu().double().numpy()
        kind = self.task_type.kind
        names = self.task_type.names
        classes = self.task_type.classes
        if kind == "regression":
            return pd.DataFrame(values, columns=list(names), index=index)
        if self.task_type.lists:
            rows = [[c for c, p in zip(classes, row, strict=True) if p > 0.5] for row in values]
            answers = pd.Series(rows, index=index, dtype=object).to_frame(names[0])
        elif kind == "labels":
            answers = (values > 0.5).astype(np.int64)
            answers = pd.DataFrame(answers, columns=list(names), index=index)
            for name, pair in zip(names, self.task_type.words, strict=False):
                answers[name] = [pair[place] for place in answers[name]]
        else:
            values = np.concatenate([1 - values, values], 1) if kind == "binary" else values
            picked = [classes[i] for i in values.argmax(1)]
            answers = pd.Series(picked, index=index).to_frame(names[0])
        columns = [f"probability of {c}" for c in self.labels]
        shown = pd.DataFrame(values, columns=columns, index=answers.index)
        return pd.concat([answers, shown], axis=1)

    def to_plain(self) -> dict[str, Any]:
        """Plain data, exact through JSON; as earlier versions wrote it where labels are 0 and 1."""
        plain = dataclasses.asdict(self)
        if not self.task_type.words:
            del plain["task_type"]["words"]
        return plain

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Self:
        """The target that plain data describe."""
        given: dict[str, Any] = dict(get_key(data, "task_type"))
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        given["words"] = tuple(map(tuple, given.get("words", ())))
        transform = get_key(data, "transform")
        return cls(TaskType(**given), transform, tuple(data["center"]), tuple(data["spread"]))


def fit_target(
    train: pd.DataFrame, task_type: TaskType, how: TargetScaling, notes: list[str]
) -> tuple[Target, dict[str, float]]:
    """The target's scale from the training rows, and the effects.

    "auto" takes the logarithm of one non-negative number of skewness above 8 if that at least
    halves it, else standardizes. Raises `DataError` if "log" is set for negative numbers.
    """
    if task_type.kind != "regression":
        return Target(task_type), {}
    y = Target(task_type).numbers(train)
    transform: Any = "as it is"
    if how == "log" or (how == "auto" and len(task_type.names) == 1 and y.min() >= 0):
        if y.min() < 0:
            what = f"the target {', '.join(task_type.names)} has negative values"
            why = "they have no logarithm"
            raise DataError(what, why=why, do='set encoding.target = "standard"')
        candidate = "log" if y.min() > 0 else "log1p"
        before, after = (skewness(values[:, 0]) for values in (y, _transform(y, candidate)))
        if how == "log" or (before > MIN_SKEWNESS_TO_LOG and abs(after) < before / 2):
            transform = candidate
            skewed = f"its skewness is {before:.1f}, the logarithm's {after:.1f} (training rows)"
            notes.append(f"The logarithm of {task_type.names[0]} is learned: {skewed}.")
        elif before > MIN_SKEWNESS_TO_MENTION and abs(after) < before / 2:
            skewed = f"{task_type.names[0]} is skewed ({before:.1f}, its logarithm {after:.1f})"
            notes.append(f'{skewed}. If relative errors matter, set encoding.target = "log".')
    z = _transform(y, transform)
    scales = [(0.0, 1.0) if how == "none" else mean_and_spread(column) for column in z.T]
    centers, spreads = zip(*scales, strict=True)
    if min(spreads) == 0:
        name = task_type.names[spreads.index(0)]
        why, do = "there is nothing to learn", "split at random, or choose another target"
        raise DataError(f"the target {name} is the same in all training rows", why=why, do=do)
    effects = {} if how == "none" else {"targets standardized": float(len(task_type.names))}
    effects |= {} if transform == "as it is" else {"targets logged": 1.0}
    return Target(task_type, transform, centers, spreads), effects


def skewness(x: np.ndarray) -> float:
    """The third standardized moment, 0 for a constant.

    >>> round(skewness(np.array([0.0, 0.0, 3.0])), 4)
    0.7071
    """
    center, spread = mean_and_spread(x)
    return float((((x - center) / spread) ** 3).mean()) if spread > 0 else 0.0


def _transform(y: np.ndarray, transform: str) -> np.ndarray:
    return np.log(y) if transform == "log" else np.log1p(y) if transform == "log1p" else y


def _places(values: pd.Series, task_type: TaskType) -> np.ndarray:
    texts, codes = texts_of(values)
    known = texts_of(pd.Series(list(task_type.classes), dtype=object))[0]
    places = pd.Index(known, dtype=object).get_indexer(pd.Index(texts, dtype=object))
    if (places < 0).any():
        odd = texts[int(np.flatnonzero(places < 0)[0])]
        what = f"the target {task_type.names[0]} has the unknown class {odd!r}"
        why = f"the classes are {', '.join(known[:10])}"
        raise DataError(what, why=why, do="leave these rows out")
    return places.astype(np.int64)[codes]


def _flags(frame: pd.DataFrame, task_type: TaskType) -> np.ndarray:
    if task_type.lists:
        held = [set(map(str, row)) for row in frame[task_type.names[0]]]
        flags = [[float(str(c) in row) for c in task_type.classes] for row in held]
        return np.array(flags, np.float32)
    columns = []
    for name in task_type.names:
        signs = signs_of(frame[name])
        if not signs.all():
            do = "leave these rows out"
            raise DataError(f"the label {name} has values that are neither 0 nor 1", do=do)
        columns.append(np.maximum(signs, 0))
    return np.stack(columns, 1)
