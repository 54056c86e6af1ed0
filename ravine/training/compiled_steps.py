"""Steps of small networks by compiled kernels (`compiled_kernels`), where these cover all they do.

Covered are networks with a backward pass that is written out (`ManualBackprop`), on a CPU in
float32, by SGD, momentum, Nesterov's momentum, Adam or AdamW as in torch, with weight decay, any
schedule, label smoothing and weighted examples; not penalties, clipping, averages, augmentation,
snapshots or rates by layer. Steps at which techniques are measured (`is_sampled`) are made by torch
in any case. Which way a network's steps are made depends on its recipe alone, never on the networks
beside it, and these do not change its numbers. Letters: P networks, S steps, L layers.
"""

import functools
import importlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ravine.data import RowGroups, Task
from ravine.errors import first_line
from ravine.losses import BinaryCrossEntropy, SoftmaxCrossEntropy, SquaredError
from ravine.networks.activations import Identity, ReLU, Tanh
from ravine.networks.layers import LinearLayer
from ravine.optimizers.adaptive import Adam, AdamW
from ravine.optimizers.sgd import SGD, Momentum, Nesterov
from ravine.part import Number
from ravine.protocols import Plan
from ravine.training.batches import Batches, InMemory
from ravine.training.cohort import Cohort
from ravine.training.evaluation import Evaluator
from ravine.training.step_statistics import is_sampled

LEAST_STEPS = 256  # reading the kernels takes 0.4 s: one small network saves it in 2,500 steps
OPERATIONS_AT_ONCE = 5e9  # multiplications until signals are looked at again
OPERATIONS_PER_THREAD = 2e7  # less is done before a thread has started

COMPILED_WAY, TORCH_WAY = "compiled", "torch"

# what the constants of the kernels are called
LOSS_NAMES: dict[type, str] = {
    SoftmaxCrossEntropy: "SOFTMAX_LOSS",
    SquaredError: "SQUARED_LOSS",
    BinaryCrossEntropy: "BINARY_LOSS",
}
ACTIVATION_NAMES: dict[type, str] = {
    Identity: "NO_ACTIVATION",
    ReLU: "RELU_ACTIVATION",
    Tanh: "TANH_ACTIVATION",
}
RULE_NAMES: dict[type, str] = {
    SGD: "SGD_RULE",
    Momentum: "MOMENTUM_RULE",
    Nesterov: "NESTEROV_RULE",
    Adam: "ADAM_RULE",
    AdamW: "ADAM_RULE",
}


class Shape(NamedTuple):
    """What the kernels must know of a network."""

    sizes: tuple[int, ...]  # [L + 1], the inputs first
    activations: tuple[str, ...]  # [L], names of constants


