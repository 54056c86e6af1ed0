"""Which remedy explains a run best, on outcomes made by hand, and when none does."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.diagnosis.registry import SYMPTOM_CODES, TRIAL_RULES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.trials.trial_results import (
    LearnerComparison,
    Outcome,
    TrialResults,
    WholeRun,
    find_lag,
)
from ravine.finding import CAUSES, Change, Evidence, Trial

FACT = (Evidence("a fact", 1.0),)
HELPED, IDLE = Trial(verdict="helped"), Trial(verdict="no effect")


def outcome(cause, loss, score=None, *, fact=False, trial=HELPED, **more):
    return Outcome(
        cause=cause,
        changes=(Change("lr", "x10"),),
        losses=(loss,),
        scores=(score,),
        trial=trial,
        evidence=FACT if fact else (),
        **more,
    )


def results(base, *outcomes, score=None, null=1.0, **more):
    """A run that ended at a loss of `base`; the best constant answer has 1 unless said
    otherwise.
    """
    return TrialResults(
        base=outcome("healthy", base, score, trial=None),
        outcomes=outcomes,
        constant_loss=null,
        start_loss=2.0,
        steps=100,
        **more,
    )


def causes(seen):
    return [f.cause for f in run_rules(TRIAL_RULES, seen)[0]]


def required(remedy):
    return 0.2 if remedy.evidence else 0.45


# Gains


@pytest.mark.parametrize(
    ("score", "loss", "underconfident"),
    [(0.91, 0.71, True), (0.89, 0.71, False), (0.91, 0.69, False), (0.98, 0.71, True)],
)
def test_a_right_order_counts_little_while_the_loss_has_hardly_fallen(score, loss, underconfident):
    seen = results(loss, outcome("learning-rate-low", 0.2, score), score=score)
    assert seen.is_underconfident is underconfident
    assert seen.has_score is not underconfident
    assert seen.is_near_perfect is False
    found = ["learning-rate-low"] if underconfident else []
    assert [o.cause for o in seen.ranking] == found


def test_a_high_score_at_a_low_loss_leaves_nothing_to_gain():
    assert results(0.1, score=0.98).is_near_perfect and not results(0.1, score=0.96).is_near_perfect


@pytest.mark.parametrize(
    ("score", "learner", "found"),
    [(0.87, 0.91, True), (0.87, 0.93, False), (0.80, 0.84, True), (0.79, 0.83, False)],
)
def test_a_remedy_that_catches_up_with_a_quick_learner_needs_no_other_evidence(
    score, learner, found
):
    """It gains 0.3 of the score at least, and less than 0.45 of the loss."""
    beside = LearnerComparison(score=learner, train_score=0.55, validation_score=0.5)
    remedy = outcome("learning-rate-low", 0.45, score)
    seen = results(0.7, remedy, outcome("dropout", 0.0, 0.2), score=0.5, learner=beside)
    assert seen.is_behind and 0.2 <= seen.gain_of(remedy) < 0.45
    assert bool(seen.ranking) is found


def test_a_gain_is_a_share_of_what_there_was_to_gain():
    seen = results(0.8, outcome("optimizer", 0.3), outcome("dropout", 0.0))
    assert [seen.gain_of(o) for o in seen.outcomes] == pytest.approx([0.5, 0.8])


@pytest.mark.parametrize(
    ("base", "loss", "null", "gain"),
    [
        (
            5.0,
            0.5,
            1.0,
            1.0,
        ),  # a run that is worse than a constant misses no more than a constant does
        (math.nan, 0.5, 1.0, 1.0),  # nor does one that diverged
        (math.nan, 0.5, math.nan, 1.0),  # without a constant, the start counts
        (0.5, math.nan, 1.0, -1.0),  # a remedy that diverges
        (0.5, 4.0, 1.0, -1.0),  # one that is worse than a constant
        (1.0, 0.98, 1.0, 0.0),  # nothing learned by anything: 2 % of the constant's loss
        (-3.0, -4.0, -2.0, 0.5),  # losses below 0
    ],
)
def test_gains_at_the_edges(base, loss, null, gain):
    seen = results(base, outcome("optimizer", loss), null=null)
    assert seen.gain_of(seen.outcomes[0]) == pytest.approx(gain)


def test_what_more_steps_of_the_run_itself_reach_is_no_gain():
    """Trials of a long program are shorter than it is."""
    faster = outcome("learning-rate-low", 0.3, 0.8)
    whole = WholeRun(evaluations=((50, 0.9, 0.1), (400, 0.2, 0.85)))
    seen = results(0.9, faster, score=0.1, whole_run=whole)
    assert seen.gain_of(faster) <= 0
    assert results(0.9, faster, score=0.1).gain_of(faster) == pytest.approx(6 / 7)


def test_where_a_score_means_something_it_must_gain_too():
    better = outcome("optimizer", 0.2, 0.60)
    assert results(0.8, better, score=0.58).gain_of(better) == 0.0  # under 0.05 of the score
    assert results(0.8, better, score=0.50).gain_of(better) == pytest.approx(0.75)
    assert (
        results(0.8, outcome("optimizer", 0.2, 0.0), score=-0.5).has_score is False
    )  # no run does better than chance


@pytest.mark.parametrize(("score", "gain"), [(0.06, 0.8), (0.2, 0.4 / 201.4)])
def test_a_loss_without_lower_bound_on_another_output_is_no_loss_to_reach(score, gain):
    """The likelihood of probabilities falls without end on outputs that are none; it counts if the
    score is better, too.
    """
    endless = outcome("output-activation", -200.0, score, fact=True)
    seen = results(0.8, outcome("initialization", 0.4, 0.9), endless, score=0.1, null=1.4)
    assert seen.gain_of(seen.outcomes[0]) == pytest.approx(gain)


def test_what_does_not_beat_the_untrained_network_gains_nothing():
    """A constant that was fitted to other classes has a loss of 13; to stay at 1.03 is no cure."""
    still = outcome("learning-rate-high", 1.03, 0.2)
    seen = TrialResults(
        base=outcome("healthy", 18.0, 0.0, trial=None),
        outcomes=(still,),
        constant_loss=13.0,
        start_loss=1.03,
    )
    assert seen.gain_of(still) == 0.0 and seen.best_explanation is None


def test_a_loss_below_0_without_a_constant_or_a_score_measures_no_gain():
    """As of a density, or of terms whose weights are learned."""
    longer = outcome("too-few-steps", -10.6)
    assert results(-2.1, longer, null=math.nan).gain_of(longer) == 0.0
    assert results(-2.1, outcome("too-few-steps", -10.6), null=1.0).best_explanation is not None
    lower = outcome("too-few-steps", 0.1)
    assert results(1.5, lower, null=math.nan).gain_of(lower) > 0.7  # of a start of 2


def test_a_measured_start_goes_before_two_changes_that_contain_it():
    start = outcome("initialization", 0.16, fact=True)
    both = replace(outcome("hidden-activation", 0.15, fact=True), changes=start.changes * 2)
    assert causes(results(0.75, both, start)) == ["initialization"]
    guess = replace(start, evidence=())
    assert causes(results(0.75, both, guess)) == ["hidden-activation"]
    assert start.is_general is False and guess.is_general is True


@pytest.mark.parametrize(
    ("score", "fact", "part"), [(0.7, False, True), (0.8, False, False), (0.7, True, False)]
)
def test_a_remedy_without_evidence_may_explain_a_part(score, fact, part):
    longer = outcome("too-few-steps", 0.3, score, fact=fact)
    learner = LearnerComparison(score=0.94, validation_score=0.3, train_score=0.3)
    assert results(0.8, longer, score=0.3, learner=learner).is_partly_explained is part


def test_a_clear_gain_of_score_counts_whatever_the_loss_says():
    surer = outcome("optimizer", 1.5, 0.5)
    seen = results(0.8, surer, outcome("dropout", 0.6, 0.4), score=0.1)
    assert seen.gain_of(surer) == pytest.approx(0.4)  # over 0.3


@given(
    st.floats(0.01, 3),
    st.lists(st.tuples(st.floats(0.0, 3), st.floats(-1, 1)), min_size=1, max_size=5),
    st.floats(-1, 1),
    st.booleans(),
    st.booleans(),
)
def test_gains_lie_between_minus_1_and_1_and_only_enough_of_it_is_blamed(
    base, made, score, diverged, known
):
    names = ("optimizer", "dropout", "learning-rate-low", "input-scale", "initialization")
    outcomes = [outcome(names[i], loss, s, fact=i % 2 == 1) for i, (loss, s) in enumerate(made)]
    seen = results(
        math.nan if diverged else base, *outcomes, score=score, null=1.0 if known else math.nan
    )
    gains = [seen.gain_of(o) for o in outcomes]
    assert all(-1 <= g <= 1 for g in gains)
    blamed = seen.best_explanation
    if blamed is None:
        assert all(g < required(o) for g, o in zip(gains, outcomes, strict=True))
    else:
        assert seen.gain_of(blamed) >= required(blamed)
        assert seen.gain_of(blamed) >= 0.75 * max(
            g for g, o in zip(gains, outcomes, strict=True) if g >= required(o)
        )
        assert (
            blamed.loss < (base if math.isfinite(seen.base.loss) else math.inf)
            or blamed.score >= max(score, 0.0) + 0.3
        )


@given(st.floats(0.05, 0.9), st.floats(0.5, 100.0))
def test_blame_does_not_depend_on_the_unit_of_the_loss(base, unit):
    outcomes = [outcome("optimizer", 0.02), outcome("dropout", 0.04, fact=True)]
    scaled = [replace(o, losses=(o.loss * unit,)) for o in outcomes]
    one = results(base, *outcomes)
    other = replace(results(base * unit, *scaled, null=unit), start_loss=2.0 * unit)
    assert [o.cause for o in one.ranking] == [o.cause for o in other.ranking]


# Who is blamed


def test_what_a_fact_speaks_for_goes_before_what_gains_a_little_more_without():
    general, specific = outcome("learning-rate-low", 0.0), outcome("input-scale", 0.2, fact=True)
    seen = results(1.0, general, specific)
    assert [o.cause for o in seen.ranking] == ["input-scale", "learning-rate-low"]
    assert causes(seen) == ["input-scale"]
    assert run_rules(TRIAL_RULES, seen)[0][0].suspects[0] == "learning-rate-low"


def test_but_not_before_what_gains_far_more():
    seen = results(1.0, outcome("learning-rate-low", 0.0), outcome("input-scale", 0.5, fact=True))
    assert causes(seen) == ["learning-rate-low"]


def test_a_specific_cause_goes_before_a_general_one_that_a_fact_speaks_for():
    seen = results(
        1.0, outcome("learning-rate-high", 0.0, fact=True), outcome("target-scale", 0.1, fact=True)
    )
    assert causes(seen) == ["target-scale"]


def test_general_causes_have_an_order_of_their_own():
    general = (
        "learning-rate-high",
        "learning-rate-low",
        "too-few-steps",
        "batch-size",
        "initialization",
        "optimizer",
    )
    losses = dict(zip(general, (0.10, 0.08, 0.06, 0.04, 0.02, 0.0), strict=True))
    seen = results(1.0, *(outcome(cause, loss) for cause, loss in reversed(losses.items())))
    assert [o.cause for o in seen.ranking] == list(general)


@pytest.mark.parametrize(
    ("loss", "fact", "blamed"),
    [(0.79, True, True), (0.81, True, False), (0.54, False, True), (0.56, False, False)],
)
def test_a_remedy_without_a_fact_must_gain_more(loss, fact, blamed):
    # the least loss of all brings nothing in score: so 1 is all there was to gain
    other = outcome("dropout", 0.0, 0.5)
    seen = results(1.0, outcome("optimizer", loss, 0.56, fact=fact), other, score=0.5)
    assert seen.gain_of(other) == 0 and seen.gain_of(seen.outcomes[0]) == pytest.approx(1 - loss)
    assert (causes(seen) == ["optimizer"]) == blamed


def test_a_remedy_that_did_not_help_when_it_was_confirmed_is_not_blamed():
    seen = results(
        1.0, outcome("input-scale", 0.0, fact=True, trial=IDLE), outcome("learning-rate-low", 0.1)
    )
    assert causes(seen) == ["learning-rate-low"]
    assert causes(replace(seen, outcomes=seen.outcomes[:1])) == []


def test_a_remedy_that_is_still_to_be_confirmed_comes_up_in_its_turn():
    first = outcome("input-scale", 0.0, fact=True, trial=None)
    seen = results(1.0, outcome("learning-rate-low", 0.1, trial=None), first)
    assert seen.best_explanation is first


def test_what_is_compared_otherwise_comes_first():
    numbers = outcome("loss", 0.9)
    seen = replace(results(1.0, outcome("learning-rate-low", 0.0), numbers), preferred=numbers)
    assert causes(seen) == ["loss"]
    assert causes(replace(seen, preferred=replace(numbers, trial=IDLE))) == ["learning-rate-low"]


def test_nothing_is_found_where_nothing_helps_and_nothing_measured_where_nothing_was_tried():
    found, checks = run_rules(
        TRIAL_RULES,
        results(0.1, outcome("learning-rate-low", 0.09), outcome("dropout", 0.3, fact=True)),
    )
    assert found == [] and checks.passed == tuple(rule.code for rule in TRIAL_RULES)
    assert run_rules(TRIAL_RULES, results(0.1))[1].not_measured == checks.passed


def test_only_one_cause_is_blamed_and_every_cause_has_its_rule():
    for cause in {rule.cause for rule in TRIAL_RULES} - {
        "overfitting",
        "labels",
        "architecture-too-small",
        "split",
    }:
        assert cause in CAUSES
        (finding,) = run_rules(
            TRIAL_RULES, results(1.0, outcome(cause, 0.0, fact=True, where="layer"))
        )[0]
        assert (finding.cause, finding.where, finding.severity, finding.trial) == (
            cause,
            "layer",
            "error",
            HELPED,
        )


def test_how_sure_and_how_bad_goes_by_the_gain():
    def shown(loss, *, fact, trial=HELPED):
        best = outcome("dropout", 0.0, fact=False, trial=IDLE)
        (finding,) = run_rules(
            TRIAL_RULES, results(1.0, outcome("input-scale", loss, fact=fact, trial=trial), best)
        )[0]
        return finding.severity, finding.confidence

    assert shown(0.1, fact=True) == shown(0.1, fact=False) == ("error", "high")
    assert shown(0.1, fact=True, trial=None) == ("error", "medium")


def test_a_run_s_lag_begins_where_half_of_it_is_there():
    base = replace(
        outcome("healthy", 1.0),
        evaluations=((0, 1.0, None), (10, 1.0, None), (20, 1.0, None), (50, 1.0, None)),
    )
    better = outcome(
        "optimizer",
        0.2,
        evaluations=((0, 0.3, None), (10, 0.7, None), (20, 0.6, None), (50, 0.2, None)),
    )
    seen = TrialResults(base=base, outcomes=(better,), constant_loss=1.0, steps=50)
    assert find_lag(seen, better) == 20
    broken = replace(base, losses=(math.nan,), evaluations=((0, 1.0, None), (10, math.nan, None)))
    assert find_lag(replace(seen, base=broken), better) == 10
    other = replace(
        better, losses=(1.0,), scores=(0.8,), evaluations=((20, 1.0, 0.1), (50, 1.0, 0.8))
    )
    scored = replace(base, scores=(0.0,), evaluations=((20, 1.0, 0.0), (50, 1.0, 0.0)))
    assert find_lag(replace(seen, base=scored, outcomes=(other,)), other) == 50


# Learned by heart


def by_heart(*, rise=(0.4, 0.05), fitted=0.05, scores=(None, None, None, None), ended=0.8, **more):
    losses = (1.0, 0.4, 0.5, ended)
    whole = tuple(zip((0, 10, 20, 40), losses, scores, strict=True))
    return results(
        ended,
        outcome("dropout", ended, scores[-1], fact=True),
        score=scores[-1],
        whole_run=WholeRun(evaluations=whole, rise=rise, train_loss=fitted),
        **more,
    )


def test_a_loss_that_rose_again_is_overfitting_and_says_where_to_stop():
    (finding,) = run_rules(TRIAL_RULES, by_heart())[0]
    assert (
        finding.cause == "overfitting"
        and finding.changes == (Change("steps", 10),)
        and finding.since == 20
    )


@pytest.mark.parametrize(
    "seen",
    [
        by_heart(rise=(0.4, 0.162)),  # not beyond what groups of examples differ by
        by_heart(rise=(0.178, 0.01)),  # of the fall of 0.6
        by_heart(rise=None),
        by_heart(fitted=0.45),  # it does not fit its own examples any better
        by_heart(scores=(0.0, 0.80, 0.80, 0.79)),  # it only grows too sure of itself
        by_heart(null=0.41),  # it fell by next to nothing
    ],
)
def test_no_overfitting_where_it_is_not_significant_not_large_or_only_too_sure(seen):
    assert "overfitting" not in causes(seen)


def test_overfitting_that_costs_score_is_found():
    assert causes(by_heart(scores=(0.0, 0.80, 0.70, 0.60))) == ["overfitting"]


# Labels and size


def untold(*outcomes, **more):
    given = {"informative": False, "fitted": 0.2, "rise": (0.6, 0.05), "ended": 1.6} | more
    run = WholeRun(
        evaluations=((0, 1.0, None), (40, given.pop("ended"), None)),
        rise=given.pop("rise"),
        train_loss=given.pop("fitted"),
    )
    learner = LearnerComparison(score=0.0, informative=given.pop("informative"))
    return results(
        1.6,
        *(outcomes or (outcome("dropout", 1.6, fact=True),)),
        whole_run=run,
        learner=learner,
        **given,
    )


def test_labels_are_blamed_where_nobody_can_tell_them_and_only_if_nothing_else_helps():
    assert "labels" in causes(untold())
    assert "labels" not in causes(untold(outcome("dropout", 0.1, fact=True)))


@pytest.mark.parametrize(
    "more",
    [
        {"informative": None},  # nobody knows
        {"informative": True},
        {"fitted": 0.95},  # it does not even fit its own examples
        {"rise": (0.6, 0.6)},
        {"rise": None},
        {"null": math.nan},
        {"null": 1.5},  # it does not do worse than a constant
    ],
)
def test_labels_are_not_blamed_on_less(more):
    assert "labels" not in causes(untold(**more))


def small(*outcomes, **more):
    given = {"known": 0.9, "reached": 0.4, "fitted": 0.45, "score": 0.4, "memorizes": False} | more
    learner = LearnerComparison(
        score=given["known"],
        validation_score=given["reached"],
        train_score=given["fitted"],
        memorizes=given["memorizes"],
        memorized=0.5,
    )
    reached = given.get("tried", 0.0)  # of the gain by loss, a third of it by score
    idle = outcome("dropout", 0.5 - 0.3 * reached, 0.4 + reached / 3, fact=True, trial=IDLE)
    remedies = outcomes or (idle,)
    wider = outcome("architecture-too-small", 0.2, 0.85, trial=given.get("wider", HELPED))
    return results(0.5, *remedies, score=given["score"], learner=learner, wider=wider)


def faults(seen):
    """The causes that are named, not those of symptoms."""
    found = run_rules(TRIAL_RULES, seen)[0]
    return [f.cause for f in found if f.code not in SYMPTOM_CODES]


def test_a_network_is_too_small_if_it_learns_nothing_by_heart_and_more_units_help():
    symptom, found = run_rules(TRIAL_RULES, small())[0]
    assert (found.code, found.cause) == ("RVN-X22", "architecture-too-small")
    assert found.trial == HELPED and symptom.code == "RVN-T07"
    assert faults(small(outcome("dropout", 0.1, 0.9, fact=True))) == ["dropout"]


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"memorizes": True}, "too-few-steps"),  # less dropout was tried and gained nothing
        ({"memorizes": True, "tried": 0.3}, "dropout"),  # it gained something, if not enough
        ({"wider": IDLE}, "loss"),  # neither 32 examples nor more units: it asks for something else
    ],
)
def test_a_quick_learner_far_ahead_is_a_symptom(more, cause):
    (symptom,) = run_rules(TRIAL_RULES, small(**more))[0]
    assert (symptom.code, symptom.severity, symptom.cause) == ("RVN-T07", "warning", cause)


@pytest.mark.parametrize(
    ("losses", "cause"),
    [
        ((2.0, 1.0, 0.8, 0.6, 0.5), "too-few-steps"),  # it fell by a fifth in the last two parts
        ((2.0, 0.6, 0.52, 0.51, 0.5), "architecture-too-small"),
        ((0.4, 0.6, 0.6, 0.6, 0.5), "learning-rate-high"),
    ],
)
def test_far_behind_without_a_cause_the_course_of_the_loss_decides(losses, cause):
    way = WholeRun(evaluations=tuple((step, loss, None) for step, loss in enumerate(losses)))
    (symptom,) = run_rules(TRIAL_RULES, replace(small(memorizes=True), whole_run=way))[0]
    assert (symptom.code, symptom.cause) == ("RVN-T07", cause)


@pytest.mark.parametrize(
    ("known", "has_class_outputs", "behind"),
    [(0.99, True, True), (0.99, False, False), (0.33, True, True), (0.31, True, False)],
)
def test_a_score_of_classes_that_no_run_raises_is_behind_all_the_same(
    known, has_class_outputs, behind
):
    """No run has a score, so that its meaning is not shown; that of classes is known."""
    learner = LearnerComparison(
        score=known, validation_score=0.0, train_score=0.02, has_class_outputs=has_class_outputs
    )
    seen = results(1.1, outcome("learning-rate-low", 1.05, 0.0), score=0.0, learner=learner)
    assert not seen.has_score and seen.is_behind is behind


def test_another_output_does_not_show_that_a_loss_falls_without_end():
    """The logarithm of a likelihood has no least value on logits."""
    way = WholeRun(evaluations=((0, 0.7, None), (9, 0.5, None)))
    logits = outcome("output-activation", -1e6, 0.0)
    assert not results(0.5, logits, whole_run=way).falls_without_end
    assert results(0.5, replace(logits, cause="optimizer"), whole_run=way).falls_without_end


def partly(wider_score):
    """More steps help, and leave the run far behind a quick learner."""
    learner = LearnerComparison(
        score=0.98, validation_score=0.3, train_score=0.3, memorizes=False, memorized=0.4
    )
    longer = outcome("too-few-steps", 0.4, 0.6)
    wider = outcome("architecture-too-small", 0.2, wider_score)
    return results(0.7, longer, score=0.3, learner=learner, wider=wider)


@pytest.mark.parametrize(("score", "found"), [(0.9, True), (0.7, False)])
def test_a_network_is_too_small_beside_a_remedy_that_explains_a_part(score, found):
    assert ("architecture-too-small" in faults(partly(score))) is found
    assert "too-few-steps" in faults(partly(score))


def transfer(own=0.9, others=0.1, learner=0.85, kept=0.1, base=0.1, *outcomes, error=0.1):
    """A network's scores on training and validation examples, beside those of a quick learner."""
    known = LearnerComparison(
        score=learner,
        score_on_validation=None if kept is None else (kept, error),
        validation_score=others,
        train_score=own,
    )
    return results(0.5, *(outcomes or (outcome("dropout", 0.5, base),)), score=base, learner=known)


