"""Rules that turn gradients into steps, and what stands around them."""

from ravine.optimizers.adaptive import (
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
)
from ravine.optimizers.averaging import ClipNorm, ClipValue, Ema, Lookahead, Swa
from ravine.optimizers.muon import Muon
from ravine.optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from ravine.optimizers.second_order import Lbfgs, Newton, SaddleFreeNewton
from ravine.optimizers.sgd import ASGD, SGD, Momentum, Nesterov, Rprop
from ravine.optimizers.torch_optim import AsTorch, Guest

SEARCHING = (Lbfgs, Newton, SaddleFreeNewton)  # these have `search` in place of `update`
ALL = (
    SGD,
    Momentum,
    Nesterov,
    Adagrad,
    Adadelta,
    RMSprop,
    Adam,
    AdamW,
    NAdam,
    RAdam,
    Adamax,
    Lion,
    Muon,
    Rprop,
    ASGD,
    ScheduleFreeSGD,
    ScheduleFreeAdamW,
    Lookahead,
    Guest,
    *SEARCHING,
)
CLIPS = (ClipNorm, ClipValue)
AVERAGES = (Ema, Swa)

__all__ = [
    "ALL",
    "ASGD",
    "AVERAGES",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "AsTorch",
    "CLIPS",
    "ClipNorm",
    "ClipValue",
    "Ema",
    "Guest",
    "Lbfgs",
    "Lion",
    "Lookahead",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "Newton",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SEARCHING",
    "SGD",
    "SaddleFreeNewton",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Swa",
]
