"""Probe a model and its loss before the first step: `profile_start` runs copies of the model and
returns what was measured.

Nothing that is given changes: models are copied, random numbers are isolated, no gradient is left
behind. A probe that breaks leaves its part of the profile empty.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.constant_baseline import Loss
from ravine.diagnosis.initialization import dependence_probe, signal_probe
from ravine.diagnosis.initialization.contract_probe import probe_contracts
from ravine.diagnosis.initialization.gradient_probe import probe_gradients
from ravine.diagnosis.initialization.layout_probe import probe_layout
from ravine.diagnosis.initialization.loss_probe import probe_loss
from ravine.diagnosis.initialization.pairing_probe import probe_loss_pairing
from ravine.diagnosis.initialization.probed_program import ProbedProgram, prepare_program
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.errors import typed_message
from ravine.rng import isolated_rng

# by the field of the profile
START_PROBES: Mapping[str, Callable[[ProbedProgram], object | None]] = {
    "mixing": dependence_probe.probe_mixing,
    "pairing": probe_loss_pairing,
    "layout": probe_layout,
    "causality": dependence_probe.probe_causality,
    "repeat": dependence_probe.probe_repeat,
    "gradients": probe_gradients,
    "dependence": dependence_probe.probe_dependence,
    "loss": probe_loss,
    "contracts": probe_contracts,
    "first_loss": signal_probe.probe_first_loss,
    "network": signal_probe.probe_network,
    "batch_norms": signal_probe.probe_batch_norms,
}


def profile_start(
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    *,
    seed: int = 0,
    without: Collection[str] = (),
) -> StartProfile:
    """Probe a model and a loss on some training examples, of which at most 256 are used; `without`
    are probes that have no meaning for them, and are not made.

    It never raises: `StartProfile.broke` says what did not work.

    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> start = profile_start(net, lambda out, y: ((out - y) ** 2).mean(), x, x[:, 0])
    >>> start.pairing.compares_all, start.mixing.difference
    (True, None)
    """
    with isolated_rng(seed), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            program = prepare_program(model, loss, inputs, targets, seed=seed)
        except Exception as error:  # the model's own code may raise anything
            broke = {"outputs": typed_message(error)}
            return StartProfile(measured={"outputs": False}, broke=broke)
        results: dict[str, Any] = {}
        broke = {}
        for name, probe in START_PROBES.items():
            if name in without:
                continue
            try:
                results[name] = probe(program)
            except Exception as error:
                broke[name] = typed_message(error)
    found = {name: result for name, result in results.items() if result is not None}
    measured = dict.fromkeys(results) | dict.fromkeys(("outputs", *found), True)
    measured |= dict.fromkeys(broke, False)
    return StartProfile(measured=measured, broke=broke, examples=len(program.inputs), **found)