def test_where_a_quick_learner_fails_on_validation_too_the_split_is_the_cause():
    (found,) = run_rules(TRIAL_RULES, transfer())[0]
    assert (found.code, found.cause, found.severity) == ("RVN-X23", "split", "warning")
    assert [round(e.value, 2) for e in found.evidence] == [0.85, 0.1, 0.9, 0.1]


def test_where_a_quick_learner_does_not_fail_on_validation_the_network_overfits():
    (found,) = run_rules(TRIAL_RULES, transfer(kept=0.8))[0]
    assert (found.code, found.cause, found.suspects[0]) == ("RVN-X24", "overfitting", "loss")


@pytest.mark.parametrize(
    "seen",
    [
        transfer(others=0.46),  # half of it is left
        transfer(own=0.29, others=0.0, base=0.05),
        transfer(kept=0.44, others=0.15),  # the learner keeps half, and is not far ahead
        transfer(error=0.26),  # 2.9 standard errors
        transfer(kept=0.8, error=0.24),
        transfer(kept=None),  # no validation examples, or few
        transfer(base=0.6),  # scored 0.6 where trials end
        transfer(0.9, 0.1, 0.85, 0.1, 0.1, outcome("dropout", 0.05, 0.9, fact=True)),
    ],
)
def test_a_smaller_gap_to_validation_is_reported_as_neither(seen):
    codes = {f.code for f in run_rules(TRIAL_RULES, seen)[0]}
    assert not codes & {"RVN-X23", "RVN-X24"}


