"""Whether maps of targets are turned or mirrored against pictures: small patches say far more of
the targets in another orientation than as they are.

Shapes: N pictures, C channels, K columns of a pixel's target, P pixels, F numbers of a patch.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ravine.diagnosis.baseline_learners import Array, evenly_spaced_rows
from ravine.diagnosis.data.profile import BEYOND_DOUBT, TurnedTargets

MIN_IMAGES, MAX_IMAGES, MAX_PIXELS = 30, 240, 150
MAX_CHANNELS = 4  # and as many columns of the targets
PATCH_MARGIN = 2  # pixels around a pixel, on each side
MIN_SIDE = 6
RIDGE_SHARE = 0.01  # of the mean variance of a feature
MIN_EXPLAINED = 0.1  # of the variance: R2 in the better orientation
GIVEN_SHARE = 0.3  # of that R2: most that the targets reach as they are
MIN_TURNED_SHARE = 0.15  # of the pictures: fewer may fit a turn by chance
OTHER_TURNS = 0.25  # of that share: most that all other turns have
TARGET_TURNS: Mapping[str, Callable[[Array], Array]] = {
    "": lambda y: y,
    "mirrored left to right": lambda y: y[..., ::-1],
    "mirrored top to bottom": lambda y: y[..., ::-1, :],
    "turned by 180 degrees": lambda y: y[..., ::-1, ::-1],
    "transposed": lambda y: y.swapaxes(-1, -2),
    "turned by 90 degrees": lambda y: np.rot90(y, 1, (-2, -1)),
    "turned by 270 degrees": lambda y: np.rot90(y, 3, (-2, -1)),
    "transposed and turned by 180 degrees": lambda y: y.swapaxes(-1, -2)[..., ::-1, ::-1],
}


def find_turned_targets(x: Array, y: Array) -> TurnedTargets | None:
    """The orientation of the maps [N, H, W] or [N, K, H, W] that fits pictures [N, C, H, W] far
    better than the given one does, for pictures that the learner did not see: for all together, or
    for some of them; or None. The learner is a ridge on the patch around a pixel and its squares;
    what is usual at a place, and the mean of a picture, are taken off both, for these say nothing
    of the orientation.
    """
    if x.ndim != 4 or y.ndim not in (3, 4) or x.shape[-2:] != y.shape[-2:]:
        return None
    if len(x) < MIN_IMAGES or min(x.shape[-2:]) < MIN_SIDE or y.dtype.kind not in "fiub":
        return None
    rows = evenly_spaced_rows(len(x), MAX_IMAGES)
    x = x[rows][:, evenly_spaced_rows(x.shape[1], MAX_CHANNELS)].astype(float)
    maps = _as_columns(y[rows])
    if not np.isfinite(x).all() or not np.isfinite(maps).all():
        return None
    height, width = x.shape[-2:]
    at = np.indices((height - 2 * PATCH_MARGIN, width - 2 * PATCH_MARGIN)).reshape(2, -1)
    at = at[:, np.random.default_rng(0).permutation(at.shape[1])[:MAX_PIXELS]] + PATCH_MARGIN
    steps = range(-PATCH_MARGIN, PATCH_MARGIN + 1)
    patches = [x[:, :, at[0] + i, at[1] + j] for i in steps for j in steps]
    features = np.concatenate(patches, 1).swapaxes(1, 2)  # [N, P, F]
    known = np.arange(len(x)) % 2 == 0

    def center(values: Array) -> Array:
        values = values - values[known].mean(0)
        return values - values.mean(1, keepdims=True)

    features = center(np.concatenate([features, center(features) ** 2], 2))
    names = [n for n, turn in TARGET_TURNS.items() if turn(y[:1]).shape[-2:] == x.shape[-2:]]
    turned = np.stack([TARGET_TURNS[n](maps)[:, :, at[0], at[1]] for n in names])
    answers = center(turned.transpose(1, 3, 0, 2))  # [N, P, orientations, K]
    left = answers[~known] - _ridge(features, answers, known)
    before = (answers[~known] ** 2).sum((1, 3))  # [N, orientations]
    gains, whole = before - (left**2).sum((1, 3)), before.sum(0)
    scores = gains.sum(0) / np.where(whole > 0, whole, np.inf)
    best = int(scores.argmax())
    more = gains[:, best] - gains[:, 0]
    signal = float(more.mean()) / max(float(more.std()) / len(more) ** 0.5, 1e-30)
    clear = scores[best] >= MIN_EXPLAINED and scores[0] <= GIVEN_SHARE * scores[best]
    if clear and signal > BEYOND_DOUBT:
        given = scores[0]
        return TurnedTargets(turn=names[best], score=scores[best], given_score=given, signal=signal)
    # a picture that is turned teaches the patches nothing false: they do not see where its map is
    return _find_partly_turned(gains / np.where(before > 0, before, np.inf), names)


def _find_partly_turned(parts: Array, names: Sequence[str]) -> TurnedTargets | None:
    """The orientation that some pictures need while others are right as they are, by the `parts`
    [N, orientations] of the variance that is explained of each; or None.
    """
    fits = (parts >= MIN_EXPLAINED) & (parts >= parts.max(1, keepdims=True))
    fits[:, 1:] &= parts[:, 1:] - parts[:, :1] >= MIN_EXPLAINED
    given, *shares = fits.mean(0).tolist()
    common = [i for i, share in enumerate(shares) if share >= MIN_TURNED_SHARE]
    others = sum(share for i, share in enumerate(shares) if i not in common)
    turned = sum(shares) - others
    if not common or given < MIN_TURNED_SHARE or others > OTHER_TURNS * turned:
        return None
    return TurnedTargets(
        turn=" or ".join(names[1 + i] for i in common),
        score=float(parts[:, 1:].max(1).mean()),
        given_score=float(parts[:, 0].mean()),
        turned_share=turned,
        given_share=given,
    )


def _as_columns(y: Array) -> Array:
    """Maps [N, K, H, W]: of whole numbers one for each of the commonest, else as they are."""
    y = y.reshape(len(y), -1, *y.shape[-2:])
    if y.dtype.kind == "f":
        return y[:, evenly_spaced_rows(y.shape[1], MAX_CHANNELS)].astype(float)
    values, counts = np.unique(y, return_counts=True)
    common = values[np.argsort(-counts)[:MAX_CHANNELS]]
    return np.concatenate([y[:, :1] == value for value in common], 1).astype(float)


def _ridge(features: Array, answers: Array, known: Array) -> Array:
    """Predictions for the pictures that are not known."""
    flat = features[known].reshape(-1, features.shape[2])
    moments = flat.T @ flat
    scale = np.sqrt(np.diag(moments) / len(flat)) + 1e-12
    moments = moments / np.outer(scale, scale)
    strength = RIDGE_SHARE * len(flat) * np.eye(len(scale))
    wanted = (flat / scale).T @ answers[known].reshape(len(flat), -1)
    weights = np.linalg.solve(moments + strength, wanted)
    return ((features[~known] / scale) @ weights).reshape(answers[~known].shape)
