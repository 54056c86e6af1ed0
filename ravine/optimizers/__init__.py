"""Optimizers, and the clips, averages and snapshots that recipes combine them with."""

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
from ravine.optimizers.averaging import ALL_AVERAGES, ALL_SNAPSHOTS, Ema, Snapshots, Swa
from ravine.optimizers.clipping import ALL_CLIPS, ClipNorm, ClipValue
from ravine.optimizers.lookahead import Lookahead
from ravine.optimizers.muon import Muon
from ravine.optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from ravine.optimizers.second_order import Lbfgs, Newton, SaddleFreeNewton
from ravine.optimizers.sgd import ASGD, SGD, Momentum, Nesterov, Rprop
from ravine.optimizers.torch_optim import AsTorch, TorchOptimizer

SEARCH_OPTIMIZERS = (Lbfgs, Newton, SaddleFreeNewton)  # these have `search` in place of `update`
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
    TorchOptimizer,
    *SEARCH_OPTIMIZERS,
)

__all__ = [
    "ALL",
    "ASGD",
    "ALL_AVERAGES",
    "ALL_CLIPS",
    "ALL_SNAPSHOTS",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "AsTorch",
    "ClipNorm",
    "ClipValue",
    "Ema",
    "TorchOptimizer",
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
    "SEARCH_OPTIMIZERS",
    "SGD",
    "SaddleFreeNewton",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Snapshots",
    "Swa",
]