@pytest.mark.parametrize(
    ("first", "last", "other", "found"),
    [
        (0.5, -101.0, -99.0, True),
        (0.5, -20.0, -99.0, False),
        (-3.0, -301.0, -299.0, True),
        (0.0, -1.0, -99.0, False),
        (0.0, -1.0, -101.0, True),  # at another rate
        (0.0, math.nan, -101.0, True),
    ],
)
def test_a_loss_that_falls_without_end_is_wrong_and_measures_nothing(first, last, other, found):
    whole = WholeRun(evaluations=((0, first, None), (9, last, None)))
    higher = outcome("learning-rate-low", other)
    seen = results(last, higher, whole_run=whole)
    assert [f.code for f in run_rules(TRIAL_RULES, seen)[0]] == ["RVN-X25" if found else "RVN-X02"]


@pytest.mark.parametrize(
    ("last", "score", "train_loss", "found"),
    [
        (1.0, None, 1.0, True),
        (9.6, 0.1, 9.0, True),
        (0.98, None, 1.0, False),
        (1.5, 0.4, 1.5, False),  # right, and too sure of what is wrong
        (1.5, None, 0.9, False),  # it fits what it was trained on
        (math.nan, None, 1.0, False),  # other checks say that it is not finite
    ],
)
def test_a_run_that_ends_above_the_best_constant_learned_nothing(last, score, train_loss, found):
    whole = WholeRun(evaluations=((0, 2.0, None), (9, last, score)), train_loss=train_loss)
    fact = outcome("input-scale", 1.0, fact=True)
    seen = results(last, fact, outcome("optimizer", 1.0), score=score, whole_run=whole)
    codes = {f.code: f for f in run_rules(TRIAL_RULES, seen)[0]}
    assert ("RVN-T02" in codes) is found
    if found:
        assert (codes["RVN-T02"].cause, codes["RVN-T02"].severity) == ("input-scale", "error")


