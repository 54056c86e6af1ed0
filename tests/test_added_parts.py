"""To add a part is to write its class and to list it: nothing else has to change.

Each part here is as a user would write it, in no file of the package; one entry in the list of its
family makes it known. A recipe names it, a run trains with it and is read back.
"""

import dataclasses
import math
from typing import ClassVar

import pandas as pd
import pytest
import torch
from PIL import Image

import ravine
from ravine import protocols
from ravine.catalog import PARTS_BY_ROLE
from ravine.data import Data, ImageEncoder, Images, read_table
from ravine.effects import Effect
from ravine.examination.api import quick_check
from ravine.networks.initializers import He
from ravine.networks.layers import ColumnsLayer, DropoutLayer, LinearLayer
from ravine.part import Number, match, part, setting
from ravine.recipe_files import recipe_from, recipe_text
from ravine.training.defaults import prepare


@part
class LogCosh:
    """log cosh (f − y): a square near 0, straight far away."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def per_example(self, outputs, targets, meter=None):
        error = (outputs - targets).abs()
        return (error + torch.log1p(torch.exp(-2 * error)) - math.log(2)).sum(-1)

    def best_constant(self, targets, shares, outputs):
        return (shares[:, None] * targets).sum(0, keepdim=True)

    def predict(self, outputs):
        return outputs


class PlainLayer:
    """A layer without weights."""

    slots = ()

    def __init__(self, function):
        self.function, self.buffers = function, {}

    def start(self, generators):
        return {}

    def __call__(self, x, tensors, context):
        return self.function(x)


@part
class RootMeanSquareNorm:
    acts: ClassVar[Effect | None] = None
    eps: float = setting(default=1e-6, gt=0)

    def layer(self, name, units):
        return PlainLayer(lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))


@part
class HalfDropout:
    acts: ClassVar[Effect] = Effect("dropout", "fraction of units dropped")

    def layer(self, name):
        return DropoutLayer(name, rate=0.5)


@part
class StridedPool:
    """Every second pixel."""

    acts: ClassVar[Effect | None] = None

    def output_size(self, size):
        return -(-size // 2)

    def layer(self):
        return PlainLayer(lambda x: x[..., ::2, ::2].contiguous())


@part
class LinearModel:
    def build(self, signature):
        columns = ColumnsLayer(signature, size=2)
        return [
            columns,
            LinearLayer("output", columns.outputs, signature.outputs, initializer=He(), bias=He()),
        ]


class SquaredNumbers:
    slots, buffers = (), {}

    def __init__(self, features):
        self.outputs = 2 * features

    def start(self, generators):
        return {}

    def __call__(self, x, tensors, context):
        return torch.cat([x, x.square()], -1)


@part
class WithSquares:
    def layer(self, features):
        return SquaredNumbers(features)


@part
class SignDescent:
    lr: Number = setting(default=0.01, ge=0)

    def start(self, rows):
        return {}

    def update(self, rows, grads, state, context):
        return rows - context.rate(self.lr, rows) * grads.sign(), state


@part
class HalfAfterHalf:
    acts: ClassVar[Effect | None] = None

    def factor(self, step, plan):
        return torch.where(step < plan.steps / 2, 1.0, 0.5).double()


@part
class FourthPower:
    acts: ClassVar[Effect | None] = None
    strength: Number = setting(default=1e-3, ge=0)

    def value(self, rows, decay_mask):
        return match(self.strength, rows) * (decay_mask * rows).pow(4).sum(1, keepdim=True)

    def gradient(self, rows, decay_mask, meter):
        return match(4 * self.strength, rows) * (decay_mask * rows).pow(3)


@part
class Squareplus:
    acts: ClassVar[Effect | None] = None

    def __call__(self, x):
        return 0.5 * (x + (x.square() + 4).sqrt())

    def gain(self):
        return 1.0


TABLE, IMAGES = Data(source="table.csv", target=("y",)), Images(source="images")
ADDED = {  # role: (the part, its place in a recipe, the data)
    protocols.Loss: (LogCosh, {"loss": "LogCosh"}, TABLE),
    protocols.Norm: (RootMeanSquareNorm, {"network": {"norm": "RootMeanSquareNorm"}}, TABLE),
    protocols.Drop: (HalfDropout, {"network": {"dropout": "HalfDropout"}}, TABLE),
    protocols.Pool: (
        StridedPool,
        {"network": {"name": "Conv", "channels": [3], "hidden": [], "pool": "StridedPool"}},
        IMAGES,
    ),
    protocols.Network: (LinearModel, {"network": "LinearModel"}, TABLE),
    protocols.NumberEmbedding: (WithSquares, {"network": {"numbers": "WithSquares"}}, TABLE),
    protocols.Optimizer: (SignDescent, {"optimizer": "SignDescent"}, TABLE),
    protocols.Schedule: (HalfAfterHalf, {"schedule": "HalfAfterHalf"}, TABLE),
    protocols.Penalty: (FourthPower, {"penalties": ["FourthPower"]}, TABLE),
    protocols.Activation: (Squareplus, {"network": {"activation": "Squareplus"}}, TABLE),
}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(80, 2, generator=draw, dtype=torch.float64).numpy()
    pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x[:, 0] - x[:, 1] ** 2}).to_csv(
        "table.csv", index=False
    )
    for kind in ("dark", "light"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for i in range(12):
            level = (40 if kind == "dark" else 200) + i
            Image.new("L", (8, 8), level).save(tmp_path / "images" / kind / f"{i}.png")


@pytest.mark.parametrize("role", ADDED, ids=lambda role: role.__name__)
def test_a_new_part_is_named_in_a_recipe_and_trains(role, sources, tmp_path, monkeypatch):
    cls, settings, data = ADDED[role]
    monkeypatch.setitem(PARTS_BY_ROLE, role, (*PARTS_BY_ROLE[role], cls))
    small = {"base": "plain", "epochs": 3, "batch": 8, "seeds": 2, "optimizer": {"lr": 0.01}}
    recipe = recipe_from(small | settings)
    recipe = dataclasses.replace(recipe, data=data)
    (tmp_path / "recipe.toml").write_text(recipe_text(recipe), encoding="utf-8")
    recipe = ravine.read_recipe("recipe.toml")
    task, resolved = prepare(recipe)
    assert quick_check(resolved, task).checks.failed == ()
    run = ravine.train(recipe, out=tmp_path / "run", workers=1)
    assert cls.__name__ in recipe_text(run.model.recipe) and not run.record.failures
    again = ravine.open_run(tmp_path / "run")
    encoder = again.model.encoder
    rows = encoder.read("images") if isinstance(encoder, ImageEncoder) else read_table("table.csv")
    assert again.predict(rows).equals(run.predict(rows))


def test_a_new_part_is_offered_in_messages(monkeypatch):
    monkeypatch.setitem(PARTS_BY_ROLE, protocols.Loss, (*PARTS_BY_ROLE[protocols.Loss], LogCosh))
    with pytest.raises(ravine.InputError, match="LogCosh"):
        recipe_from({"loss": "LogCoshh"})
