"""Which remedies to try on a subject, and the evidence for each: the one catalogue.

Specific remedies are tried if there is evidence for them: measurements of the start and the data,
or settings of the subject. General ones (learning rate, steps, optimizer, batch size, another
start) are tried in any case.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ravine.diagnosis.data.profile import NumberStats
from ravine.diagnosis.initialization.probed_program import LARGE_NUMBERS
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.trials.trial_results import SPREAD_EVIDENCE
from ravine.examination.subject import Facts, Strength, Subject, SubjectProfile
from ravine.finding import MANUAL_CHANGES, Evidence

FAR_MEAN = 3.0  # standard deviations of a column's mean from 0
SPREAD_RATIO = 10.0  # of standard deviations of columns
SMALL_RMS = 0.2  # root mean square of inputs or targets
WEIGHT_RATIO = 4.0  # times the usual size of weights, or a quarter of it
LAYER_RATIO = 300.0  # of signal or gradient between layers
FIRST_LOSS_RATIO = 2.0  # times the loss of the best constant answer, and as much more
SUSPECT_DEAD_FRACTION = 0.9  # of a layer's units
SUSPECT_SATURATED_FRACTION = 0.4  # of a layer's units
SUSPECT_DROPOUT_RATE = 0.4  # that may be too much
SUM_RATIO = 1.8  # of the loss of a batch taken twice over that of the batch: a sum has 2
RARE_CLASS_FRACTION = 0.2  # of the rarest class over that of the most frequent
MIN_RARE_EXAMPLES = 3  # held-out ones of the rarest class
SATURATING_LAYERS = 3  # in a row

GENERAL_CAUSES = {  # with what else their remedies may help against
    "learning-rate-low": ("too-few-steps", "optimizer"),
    "learning-rate-high": ("exploding", "optimizer"),
    "too-few-steps": ("learning-rate-low",),
    "optimizer": ("learning-rate-low",),
    "batch-size": ("too-few-steps", "learning-rate-low"),
}
SETTING_CAUSES = (  # for which a subject's settings may be evidence
    "input-scale",
    "frozen-parameters",
    "dropout",
    "over-regularized",
    "optimizer-numerics",
    "normalization",
    "output-activation",
    "hidden-activation",
    "shuffling",
    "architecture-too-small",
    "schedule",
    "gradient-clipping",
)
ORDERED_CAUSES = ("learning-rate-low", "learning-rate-high")


@dataclass(frozen=True)
class Remedy:
    """Treatments for one cause at different strengths; the best of those tried counts. `evidence`
    supports it; one without any is tried on general grounds. `ordered` strengths go on in one
    direction: without evidence none is tried after one that does harm.
    """

    cause: str
    strengths: tuple[Strength, ...]
    evidence: tuple[Evidence, ...] = ()
    where: str = ""
    suspects: tuple[str, ...] = ()
    ordered: bool = False


def remedies_of(subject: Subject, profile: SubjectProfile) -> list[Remedy]:
    """What to try: what findings ask for, what there is evidence for, then the general remedies. Of
    several for one cause there is one, with the strengths of all.
    """
    specific: dict[str, Facts | None] = {
        "loss-reduction": _reduction(profile.start),
        "imbalance": _rare_classes(profile),
        "initialization": _start(profile.start),
        **{cause: subject.facts(cause, profile) for cause in SETTING_CAUSES},
    }
    remedies = [*_asked_for(subject, profile), *_scales(subject, profile)]
    remedies += [_remedy(subject, cause, facts) for cause, facts in specific.items() if facts]
    for cause, suspects in GENERAL_CAUSES.items():
        facts = subject.facts(cause, profile) or Facts(())
        remedies.append(_remedy(subject, cause, replace(facts, suspects=suspects)))
    return _merge_by_cause(remedies)


def _remedy(subject: Subject, cause: str, facts: Facts) -> Remedy:
    about = facts.evidence, facts.where, facts.suspects
    return Remedy(cause, subject.strengths(cause), *about, ordered=cause in ORDERED_CAUSES)


def _merge_by_cause(remedies: Iterable[Remedy]) -> list[Remedy]:
    by_cause: dict[str, Remedy] = {}
    for remedy in remedies:
        known = by_cause.get(remedy.cause)
        if known is None:
            by_cause[remedy.cause] = remedy
            continue
        # what one finding asks for is no step of the ladder: it comes behind it
        apart = tuple(s for s in known.strengths if s not in remedy.strengths)
        by_cause[remedy.cause] = replace(
            known,
            strengths=remedy.strengths + apart,
            evidence=known.evidence or remedy.evidence,
            where=known.where or remedy.where,
            ordered=known.ordered and remedy.ordered,
        )
    return [remedy for remedy in by_cause.values() if remedy.strengths]


def _asked_for(subject: Subject, profile: SubjectProfile) -> Iterator[Remedy]:
    """What findings ask to be changed, where the subject knows how."""
    for finding in profile.findings:
        if finding.changes and not any(c.path in MANUAL_CHANGES for c in finding.changes):
            strength = subject.treatments_for(finding.changes)
            evidence = finding.evidence[:1]
            if strength:
                yield Remedy(finding.cause, (strength,), evidence, finding.where, finding.suspects)


def _scales(subject: Subject, profile: SubjectProfile) -> Iterator[Remedy]:
    """Inputs and targets that are far from mean 0 and standard deviation 1."""
    data = profile.data
    if data is None:
        return
    normed = data.inputs is None or profile.start.network.batch_norm_first
    inputs = () if normed or data.inputs is None else off_scale(data.inputs, "inputs")
    numeric = data.targets is not None and data.kind != "labels"
    targets = off_scale(data.targets, "targets") if numeric and data.targets is not None else ()
    for_inputs = subject.strengths("input-scale") if inputs else ()
    for_targets = subject.strengths("target-scale") if targets else ()
    both = ((*for_inputs[0], *for_targets[0]),) if for_inputs and for_targets else ()
    suspects = ("learning-rate-high",)
    if for_inputs:
        yield Remedy("input-scale", (*for_inputs, *both), inputs, suspects=suspects)
    if for_targets:
        yield Remedy("target-scale", (*for_targets, *both), targets, suspects=suspects)


def off_scale(spread: NumberStats, what: str) -> tuple[Evidence, ...]:
    """What shows that numbers are far from mean 0 and standard deviation 1."""
    found = []
    spreads, offset = spread.measured_spreads, spread.measured_offset
    if offset > FAR_MEAN:
        name = f"mean of a column of the {what} over its spread"
        found.append(Evidence(name, offset, limit=FAR_MEAN))
    if spreads.smallest > 0 and spreads.ratio > SPREAD_RATIO:
        columns = f"{spreads.largest_name} and {spreads.smallest_name}"
        name = SPREAD_EVIDENCE.format(what)
        found.append(Evidence(name, spreads.ratio, limit=SPREAD_RATIO, text=columns))
    size = math.hypot(spread.mean, spread.std)
    small = 0 < size < SMALL_RMS and spreads.largest > 0
    if size > LARGE_NUMBERS or small:
        limit = LARGE_NUMBERS if size > LARGE_NUMBERS else SMALL_RMS
        found.append(Evidence(f"root mean square of the {what}", size, limit=limit))
    return tuple(found)


def _reduction(start: StartProfile) -> Facts | None:
    reduction = start.loss.form.reduction
    if reduction is None or reduction < SUM_RATIO:
        return None
    name = "loss of a batch taken twice over the loss of the batch"
    evidence = Evidence(name, reduction, limit=1.0, text="a sum, not a mean")
    return Facts((evidence,), suspects=("learning-rate-high",))


def _rare_classes(profile: SubjectProfile) -> Facts | None:
    data = profile.data
    if data is None or data.kind not in ("classes", "binary") or len(data.classes.train) < 2:
        return None
    counts = data.classes.train
    held_out = data.classes.validation
    rarest = min(counts, key=lambda k: counts[k])
    share = counts[rarest] / max(counts.values())
    if share >= RARE_CLASS_FRACTION or held_out.get(rarest, 0) < MIN_RARE_EXAMPLES:
        return None
    name = "examples of the rarest class for one of the most frequent"
    which = f"class {data.classes.name_of(rarest)}"
    return Facts((Evidence(name, share, limit=RARE_CLASS_FRACTION, text=which),))


def _start(start: StartProfile) -> Facts:
    """What speaks for another start; it is tried in any case."""
    found: list[tuple[Evidence, str]] = []  # with the place
    suspects = ["vanishing", "exploding"]
    layers = start.network.layers
    flow = start.network.flow
    for layer in layers:
        if layer.weight_rms > 0 and not 1 / WEIGHT_RATIO < layer.weight_ratio < WEIGHT_RATIO:
            name = "size of the weights over the usual one"
            evidence = Evidence(name, layer.weight_ratio, limit=WEIGHT_RATIO, text=layer.where)
            found.append((evidence, layer.where))
    for call in start.network.activations:
        dead_units = 0 if call.makes_output else call.dead_units
        if call.units > 1 and dead_units >= SUSPECT_DEAD_FRACTION * call.units:
            evidence = Evidence("units at 0 for every example", dead_units, text=f"of {call.units}")
            suspects = ["dead-units", *suspects]
        elif call.units > 1 and call.flat_units >= SUSPECT_SATURATED_FRACTION * call.units:
            evidence = Evidence("saturated units", call.flat_units, text=f"of {call.units}")
            suspects = ["saturation", *suspects]
        else:
            continue
        found.append((evidence, call.where))
    for name, ratio in (
        ("spread of the last hidden layer over the first's", flow.signal if flow else None),
        ("gradient at the first hidden layer over the last's", flow.gradient if flow else None),
    ):
        if ratio is not None and ratio > 0 and not 1 / LAYER_RATIO < ratio < LAYER_RATIO:
            limit = LAYER_RATIO if ratio > 1 else 1 / LAYER_RATIO
            evidence = Evidence(name, ratio, limit=limit)
            found.append((evidence, layers[0].where if layers else ""))
    first = start.first_loss.value or 0.0
    constant_loss = start.loss.baselines.constant_loss or 0.0
    if constant_loss > 0 and first > FIRST_LOSS_RATIO * constant_loss + FIRST_LOSS_RATIO:
        text = "that of the best constant answer"
        evidence = Evidence("first loss", first, limit=constant_loss, text=text)
        largest = max(layers, key=lambda layer: layer.weight_ratio, default=None)
        found.append((evidence, "" if largest is None else largest.where))
    where = next((place for _, place in found if place), "")
    return Facts(tuple(evidence for evidence, _ in found[:3]), where, tuple(suspects))
