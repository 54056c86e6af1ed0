"""Fine-tuning: which weights of a pretrained network train, when, how fast (Yosinski et al. 2014).

Each part gives a factor of the learning rate for every slot; the factors of several parts are
multiplied. Factors may change at the start of an epoch, not within one. Weights with factor 0 are
frozen bit for bit, whatever the optimizer.

Slots are named by patterns: `"body"` matches every slot whose name begins with `body.`; `*`, `?`
and `[...]` have their meaning in file names. Letters: W weights of a network, D depths.
"""

from collections.abc import Iterable
from typing import ClassVar

from ravine.effects import Effect
from ravine.errors import RecipeError, nearest
from ravine.layout import Layout, Row, matches
from ravine.part import part, setting
from ravine.protocols import Plan

FROZEN_MEANING = "mean share of the weights that were frozen"


class _Freezing:
    """What the parts that freeze weights report."""

    def effect_of(self, row: Row) -> float:
        """The share of the weights whose factor is 0."""
        return float((row == 0).double().mean())


@part
class Freeze(_Freezing):
    """Freeze the slots that match one of the patterns, for the whole run.

    >>> from ravine.layout import Slot
    >>> layout = Layout((Slot(name="body.weight", shape=(1, 2)), Slot(name="output.weight",
    ...                                                               shape=(2, 1))))
    >>> Freeze(layers=("body",)).lr_multipliers(layout, 0, Plan(steps=10, per_epoch=5)).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """

    acts: ClassVar[Effect] = Effect("freeze", FROZEN_MEANING)
    layers: tuple[str, ...] = ("module",)

    def lr_multipliers(self, layout: Layout, step: int, plan: Plan) -> Row:
        frozen = matching_slots(layout, self.layers, setting="Freeze.layers")
        return layout.row(lambda slot: slot.name not in frozen)


@part
class LastLayers(_Freezing):
    """Train the last `count` depths and freeze all before them; 1 is the output layer alone.

    >>> from ravine.layout import Slot
    >>> layout = Layout(tuple(Slot(name=f"{n}.weight", shape=(1, 1)) for n in ("hidden.0",
    ...     "hidden.1", "output")))
    >>> LastLayers(count=2).lr_multipliers(layout, 0, Plan(steps=10, per_epoch=5)).tolist()
    [[0.0, 1.0, 1.0]]
    """

    acts: ClassVar[Effect] = Effect("last layers", FROZEN_MEANING)
    count: int = setting(default=1, ge=1)

    def lr_multipliers(self, layout: Layout, step: int, plan: Plan) -> Row:
        return _of_last(layout, self.count)


