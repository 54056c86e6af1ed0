"""First losses, signals, units, weights and settings of a network that starts badly."""

import math
from collections.abc import Iterator
from dataclasses import replace

from ravine.diagnosis.initialization.profile import ActivationStats, LayerStats, StartProfile
from ravine.diagnosis.rule import Observation, join_names, observe, rule, symptom
from ravine.finding import Change, Evidence

HIGH_LOSS_RATIO = 30.0  # times the loss of the best constant answer
LOW_LOSS_FRACTION = 0.5  # of the same
LARGE_WEIGHT_RATIO, LARGE_TABLE_RATIO = 3.0, 10.0  # times the usual weight, in an embedding
SMALL_WEIGHT_RATIO, TINY_WEIGHT_RATIO = 0.2, 0.03
FADED_SIGNAL, LOST_SIGNAL = 1e-3, 1e-4  # of the signal of the first layer
MIN_UNIT_VALUES, MIN_UNITS = 64, 4  # with fewer nothing is said
SOME_DEAD_FRACTION, DEAD_FRACTION = 0.5, 0.9  # of a layer's units
FLAT_UNITS_FRACTION = 0.5  # of a layer's units
LOST_SLOPE = 0.15  # of the steepest, on average: of the gradient no more passes the layer
GATE_MARGIN = 0.1  # a mean output nearer to 0 or 1 is that of a closed or open gate
LARGE_INPUT_SPREAD = 5.0
SHIFTED_MEAN, STRETCHED_STD = 1.0, 2.0  # standard deviations; times
SLOW_MOMENTUM, FAST_MOMENTUM = 1e-3, 0.99
ROUNDING_SPREAD = 1e-5  # spread of outputs over examples, by rounding alone
HIGH_DROPOUT = 0.8
NEW_WEIGHTS = Change("init", "nn.init.kaiming_normal_(layer.weight)")


@symptom(
    "RVN-I13",
    "note",
    "initialization",
    confidence="medium",
    needs="first_loss",
    also="input-scale, saturation, exploding, target-scale, leakage",
    explains="RVN-I17",
)
def unlike_guessing(start: StartProfile) -> Iterator[Observation]:
    yield from compare_with_guessing(start, low=LOW_LOSS_FRACTION, high=HIGH_LOSS_RATIO)


def compare_with_guessing(start: StartProfile, *, low: float, high: float) -> Iterator[Observation]:
    """A first loss below `low` times that of the best constant answer, or above `high` times it."""
    first, baselines = start.first_loss.value, start.loss.baselines
    constant_loss = baselines.constant_loss or 0.0
    base = max(constant_loss, baselines.even_loss or 0.0)
    if first is None or base <= 0:
        return
    if first < low * constant_loss:
        value = Evidence("first loss", first, limit=low * constant_loss)
        constant = Evidence("loss of the best constant answer", constant_loss)
        title = "the first loss is far below that of guessing"
        yield observe(value, constant, title=title, cause="leakage")
    if not first > high * base:
        return
    evidence = (
        Evidence("first loss", first, limit=high * base),
        Evidence("loss of the best constant answer", baselines.constant_loss),
        Evidence("spread of the outputs", start.first_loss.output_spread),
    )
    layer = next((layer for layer in start.network.layers if has_large_weights(layer)), None)
    if layer is not None:
        name, usual = f"weights of {layer.where}, root mean square", "usual for so many inputs"
        weights = Evidence(name, layer.weight_rms, limit=layer.expected_rms, text=usual)
        seen = observe(*evidence, weights, NEW_WEIGHTS, where=layer.where, severity="warning")
        yield replace(seen, confidence="high", suspects=("saturation", "exploding"))
    else:
        spread = Evidence("spread of the inputs", start.first_loss.input_spread)
        change = Change("input.scale", "standardize")
        suspects = ("initialization", "target-scale")
        yield observe(*evidence, spread, change, cause="input-scale", suspects=suspects)