@pytest.mark.parametrize(
    ("more", "wider"),
    [
        ({"memorizes": True}, (0.2, 0.85)),  # it is large enough to learn examples by heart
        ({"memorizes": None}, (0.2, 0.85)),
        ({"wider": IDLE}, (0.2, 0.85)),
        ({}, (0.41, 0.55)),  # 0.15 of what there was to gain
        ({}, (0.2, 0.44)),  # under 0.05 of the score
    ],
)
def test_a_network_is_not_too_small_on_less(more, wider):
    seen = small(**more)
    loss, score = wider
    known = outcome("architecture-too-small", loss, score, trial=seen.wider.trial)
    codes = [f.code for f in run_rules(TRIAL_RULES, replace(seen, wider=known))[0]]
    assert "RVN-X22" not in codes


def test_the_explanation_of_a_trial_has_its_thresholds():
    (detected,) = {r.explanation.detected for r in TRIAL_RULES if "RVN-X" < r.code < "RVN-X20"}
    for said in ("20%", "45%", "0.05", "0.3 of the score", "5 seeds"):
        assert said in detected


# Just on either side of each threshold


@pytest.mark.parametrize(("loss", "gain"), [(0.969, 1.0), (0.971, 0.0)])
def test_thresholds_of_what_is_no_learning(loss, gain):
    seen = results(1.0, outcome("optimizer", loss))
    assert seen.gain_of(seen.outcomes[0]) == pytest.approx(gain)