@part
class Gradual(_Freezing):
    """Unfreeze a depth every few epochs, from the output down (Howard & Ruder 2018).

    In epoch e (0 is the first) the last 1 + ⌊e / `epochs`⌋ depths train.
    """

    acts: ClassVar[Effect] = Effect("gradual unfreezing", FROZEN_MEANING)
    epochs: int = setting(default=1, ge=1)

    def lr_multipliers(self, layout: Layout, step: int, plan: Plan) -> Row:
        return _of_last(layout, 1 + step // plan.per_epoch // self.epochs)


@part
class Unfreeze(_Freezing):
    """Unfreeze slots in stages: each is an epoch (0 is the first) and the pattern of new slots.

    They train from then on; slots that no stage names stay frozen.

    >>> from ravine.layout import Slot
    >>> layout = Layout((Slot(name="body.weight", shape=(1, 2)), Slot(name="output.weight",
    ...                                                               shape=(2, 1))))
    >>> stages = Unfreeze(stages=((0, "output"), (2, "*")))
    >>> plan = Plan(steps=20, per_epoch=5)
    >>> [stages.lr_multipliers(layout, step, plan).tolist() for step in (0, 9, 10)]
    [[[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]]]
    """

    acts: ClassVar[Effect] = Effect("unfreeze", FROZEN_MEANING)
    stages: tuple[tuple[int, str], ...] = ((0, "output"), (1, "*"))

    def check(self) -> None:
        if any(epoch < 0 for epoch, _ in self.stages):
            raise RecipeError(f"Unfreeze.stages is {self.stages!r}", why="an epoch is at least 0")
        if all(epoch > 0 for epoch, _ in self.stages):
            what = f"Unfreeze.stages is {self.stages!r}"
            do = 'start with a stage at epoch 0: [0, "output"]'
            raise RecipeError(what, why="nothing would train before the first stage", do=do)

    def lr_multipliers(self, layout: Layout, step: int, plan: Plan) -> Row:
        matching_slots(layout, [pattern for _, pattern in self.stages], setting="Unfreeze.stages")
        epoch = step // plan.per_epoch
        begun = [pattern for first, pattern in self.stages if first <= epoch]
        free = matching_slots(layout, begun, setting="Unfreeze.stages")
        return layout.row(lambda slot: slot.name in free)


@part
class DepthRates:
    """A learning rate for each depth: lr · decay^(depths above it) (Howard & Ruder 2018).

    The output layer learns at the optimizer's rate, the one below at `decay` times it, and so on.
    Howard & Ruder divide by 2.6 (decay = 0.385) between the three layers of a language model; for
    networks of ten depths 0.6 to 0.9 is usual.

    >>> from ravine.layout import Slot
    >>> layout = Layout(tuple(Slot(name=f"{n}.weight", shape=(1, 1)) for n in ("hidden.0",
    ...     "hidden.1", "output")))
    >>> DepthRates(decay=0.5).lr_multipliers(layout, 0, Plan(steps=10, per_epoch=5)).tolist()
    [[0.25, 0.5, 1.0]]
    """

    acts: ClassVar[Effect] = Effect(
        "depth rates", "mean |1 − factor of the learning rate| over the weights"
    )
    decay: float = setting(default=0.8, gt=0, le=1)

    def lr_multipliers(self, layout: Layout, step: int, plan: Plan) -> Row:
        found = depths(layout)
        above = {name: len(found) - 1 - d for d, names in enumerate(found) for name in names}
        return layout.row(lambda slot: self.decay ** above[slot.name])

    def effect_of(self, row: Row) -> float:
        return float((1 - row.double()).abs().mean())


ALL = (Freeze, LastLayers, Gradual, Unfreeze, DepthRates)


def depths(layout: Layout) -> tuple[tuple[str, ...], ...]:
    """The names of a network's slots by depth, inputs first, [D].

    A depth is all slots that share their name up to its first number (`hidden.0`, `body.stages.3`),
    or up to the last dot where there is none (`output`). Slots without connections (norms,
    embeddings) belong to the depth before them, or to the first.

    >>> from ravine.layout import Slot
    >>> named = [("columns.table", "embedding"), ("hidden.0.weight", "weight"), ("hidden.0.bias",
    ...                                                                          "bias"),
    ...          ("inner.norm.gamma", "scale"), ("output.weight", "weight")]
    >>> depths(Layout(tuple(Slot(name=n, shape=(1,), role=r) for n, r in named)))
    (('columns.table', 'hidden.0.weight', 'hidden.0.bias', 'inner.norm.gamma'), ('output.weight',))
    """
    groups: dict[str, list[str]] = {}
    connected = set()
    for slot in layout.slots:
        key = _depth_of(slot.name)
        groups.setdefault(key, []).append(slot.name)
        if slot.role == "weight":
            connected.add(key)
    found: list[list[str]] = []
    waiting: list[str] = []
    for key, names in groups.items():
        if key in connected:
            found.append(waiting + names)
            waiting = []
        elif found:
            found[-1] += names
        else:
            waiting += names
    return tuple(tuple(names) for names in (found if not waiting else [waiting]))


def _depth_of(name: str) -> str:
    words = name.split(".")
    last = next((i for i, word in enumerate(words) if word.isdecimal()), len(words) - 2)
    return ".".join(words[: last + 1])


def _of_last(layout: Layout, count: int) -> Row:
    """1 for the weights of the last depths, else 0."""
    free = {name for names in depths(layout)[-count:] for name in names}
    return layout.row(lambda slot: slot.name in free)


def matching_slots(layout: Layout, patterns: Iterable[str], *, setting: str) -> set[str]:
    """The names of the slots that match. Raises `RecipeError` for a pattern that matches none."""
    names = [slot.name for slot in layout.slots]
    found: set[str] = set()
    for pattern in patterns:
        here = [name for name in names if matches(name, pattern)]
        if not here:
            what = f"no slot of the network matches {pattern!r} of {setting}"
            raise RecipeError(what, why=nearest(pattern, names))
        found |= set(here)
    return found