@symptom(
    "RVN-I14",
    "warning",
    "vanishing",
    confidence="high",
    needs="network",
    also="initialization, exploding, architecture-too-deep, hidden-activation",
    explains="RVN-I13, RVN-I17, RVN-C03",
)
def fading_signal(start: StartProfile) -> Iterator[Observation]:
    flow = start.network.flow
    if flow is None:
        return
    signal, gradient = flow.signal, flow.gradient
    # of the two, the one nearer to 1
    factor = max(signal, gradient) if signal < 1 else 1 / min(signal, gradient)
    if not 0 <= factor < FADED_SIGNAL:
        return
    ratios = sorted(
        layer.weight_ratio
        for layer in start.network.layers
        if not layer.usual_is_one and not math.isnan(layer.weight_ratio)
    )
    usual = ratios[len(ratios) // 2] if ratios else 1.0
    down = signal < 1
    limit = FADED_SIGNAL if down else 1 / FADED_SIGNAL
    cause, suspects = "vanishing" if down else "exploding", ["initialization"]
    if usual < SMALL_WEIGHT_RATIO or usual > LARGE_WEIGHT_RATIO:
        cause, suspects = "initialization", [cause]
    else:
        suspects += ["architecture-too-deep", *(["hidden-activation"] if down else [])]
    change = "spread of the last hidden layer's output over the first's"
    over = f"over {flow.depth} layers, before any step"
    yield observe(
        Evidence(change, signal, limit=limit, text=over),
        Evidence("gradient at the first layer over that at the last", gradient, limit=limit),
        Change("init", "nn.init.kaiming_normal_ (He) or nn.init.xavier_uniform_ (Glorot)"),
        Change("normalization", "nn.BatchNorm1d or nn.LayerNorm between the layers"),
        where=flow.where,
        cause=cause,
        suspects=tuple(suspects),
        severity="warning" if factor < LOST_SIGNAL else "note",
        title="" if down else "the signal grows out of bounds from layer to layer",
    )


@symptom(
    "RVN-I15",
    "warning",
    "dead-units",
    confidence="high",
    needs="network",
    also="initialization, input-scale",
    explains="RVN-C03",
)
def initially_dead_units(start: StartProfile) -> Iterator[Observation]:
    found = [a for a in _hidden_activations(start) if a.values_per_unit >= MIN_UNIT_VALUES]
    a = max(found, key=lambda a: a.dead_units / a.units, default=None)
    if a is None or a.dead_units < SOME_DEAD_FRACTION * a.units:
        return
    limit, where = DEAD_FRACTION * a.units, f"of {a.units} in {a.where}"
    dead = Evidence("units that no example activates", a.dead_units, limit=limit, text=where)
    changes = Change("init", "biases of 0"), Change("activation", "leaky_relu")
    severity = "warning" if a.dead_units >= limit else "note"
    suspects = ("initialization", "input-scale")
    yield observe(dead, *changes, where=a.where, severity=severity, suspects=suspects)


@symptom(
    "RVN-I16",
    "warning",
    "saturation",
    confidence="high",
    needs="network",
    also="initialization, input-scale",
    explains="RVN-I17, RVN-C03",
)
def saturated_units(start: StartProfile) -> Iterator[Observation]:
    symmetric = ("tanh", "hardtanh", "softsign")
    found = [
        a
        for a in _hidden_activations(start)
        if a.function.startswith(symmetric) or GATE_MARGIN < a.mean_output < 1 - GATE_MARGIN
    ]
    a = min(found, key=lambda a: a.mean_slope, default=None)
    if a is None:
        return
    lost = a.mean_slope < LOST_SLOPE or a.flat_units >= DEAD_FRACTION * a.units
    if not lost and a.flat_units < FLAT_UNITS_FRACTION * a.units:
        return
    layer = next((layer for layer in start.network.layers if layer.where == a.where), None)
    ratio = 1.0 if layer is None else layer.weight_ratio
    cause, change = "saturation", Change("input.scale", "standardize")
    if ratio >= LARGE_WEIGHT_RATIO:
        cause, change = "initialization", NEW_WEIGHTS
    elif start.first_loss.input_spread > LARGE_INPUT_SPREAD:
        cause = "input-scale"
    limit = DEAD_FRACTION * a.units
    name = "units at the flat ends of their activation"
    suspects = tuple(c for c in ("saturation", "input-scale", "initialization") if c != cause)
    evidence = (
        Evidence("mean slope over the steepest", 100 * a.mean_slope, "%", limit=100 * LOST_SLOPE),
        Evidence(name, a.flat_units, limit=limit, text=f"of {a.units} in {a.where}"),
        Evidence("weights over what is usual for so many inputs", ratio, "times"),
    )
    found = observe(*evidence, change, where=a.where, cause=cause, suspects=suspects)
    yield replace(found, severity="warning" if lost else "note")


def _hidden_activations(start: StartProfile) -> list[ActivationStats]:
    return [a for a in start.network.activations if a.units >= MIN_UNITS and not a.makes_output]


@rule("RVN-I17", "note", "initialization", confidence="medium", needs="network")
def odd_weight_scale(start: StartProfile) -> Iterator[Observation]:
    found: dict[str, LayerStats] = {}
    for layer in start.network.layers:
        tiny = 0 < layer.weight_ratio <= TINY_WEIGHT_RATIO and not layer.usual_is_one
        if tiny or has_large_weights(layer):
            found.setdefault(layer.where, layer)
    if found:
        worst = max(found.values(), key=lambda layer: abs(math.log(layer.weight_ratio)))
        name, usual = "weights, root mean square", f"usual for {worst.fan_in} inputs"
        weights = Evidence(name, worst.weight_rms, limit=worst.expected_rms, text=usual)
        far_off = Evidence("layers with such weights", len(found), limit=0, text=join_names(found))
        yield observe(weights, far_off, NEW_WEIGHTS, where=worst.where)


def has_large_weights(layer: LayerStats) -> bool:
    """Whether the weights of a layer are far larger than usual."""
    return layer.weight_ratio >= (LARGE_TABLE_RATIO if layer.usual_is_one else LARGE_WEIGHT_RATIO)


@rule(
    "RVN-I18",
    "warning",
    "normalization",
    confidence="high",
    needs="batch_norms",
    also="train-eval-mode",
)
def stale_statistics(start: StartProfile) -> Iterator[Observation]:
    name = "momentum of the running statistics"
    change = Change("model", "momentum=0.1 in batch normalization")
    for norm in start.batch_norms:
        if norm.batch_statistics or norm.momentum is None:
            continue
        off = norm.mean_offset > SHIFTED_MEAN or norm.std_ratio > STRETCHED_STD
        if norm.momentum < SLOW_MOMENTUM and off:
            unit, after = "standard deviations", "after 30 batches"
            distance = "distance of the running mean from the mean"
            mean = Evidence(distance, norm.mean_offset, unit, limit=SHIFTED_MEAN, text=after)
            ratio = "running standard deviation off by"
            momentum = Evidence(name, norm.momentum, limit=SLOW_MOMENTUM)
            std = Evidence(ratio, norm.std_ratio, "times", limit=STRETCHED_STD)
            yield observe(momentum, mean, std, change, where=norm.where)
            return
        if norm.momentum > FAST_MOMENTUM:
            momentum = Evidence(name, norm.momentum, limit=FAST_MOMENTUM)
            title = "batch normalization remembers the last batch only"
            yield observe(momentum, change, where=norm.where, severity="note", title=title)
            return


@rule("RVN-I19", "note", "dropout", confidence="medium", needs="network")
def high_dropout(start: StartProfile) -> Iterator[Observation]:
    found = {name: p for name, p in start.network.dropouts.items() if p >= HIGH_DROPOUT}
    if found:
        where, limit = max(found, key=found.__getitem__), 100 * HIGH_DROPOUT
        dropped = 100 * found[where]
        name, layers = "of the units are dropped", join_names(found)
        evidence = Evidence(name, dropped, "%", limit=limit, text=layers)
        yield observe(evidence, Change("dropout", 0.2), where=where)


@rule(
    "RVN-I23",
    "error",
    "normalization",
    needs="network",
    explains="RVN-I04, RVN-I14, RVN-I17, RVN-X22, RVN-T02, RVN-T07",
)
def single_value_normalization(start: StartProfile) -> Iterator[Observation]:
    found = tuple(dict.fromkeys(start.network.single_value_norms))
    if found:
        alone = start.first_loss.output_spread < ROUNDING_SPREAD  # no other way goes past it
        text = f"in {join_names(found)}: a value minus its own mean is 0"
        one = Evidence("values that are normalized together", 1, limit=2, text=text)
        change = Change("model", "normalize over several values: features, channels, or the batch")
        yield observe(one, change, where=found[0], severity="" if alone else "warning")