@pytest.mark.parametrize(("score", "gain"), [(0.551, 0.75), (0.549, 0.0)])
def test_thresholds_of_what_a_score_must_gain(score, gain):
    seen = results(0.8, outcome("optimizer", 0.2, score), score=0.5)
    assert seen.gain_of(seen.outcomes[0]) == pytest.approx(gain)


@pytest.mark.parametrize(
    ("own", "score", "gain"),
    [
        (0.1, 0.41, 0.31),
        (0.1, 0.39, -0.5),
        (0.5, 0.76, 0.26),  # more than half of 1 - score
        (0.5, 0.74, -0.5),
        (0.8, 0.96, 0.16),
        (0.8, 0.94, -0.5),  # half of it, but little
    ],
)
def test_thresholds_of_a_score_that_is_enough(own, score, gain):
    surer, other = outcome("optimizer", 1.5, score), outcome("dropout", 0.6, 0.7)
    seen = results(0.8, surer, other, score=own)
    assert seen.gain_of(surer) == pytest.approx(gain)


@pytest.mark.parametrize(("score", "gain"), [(0.94, 0.7), (0.91, 0.55), (0.89, 0.1), (0.84, 0.0)])
def test_evidence_beside_it_makes_half_of_what_is_missing_enough(score, gain):
    """With evidence a tenth of the score suffices; the gain is a share of what was missing."""
    fact = (Evidence("a fact", 1.0),)
    supported = replace(outcome("dropout", 0.73, score), evidence=fact)
    seen = results(0.8, supported, outcome("batch-size", 0.1, 0.8), score=0.8)
    assert seen.gain_of(supported) == pytest.approx(gain, abs=0.03)