class CompiledSteps:
    """The steps of a cohort's networks as they are now; made anew when networks leave."""

    def __init__(self, cohort: Cohort, batches: InMemory, shape: Shape, threads: int):
        self.cohort, self.batches, self.shape = cohort, batches, shape
        self.threads = threads
        optimizer, loss = cohort.parts.optimizer, cohort.parts.loss
        self.kernels: Any = load_kernels()
        self.rule = getattr(self.kernels, RULE_NAMES[type(optimizer)])
        self.loss = getattr(self.kernels, LOSS_NAMES[type(loss)])
        self.activations = [getattr(self.kernels, name) for name in shape.activations]
        names = ("momentum", "dampening", "beta1", "beta2", "eps")
        settings = [getattr(optimizer, name, 0.0) for name in names]
        settings.append(getattr(loss, "label_smoothing", 0.0))
        self.settings = np.concatenate([self._columns(value, 1) for value in settings], 1)
        examples = batches.examples
        assert examples.targets is not None
        is_class = isinstance(loss, SoftmaxCrossEntropy)
        no_classes, no_targets = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0)
        weights = torch.zeros(0) if examples.weights is None else examples.weights
        self.data = [
            tensor.contiguous().numpy()
            for tensor in (
                examples.numbers,
                examples.targets if is_class else no_classes,
                no_targets if is_class else examples.targets,
                weights,
            )
        ]

    @classmethod
    def of(cls, cohort: Cohort, batches: Batches, *, threads: int) -> Self | None:
        """The steps of a cohort; None where the kernels do not cover them, or with no threads."""
        if not (threads and cohort.ids and isinstance(batches, InMemory)):
            return None
        shape = covered_shape(cohort)
        if shape is None or load_kernels() is None:
            return None
        return cls(cohort, batches, shape, threads)

    def train(self, evaluate: Evaluator, factors: Any) -> bool:
        """Make the steps up to the next one that torch makes, or to an evaluation.

        `factors` are the `ScheduleFactors` of the cohort. Returns whether any step was made.
        """
        cohort = self.cohort
        optimizer, step = cohort.parts.optimizer, cohort.step
        until = self._last_step(evaluate)
        count = until - step
        if not count:
            return False
        factor = factors.between(step, until)
        rates = self._columns(optimizer.lr * factor, count)
        decays = self._columns(_decay(optimizer, factor), count)
        order, ends = self.batches.places(step, until)
        shared = order.expand(len(cohort.ids), -1).contiguous().numpy()
        rows = cohort.weights.numpy()
        remembered = type(optimizer).remembers  # type: ignore[reportAttributeAccessIssue]
        moments = [cohort.state.optimizer[name].numpy() for name in remembered]
        moments += [np.empty((len(rows), 0), np.float32)] * (2 - len(moments))
        losses = cohort.state.losses["sum"].numpy().reshape(-1)
        batch = int(np.diff(ends, prepend=0).max())
        kernels = self.kernels

        def work(first: int, last: int) -> None:
            here = slice(first, last)
            scratch = torch.empty(kernels.floats_needed(self.shape.sizes, batch)).numpy()
            kernels.train_networks(
                rows[here],
                *(moment[here] for moment in moments),
                losses[here],
                *self.data,
                shared[here],
                ends,
                np.array(self.shape.sizes),
                np.array(self.activations),
                self.loss,
                self.rule,
                isinstance(optimizer, AdamW),
                rates[here],
                decays[here],
                self.settings[here],
                cohort.workspace.decay_mask.reshape(-1).numpy(),
                step,
                scratch,
            )

        operations = 3.0 * self.batches.batch * rows.size * count
        _run_in_threads(
            work, len(rows), min(self.threads, 1 + int(operations / OPERATIONS_PER_THREAD))
        )
        cohort.step = until
        cohort.state.loss_count += count
        return True

    def _last_step(self, evaluate: Evaluator) -> int:
        """The next step that is sampled (perhaps that at hand), that is evaluated before, or that
        begins an epoch; no more steps than take a moment.
        """
        step, plan = self.cohort.step, self.cohort.job.plan
        operations = 3 * self.batches.batch * self.cohort.weights.numel()
        until = min(plan.steps, step + max(1, int(OPERATIONS_AT_ONCE / operations)))
        until = min(until, self.batches.end_of_epoch(step))
        for end in range(step, until):
            if is_sampled(end, plan) or (end > step and evaluate.due(end)):
                return end
        return until

    def _columns(self, number: Any, count: int) -> np.ndarray:
        """A Number, or one for each step [P or 1, S], for each network: [P, S]."""
        value = torch.as_tensor(number, dtype=torch.float64)
        value = value.reshape(1, 1) if value.dim() == 0 else value
        return value.expand(len(self.cohort.ids), count).contiguous().numpy()


def is_long(plan: Plan) -> bool:
    """Whether a run pays for reading the kernels from the disk."""
    return plan.steps >= LEAST_STEPS


def way_of_steps(cohort: Cohort, task: Task) -> str:
    """How the steps of a cohort are made: "compiled" or "torch", and why by torch where the kernels
    cover them but cannot be used.
    """
    if isinstance(task.train, RowGroups) or covered_shape(cohort) is None:
        return TORCH_WAY
    return COMPILED_WAY if load_kernels() is not None else f"{TORCH_WAY}: {kernel_fault()}"


def covered_shape(cohort: Cohort) -> Shape | None:
    """The shape of a cohort's networks where the kernels cover all that their steps do."""
    parts, work = cohort.parts, cohort.workspace
    if not is_long(cohort.job.plan) or cohort.job.ranks is not None:  # these share each gradient
        return None
    optimizer = parts.optimizer
    extras = (parts.average, parts.clip, parts.snapshots, work.tuning_multipliers)
    if work.manual is None or work.slot_multipliers is not None or any(extras):
        return None
    if parts.penalties or parts.augment or cohort.weights.dtype != torch.float32:
        return None
    known = type(parts.loss) in LOSS_NAMES and type(optimizer) in RULE_NAMES
    if not known or cohort.job.device != "cpu" or not _is_torch_form(optimizer):
        return None
    blocks = work.manual.blocks
    kinds = [Identity if f is None else type(f.activation) for _, f in blocks]
    if not all(kind in ACTIVATION_NAMES for kind in kinds):
        return None
    sizes = [blocks[0][0].slots[0].shape[0]]
    at = 0
    for linear, _ in blocks:
        if not _is_in_order(linear, cohort, at):
            return None
        sizes.append(linear.slots[0].shape[1])
        at += linear.slots[0].size + linear.slots[1].size
    return Shape(tuple(sizes), tuple(ACTIVATION_NAMES[kind] for kind in kinds))


