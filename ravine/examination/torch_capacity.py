"""Whether a network is too small: it cannot learn a few examples by heart, and more units help.

Letters: N examples, K outputs.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.diagnosis.baseline_learners import are_tokens, to_array
from ravine.diagnosis.output_kinds import OUTPUT_KINDS, find_class_axis, find_probabilities
from ravine.diagnosis.trials.trial_results import TRIAL_SEEDS, TrialResults
from ravine.examination.scores import scaled_accuracy
from ravine.examination.subject import CannotTryError, RunOwn
from ravine.examination.torch_change import apply_treatments, change_of_program
from ravine.examination.torch_data import TensorData
from ravine.examination.torch_program import TorchProgram, evaluating, train_program
from ravine.examination.torch_results import seed_run
from ravine.examination.torch_training_changes import scale_learning_rate
from ravine.examination.trials import confirm, median_outcome
from ravine.rng import isolated_rng
from ravine.statistics import mean_and_sd

MEMORIZED_EXAMPLES, MEMORIZING_STEPS = 32, 300
MEMORIZED_SCORE = 0.9  # of the scaled accuracy
MEMORIZING_FACTORS = (1.0, 10.0, 0.1)
CAPACITY_STEPS = len(MEMORIZING_FACTORS) * MEMORIZING_STEPS + 5 * 100  # of all trials, about
BRANCH_UNITS = 64
MAX_NARROW_UNITS = 3  # of a layer that may be a bottleneck
WEIGHT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
MAX_BRANCH_INPUTS = 20_000  # numbers of an example that a branch takes


def try_capacity(program: TorchProgram, results: TrialResults, run_own: RunOwn) -> TrialResults:
    """The results with how well few examples are memorized, and else the gain of more units;
    `run_own` gives runs of the program as it is.
    """
    last = results.whole_run.evaluations[-1][1]
    if not (math.isfinite(results.constant_loss) and math.isfinite(last)):
        return results
    best = memorized_score(program)
    if best is None:
        return results
    memorizes = best >= MEMORIZED_SCORE
    learner = replace(results.learner, memorized=best, memorizes=memorizes)
    results = replace(results, learner=learner)
    if memorizes:
        return results
    try:
        wider, runs = widen.apply(program.keeping_measure()), []
        for seed in range(program.seed, program.seed + TRIAL_SEEDS):
            steps = min(program.steps, results.steps)
            runs.append(seed_run(train_program(wider, seed=seed, steps=steps)))
    except Exception:  # it cannot be tried, or the model's own code raises
        return results
    outcome = median_outcome("architecture-too-small", runs)
    compared = replace(results, outcomes=(*results.outcomes, outcome))
    return replace(results, wider=confirm(compared, outcome, run_own(), runs))


def is_narrow(program: TorchProgram) -> bool:
    """Whether a hidden layer has so few units, fewer than inputs, that it may be a bottleneck. In
    an autoencoder, whose targets have the shape of its inputs, it is meant to be one.
    """
    modules = program.model.modules()
    widths = [_widths(m) for m in modules if isinstance(m, (*WEIGHT_LAYERS, nn.RNNBase))]
    inputs, targets = program.train.first(1)
    if len(widths) < 2 or not isinstance(inputs, Tensor):
        return False
    if inputs.shape == targets.shape and inputs.is_floating_point():
        return False
    least = min(units for _, units in widths[:-1])
    return least <= MAX_NARROW_UNITS and least < widths[0][0]


def _widths(layer: Any) -> tuple[int, int]:
    """How many inputs a layer has at one place, and how many units."""
    if isinstance(layer, nn.RNNBase):
        return layer.input_size, layer.hidden_size
    return layer.weight.shape[1], layer.weight.shape[0]


def memorized_score(program: TorchProgram) -> float | None:
    """The best score on a few examples that the network learns by heart, at its own rate, ten times
    and a tenth of it. One that does is large enough for what was asked. None where it has no score.
    """
    rows = program.train.first(min(MEMORIZED_EXAMPLES, program.evaluated))
    train = TensorData(*rows, batch=len(rows[0]))
    few = replace(program, train=train, validation=None, epochs=MEMORIZING_STEPS, held_out=False)
    best: float | None = None
    for factor in MEMORIZING_FACTORS:
        changed = apply_treatments(few, (scale_learning_rate(factor),))
        run = train_program(changed, seed=program.seed)
        assert run.model is not None
        with evaluating(run.model):
            score = scaled_accuracy(run.model(rows[0]), rows[1], program.loss)
        best = score if best is None else max(best, score or 0.0)
        if best is not None and best >= MEMORIZED_SCORE:
            break
    return best


class NumberBranch(nn.Module):
    """Hidden units that see all numbers [N, ...], standardized by feature or channel."""

    def __init__(self, inputs: Tensor, shape: Sequence[int]):
        super().__init__()
        self.shape = shape
        self.mean, self.sd = mean_and_sd(inputs)
        self.units = nn.Linear(inputs[0].numel(), BRANCH_UNITS)
        self.last = nn.Linear(BRANCH_UNITS, math.prod(shape))

    def forward(self, x: Tensor) -> Tensor:
        units = self.units(((x - self.mean) / self.sd).flatten(1)).relu()
        return self.last(units).reshape(len(x), *self.shape)


class TokenBranch(nn.Module):
    """Recurrent units that read tokens [N, T]: their states at each place, or at the end."""

    def __init__(self, inputs: Tensor, shape: Sequence[int]):
        super().__init__()
        self.shape, self.by_place = shape, tuple(shape[:-1]) == tuple(inputs.shape[1:])
        self.embed = nn.Embedding(int(inputs.max()) + 1, BRANCH_UNITS)
        self.units = nn.GRU(BRANCH_UNITS, BRANCH_UNITS, batch_first=True)
        self.last = nn.Linear(BRANCH_UNITS, shape[-1] if self.by_place else math.prod(shape))

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.units(self.embed(x.clamp(max=self.embed.num_embeddings - 1)))
        return self.last(states if self.by_place else states[:, -1]).reshape(len(x), *self.shape)


class WiderModel(nn.Module):
    """A model with a branch beside it, whose outputs are added to the model's before what makes
    probabilities of them. They start at 0.
    """

    def __init__(self, model: nn.Module, branch: NumberBranch | TokenBranch, kind: str, axis: int):
        super().__init__()
        self.model, self.branch, self.axis = model, branch, axis
        self.bind, self.free = OUTPUT_KINDS[kind]
        nn.init.zeros_(branch.last.weight)
        nn.init.zeros_(branch.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.bind(self.free(self.model(x)) + self.branch(x), self.axis)


@change_of_program("model", "more units beside it")
def widen(program: TorchProgram) -> TorchProgram:
    """The program with a branch of hidden units beside its network."""
    inputs, targets = program.evaluated_examples()
    with isolated_rng(program.seed), torch.no_grad():
        outputs = program.build()[0].eval()(inputs)
    tokens = are_tokens(to_array(inputs)) and inputs.dim() == 2
    if not isinstance(outputs, Tensor) or not (tokens or inputs.is_floating_point()):
        raise CannotTryError("inputs and outputs are not numbers in single tensors")
    if inputs[0].numel() > MAX_BRANCH_INPUTS:
        raise CannotTryError("an example has too many numbers for a branch beside the network")
    axis = find_class_axis(outputs, targets, program.loss)
    kind = find_probabilities(outputs, axis)
    if not kind and bool(((outputs >= 0) & (outputs <= 1)).all()):
        kind = "0 to 1"
    with isolated_rng(program.seed):
        branch = (TokenBranch if tokens else NumberBranch)(inputs, outputs.shape[1:])
        model = WiderModel(program.model, branch.to(inputs.device), kind, axis)
    if not isinstance(program.optimizer, Optimizer):
        return replace(program, model=model)

    def train_branch(model: nn.Module, optimizer: Optimizer) -> None:
        assert isinstance(model, WiderModel)
        optimizer.add_param_group({"params": list(model.branch.parameters())})

    return replace(program, model=model, prepare=(train_branch, *program.prepare))