@pytest.mark.parametrize(("score", "meaningful"), [(0.31, True), (0.29, False)])
def test_thresholds_of_a_score_that_means_something(score, meaningful):
    """The run with the least loss is nearly the best in score, too."""
    seen = results(0.9, outcome("optimizer", 0.2, score), outcome("dropout", 0.5, 1.0), score=0.1)
    assert seen.has_score == meaningful


@pytest.mark.parametrize(("loss", "first"), [(0.24, "input-scale"), (0.26, "learning-rate-low")])
def test_thresholds_of_what_is_as_good_as_the_best(loss, first):
    seen = results(1.0, outcome("learning-rate-low", 0.0), outcome("input-scale", loss, fact=True))
    assert causes(seen) == [first]


@pytest.mark.parametrize(
    ("loss", "severity", "confidence"),
    [
        (0.39, "error", "high"),
        (0.41, "warning", "high"),
        (0.49, "warning", "high"),
        (0.51, "warning", "medium"),
    ],
)
def test_thresholds_of_severity_and_confidence(loss, severity, confidence):
    # the least loss of all brings nothing in score: so 1 is all there was to gain
    other = outcome("dropout", 0.0, 0.5)
    seen = results(1.0, outcome("optimizer", loss, 0.56), other, score=0.5)
    (found,) = run_rules(TRIAL_RULES, seen)[0]
    assert (found.severity, found.confidence) == (severity, confidence)


