"""Evidence for causes in a torch program and its first run, and what to change for each."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import nn
from torch.optim import AdamW

from ravine.diagnosis.baseline_learners import to_array
from ravine.diagnosis.data.measure import measure_numbers
from ravine.diagnosis.op_names import EXAMPLE_NORM_FUNCTIONS, SATURATING_FUNCTIONS
from ravine.diagnosis.rule import join_names
from ravine.diagnosis.training_loop.parameter_names import optimizer_parameters, plain_weights
from ravine.diagnosis.training_loop.tensor_stats import has_default_initialization
from ravine.examination import model_surgery
from ravine.examination import torch_model_changes as model_changes
from ravine.examination.remedies import SATURATING_LAYERS, SUSPECT_DROPOUT_RATE, off_scale
from ravine.examination.subject import Facts, SubjectProfile
from ravine.examination.torch_change import TorchChange
from ravine.examination.torch_data import TensorData
from ravine.examination.torch_program import TorchProgram, evaluating
from ravine.examination.torch_training_changes import (
    draw_classes_equally,
    scale_learning_rate,
    set_weight_decay,
    shuffle_examples,
    train_all_parameters,
    use_adam,
)
from ravine.finding import Evidence

MAX_EPSILON = 1e-6  # Adam's, beyond which steps shrink with the gradients
LARGE_WEIGHT_DECAY = 0.01  # that is evidence by itself
NORM_MOMENTUM = (0.005, 0.9)  # within which running statistics follow the data
MIN_NORMALIZED_BATCH = 8  # examples; of fewer, the mean and variance are mostly noise
KEPT_EXAMPLES = 2  # of a pass that shows which tensors it replaces
FEW_UPDATES = 20
LAST_FRACTION, UNFINISHED_FALL = 0.6, 0.1  # of the budget; of the loss's whole fall, since then
RISING_LOSS_RATIO = 1.2  # times the first loss

Calls: TypeAlias = Sequence[model_surgery.ModelCall]

USE_RELU = model_changes.replace_activations("relu")
ONE_CHANGE_BY_CAUSE = {  # whether it is suspected or certain
    "frozen-parameters": ((train_all_parameters,),),
    "imbalance": ((draw_classes_equally,),),
    "shuffling": ((shuffle_examples,),),
    "dropout": ((model_changes.remove_dropout,),),
    "normalization": ((model_changes.reset_normalization,),),
    "input-scale": ((model_changes.standardize_inputs,),),
    "target-scale": ((model_changes.standardize_targets,),),
}

# What can be tried for a cause that is suspected, from weak to strong
STRENGTHS_BY_CAUSE: Mapping[str, tuple[tuple[TorchChange, ...], ...]] = {
    "learning-rate-low": tuple((scale_learning_rate(k),) for k in (10, 100, 1e3, 1e4, 1e5)),
    "learning-rate-high": tuple(
        (scale_learning_rate(k),) for k in (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
    ),
    "optimizer": ((use_adam(),), (use_adam(0.01),)),
    "optimizer-numerics": ((use_adam(),), (use_adam(0.01),)),
    "loss-reduction": ((model_changes.average_loss,),),
    "initialization": ((model_changes.reinitialize,), (model_changes.scale_start,)),
    "over-regularized": ((set_weight_decay(0.0),),),
    "output-activation": ((model_changes.use_linear_output,),),
    "hidden-activation": ((USE_RELU,), (model_changes.replace_activations("tanh"),)),
    **ONE_CHANGE_BY_CAUSE,
    "normalization": ((model_changes.reset_normalization,), (model_changes.remove_example_norms,)),
}

USUAL_LOSSES = (
    (model_changes.use_cross_entropy,),
    (model_changes.use_binary_cross_entropy,),
    (model_changes.use_squared_error,),
)

# What can be tried for a cause that is certain, the likeliest first
CURES_BY_CAUSE: Mapping[str, tuple[tuple[TorchChange, ...], ...]] = {
    "output-activation": ((model_changes.use_linear_output,), (model_changes.use_sigmoid_output,)),
    "shape-pairing": ((model_changes.pair_loss,), *USUAL_LOSSES),
    "initialization": ((model_changes.reinitialize,), (USE_RELU, model_changes.reinitialize)),
    "dead-units": ((model_changes.reinitialize,),),
    "hidden-activation": ((USE_RELU,),),
    "vanishing": (
        (USE_RELU,),
        (USE_RELU, model_changes.reinitialize),
        (model_changes.scale_start,),
    ),
    "exploding": ((model_changes.reinitialize,), (model_changes.scale_start,)),
    "saturation": ((model_changes.reinitialize,), (model_changes.standardize_inputs,)),
    "parameters-not-in-optimizer": ((train_all_parameters,),),
    "loss": USUAL_LOSSES,
    **ONE_CHANGE_BY_CAUSE,
    "imbalance": tuple((*usual, draw_classes_equally) for usual in USUAL_LOSSES[:2]),
}


def _rising_loss(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    """A loss above where it started is evidence for a lower rate."""
    if profile.results is None:
        return None
    whole = profile.results.whole_run.evaluations
    if not math.isfinite(whole[-1][1]):
        return Facts((Evidence("step at which the loss stopped being finite", whole[-1][0]),))
    first = whole[0][1]
    worst = max(loss for _, loss, _ in whole)
    if worst <= RISING_LOSS_RATIO * first:
        return None
    ratio = worst / max(first, 1e-12)
    return Facts((Evidence("highest loss over the first", ratio, limit=RISING_LOSS_RATIO),))


def _scale(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    """Where batches are not made of rows, so that data have no profile: what the model is given."""
    if program.form.whole is None or profile.start.network.batch_norm_first:
        return None
    inputs = model_changes.called_on(program)
    stats = (
        None if inputs is None else measure_numbers(to_array(inputs), by_channel=inputs.dim() > 2)
    )
    evidence = () if stats is None else off_scale(stats, "inputs")
    return Facts(evidence, suspects=("learning-rate-high",)) if evidence else None


def _few_updates(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    """Few updates in all, at the end of which the loss falls as it did before."""
    if profile.results is None or program.steps > FEW_UPDATES:
        return None
    known = {step: loss for step, loss, _ in profile.results.whole_run.evaluations}
    late = [loss for step, loss in known.items() if step >= LAST_FRACTION * program.steps]
    fell, first = late[0] - late[-1] if late else 0.0, next(iter(known.values()), math.nan)
    if not late or not fell > UNFINISHED_FALL * (first - late[-1]):
        return None
    return Facts((Evidence("updates in all", program.steps, limit=FEW_UPDATES),))


def _frozen_parameters(
    program: TorchProgram, calls: Calls, profile: SubjectProfile
) -> Facts | None:
    """Untrained parameters that are as drawn at random, or matrices that are no parameters."""
    model, optimizer = program.build()
    weights = plain_weights(model)
    if weights:  # what a pass of the model replaces is kept from it, as attention maps are
        with evaluating(model):
            program.form.run(model, program.examples(KEPT_EXAMPLES)[0])
        after = plain_weights(model)
        weights = {name: w for name, w in weights.items() if after.get(name) is w}
    if weights:
        name = "matrices of the model that are neither parameters nor buffers"
        evidence = Evidence(name, len(weights), limit=0)
        return Facts((evidence,), join_names(weights), ("parameters-not-in-optimizer",))
    trained = set(map(id, optimizer_parameters(optimizer)))
    named = model.named_parameters()
    frozen = {name: p for name, p in named if not (p.requires_grad and id(p) in trained)}
    if not frozen:
        return None
    at_random = [
        name
        for name, p in frozen.items()
        if has_default_initialization(p, model.get_submodule(name.rpartition(".")[0]))
    ]
    name = "parameters that are not trained, as drawn at random"
    evidence = (Evidence(name, len(at_random), limit=0),) if at_random else ()
    return Facts(evidence, join_names(at_random or frozen))


def _dropout(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    rates = dict(profile.start.network.dropouts)
    for name, module in program.model.named_modules():
        rate = getattr(module, "dropout", None)  # of attention and recurrent layers
        if isinstance(rate, float):
            rates[name] = rate
    where, most = max(rates.items(), key=lambda r: r[1], default=("", 0.0))
    if most < SUSPECT_DROPOUT_RATE:
        return None
    evidence = Evidence("dropout rate", most, limit=SUSPECT_DROPOUT_RATE)
    return Facts((evidence,), where, ("over-regularized",))


def _weight_decay(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    decay = max(float(g.get("weight_decay") or 0.0) for g in program.build()[1].param_groups)
    if decay <= 0:
        return None
    usual = isinstance(program.build()[1], AdamW) and decay == LARGE_WEIGHT_DECAY
    large = decay >= LARGE_WEIGHT_DECAY and not usual
    return Facts((Evidence("weight decay", decay, limit=LARGE_WEIGHT_DECAY),) if large else ())


def _epsilon(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    epsilons = [group.get("eps") for group in program.build()[1].param_groups]
    largest = max((float(e) for e in epsilons if isinstance(e, int | float)), default=0.0)
    if largest <= MAX_EPSILON:  # Adafactor has two, which are not compared
        return None
    evidence = Evidence("epsilon of the optimizer", largest, limit=MAX_EPSILON)
    return Facts((evidence,), suspects=("learning-rate-low",))


def _norms(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    """Running statistics that do not follow the data, or norms of each example by itself."""
    low, high = NORM_MOMENTUM
    for name, module in program.model.named_modules():
        if not isinstance(module, model_changes.RUNNING_NORMS) or not module.track_running_stats:
            continue
        if module.momentum is not None and not low < module.momentum < high:
            evidence = Evidence("momentum of the running statistics", module.momentum, limit=0.1)
            return Facts((evidence,), name, ("train-eval-mode",))
    count = sum(call.name in EXAMPLE_NORM_FUNCTIONS for call in calls)
    if not count:
        return None
    return Facts((Evidence("norms of each example by itself", count, limit=0),))


def small_normalized_batch(
    program: TorchProgram, calls: Calls, profile: SubjectProfile | None = None
) -> Facts | None:
    """Batch normalization with batches that are too small for it."""
    batch, norm = program.train.batch, nn.modules.batchnorm._BatchNorm
    where = next((name for name, m in program.model.named_modules() if isinstance(m, norm)), None)
    if where is None or batch >= MIN_NORMALIZED_BATCH:
        return None
    evidence = Evidence("examples in a batch, with batch norm", batch, limit=MIN_NORMALIZED_BATCH)
    return Facts((evidence,), where, ("normalization",))


def _output_activation(
    program: TorchProgram, calls: Calls, profile: SubjectProfile
) -> Facts | None:
    names = [calls[i].name for i in model_surgery.output_calls(calls)]
    if not names:
        return None
    evidence = Evidence("activations at the output", len(names), limit=0, text=", ".join(names))
    return Facts((evidence,), profile.start.loss.form.last_at)


def _hidden_activation(
    program: TorchProgram, calls: Calls, profile: SubjectProfile
) -> Facts | None:
    layers = profile.start.network.layers
    where = layers[0].where if layers else ""
    missing = model_surgery.layers_without_activation(calls)
    if missing:
        name = "layers without a nonlinearity behind them"
        return Facts((Evidence(name, len(missing), limit=0),), where)
    softmaxes = model_surgery.hidden_softmaxes(calls)
    if softmaxes:
        evidence = Evidence("softmaxes between layers", len(softmaxes), limit=0)
        return Facts((evidence,), where, ("vanishing",))
    names = [calls[i].name for i in model_surgery.hidden_activations(calls)]
    if sum(name in SATURATING_FUNCTIONS for name in names) < SATURATING_LAYERS:
        return None
    name, text = "saturating activations in a row", ", ".join(sorted(set(names)))
    evidence = Evidence(name, len(names), limit=SATURATING_LAYERS - 1, text=text)
    return Facts((evidence,), where, ("vanishing", "architecture-too-deep"))


def _fixed_order(program: TorchProgram, calls: Calls, profile: SubjectProfile) -> Facts | None:
    train = program.train
    if train.is_shuffled or not isinstance(train, TensorData) or len(train) < 2:
        return None
    return Facts((Evidence("order of the examples", None, text="the same in every epoch"),))


# Evidence for a cause; the calls are those of a forward pass of the model
TORCH_FACTS: Mapping[str, Callable[[TorchProgram, Calls, SubjectProfile], Facts | None]] = {
    "input-scale": _scale,
    "learning-rate-high": _rising_loss,
    "too-few-steps": _few_updates,
    "frozen-parameters": _frozen_parameters,
    "dropout": _dropout,
    "over-regularized": _weight_decay,
    "optimizer-numerics": _epsilon,
    "normalization": _norms,
    "batch-size": small_normalized_batch,
    "output-activation": _output_activation,
    "hidden-activation": _hidden_activation,
    "shuffling": _fixed_order,
}