def _is_in_order(linear: LinearLayer, cohort: Cohort, at: int) -> bool:
    """Whether a layer's weights begin at a place of the row and its biases follow them."""
    if not linear.has_bias or linear.scale != 1.0:
        return False
    spans = cohort.network.layout.spans
    weight, bias = (spans[slot.name] for slot in linear.slots)
    return weight[0] == at and bias[0] == weight[1]


def _is_torch_form(optimizer: Any) -> bool:
    """Whether an optimizer's rule is the one that the kernels have."""
    if isinstance(optimizer, Momentum):
        return optimizer.form == "outside"
    if isinstance(optimizer, Nesterov):
        return optimizer.form == "torch"
    if isinstance(optimizer, Adam):
        return optimizer.eps_at == "outside" and optimizer.bias_correction and not optimizer.amsgrad
    return True


def _decay(optimizer: Any, factor: Tensor | float) -> Number:
    """λ, which is added to the gradient; of AdamW the share that weights lose in a step."""
    return optimizer.share(factor) if isinstance(optimizer, AdamW) else optimizer.weight_decay


def _run_in_threads(work: Any, networks: int, threads: int) -> None:
    """Call work(first, last) for parts of the networks, each in a thread of its own."""

    def work_exactly(first: int, last: int) -> None:
        torch.set_flush_denormal(True)  # of this thread
        work(first, last)

    threads = min(threads, networks)
    cuts = [networks * i // threads for i in range(threads + 1)]
    if threads == 1:
        work(0, networks)
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        parts = zip(cuts[1:-1], cuts[2:], strict=True)
        others = [pool.submit(work_exactly, *part) for part in parts]
        work(0, cuts[1])
        for other in others:
            other.result()  # raises what was raised there


def load_kernels() -> Any | None:
    """The module of the kernels; None where Numba is missing, or whatever fails in it."""
    return _kernels_and_fault()[0]


def kernel_fault() -> str:
    """Why there are no kernels, in a line."""
    return _kernels_and_fault()[1]


@functools.cache
def _kernels_and_fault() -> tuple[Any | None, str]:
    try:
        kernels = importlib.import_module("ravine.training.compiled_kernels")
        works = _kernels_work(kernels)
    except Exception as error:  # torch makes the steps then
        return None, first_line(error)
    return (kernels, "") if works else (None, "the compiled kernels failed their test")


def _kernels_work(kernels: Any) -> bool:
    """Whether two steps of a small network give what torch gives."""
    generator = torch.Generator().manual_seed(0)
    sizes, momentum, rate = (5, 19, 3), 0.9, 0.1
    matrices = [
        torch.randn(n, m, generator=generator) for n, m in ((5, 19), (1, 19), (19, 3), (1, 3))
    ]
    x = torch.randn(14, 5, generator=generator)
    y = torch.randint(0, 3, (14,), generator=generator)
    rows = torch.cat([w.reshape(-1) for w in matrices])[None].clone()
    nothing, ones = np.zeros((1, 0), np.float32), np.ones((1, 2))
    losses, order, ends = np.zeros(1), np.arange(14)[None], np.array([7, 14])
    kernels.train_networks(
        rows.numpy(),
        np.zeros((1, rows.shape[1]), np.float32),
        nothing,
        losses,
        *(x.numpy(), y.numpy(), nothing[:0], nothing[0]),
        *(order, ends, np.array(sizes), np.array([kernels.TANH_ACTIVATION, kernels.NO_ACTIVATION])),
        *(kernels.SOFTMAX_LOSS, kernels.MOMENTUM_RULE, False),
        *(rate * ones, 0 * ones, np.array([[momentum, 0.0, 0.0, 0.0, 0.0, 0.0]])),
        np.ones(rows.shape[1], np.float32),
        0,
        np.empty(kernels.floats_needed(sizes, 7), np.float32),
    )
    weights = [w.requires_grad_() for w in matrices]
    velocities = [torch.zeros_like(w) for w in matrices]
    total = 0.0
    for part in (slice(0, 7), slice(7, 14)):
        a, b, c, d = weights
        loss = F.cross_entropy((x[part] @ a + b).tanh() @ c + d, y[part])
        with torch.no_grad():  # torch.optim takes two seconds to import
            grads = torch.autograd.grad(loss, weights)
            for w, v, g in zip(weights, velocities, grads, strict=True):
                w -= rate * v.mul_(momentum).add_(g)
        total += float(loss.detach())
    wanted = torch.cat([w.detach().reshape(-1) for w in weights])
    return bool((rows[0] - wanted).abs().max() < 1e-5 and abs(losses[0] - total) < 1e-5)