def test_thresholds_of_a_remedy_that_is_compared_otherwise():
    numbers = outcome("loss", 0.9)
    (found,) = run_rules(TRIAL_RULES, results(1.0, numbers, preferred=numbers))[0]
    assert found.evidence == () and found.severity == "warning"


@pytest.mark.parametrize(
    ("beyond", "short"),
    [
        ({"rise": (0.181, 0.01)}, {"rise": (0.179, 0.01)}),  # of a fall of 0.6
        ({"rise": (0.4, 0.159)}, {"rise": (0.4, 0.161)}),
        ({"null": 0.413}, {"null": 0.411}),  # it fell from there to 0.4
        (
            {"scores": (0.0, 0.80, 0.80, 0.774), "rise": (0.4, 0.05)},
            {"scores": (0.0, 0.80, 0.80, 0.776), "rise": (0.4, 0.05)},
        ),
    ],
)
def test_thresholds_of_overfitting(beyond, short):
    assert "overfitting" in causes(by_heart(**beyond))
    assert "overfitting" not in causes(by_heart(**short))


@pytest.mark.parametrize(
    ("beyond", "short"),
    [
        ({"fitted": 0.89}, {"fitted": 0.91}),
        ({"ended": 1.11}, {"ended": 1.09}),
        ({"rise": (0.6, 0.239)}, {"rise": (0.6, 0.241)}),
    ],
)
def test_thresholds_of_labels(beyond, short):
    assert "labels" in causes(untold(**beyond)) and "labels" not in causes(untold(**short))


