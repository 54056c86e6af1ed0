"""Optimizers, and the clips, averages and snapshots that recipes combine them with."""

from ravine.optimizers.adaptive import Adadelta as Adadelta
from ravine.optimizers.adaptive import Adagrad as Adagrad
from ravine.optimizers.adaptive import Adam as Adam
from ravine.optimizers.adaptive import Adamax as Adamax
from ravine.optimizers.adaptive import AdamW as AdamW
from ravine.optimizers.adaptive import Lion as Lion
from ravine.optimizers.adaptive import NAdam as NAdam
from ravine.optimizers.adaptive import RAdam as RAdam
from ravine.optimizers.adaptive import RMSprop as RMSprop
from ravine.optimizers.averaging import ALL_AVERAGES as ALL_AVERAGES
from ravine.optimizers.averaging import ALL_SNAPSHOTS as ALL_SNAPSHOTS
from ravine.optimizers.averaging import Ema as Ema
from ravine.optimizers.averaging import Swa as Swa
from ravine.optimizers.clipping import ALL_CLIPS as ALL_CLIPS
from ravine.optimizers.clipping import ClipNorm as ClipNorm
from ravine.optimizers.clipping import ClipValue as ClipValue
from ravine.optimizers.lookahead import Lookahead
from ravine.optimizers.muon import Muon
from ravine.optimizers.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from ravine.optimizers.second_order import Lbfgs, Newton, SaddleFreeNewton
from ravine.optimizers.sgd import ASGD, SGD, Momentum, Nesterov, Rprop
from ravine.optimizers.torch_optim import AsTorch as AsTorch
from ravine.optimizers.torch_optim import TorchOptimizer as TorchOptimizer

SEARCH_OPTIMIZERS = (Lbfgs, Newton, SaddleFreeNewton)  # these have `search` in place of `update`
ALL = (
    (SGD, Momentum, Nesterov, ASGD, Rprop)
    + (Adagrad, Adadelta, RMSprop, Adam, AdamW, NAdam, RAdam, Adamax, Lion)
    + (Muon, ScheduleFreeSGD, ScheduleFreeAdamW, Lookahead, TorchOptimizer)
    + SEARCH_OPTIMIZERS
)