@pytest.mark.parametrize(
    ("beyond", "short"),
    [
        ({"known": 0.61}, {"known": 0.59}),  # the network reaches 0.45
        (
            {"known": 0.31, "reached": 0.0, "fitted": 0.0, "score": 0.15},
            {"known": 0.29, "reached": 0.0, "fitted": 0.0, "score": 0.15},
        ),
        ({"score": 0.74}, {"score": 0.76}),  # where trials end
    ],
)
def test_thresholds_of_what_is_far_behind_a_quick_learner(beyond, short):
    codes = [[f.code for f in run_rules(TRIAL_RULES, small(**m))[0]] for m in (beyond, short)]
    assert "RVN-T07" in codes[0] and "RVN-T07" not in codes[1]


def test_of_two_remedies_that_are_made_together_that_with_the_farther_number_comes_first():
    both = (Change("input.scale", "standardize"), Change("target.scale", "standardize"))
    numbers = {"input-scale": (5.3, 3.0), "target-scale": (1e6, 5.0), "initialization": (2.0, None)}
    made = [
        replace(
            outcome(cause, 0.1, 0.9),
            changes=both,
            evidence=(Evidence("of it", value, limit=limit),),
        )
        for cause, (value, limit) in numbers.items()
    ]
    ranking = [o.cause for o in results(0.9, *made, score=0.1).ranking]
    assert ranking[:2] == ["target-scale", "input-scale"]
    small = replace(made[1], evidence=(Evidence("of it", 1e-6, limit=0.2),))
    assert results(0.9, made[0], small, score=0.1).ranking[0].cause == "target-scale"
