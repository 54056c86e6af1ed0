"""All optimizers compared: what is listed, what a budget buys, what is kept, what is said."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.optimizers.__main__ import main
from benchmarks.optimizers.claims import claim_rows
from benchmarks.optimizers.descent import (
    QUADRATIC_WIDTH,
    deep_quadratic,
    quadratic_hessian,
    surface_descent,
)
from benchmarks.optimizers.document import percent
from benchmarks.optimizers.protocol import QUICK_PLAN, TuningPlan, entries_of, run_protocol
from benchmarks.optimizers.publish import screen_text
from benchmarks.optimizers.spaces import (
    DEFAULT_DRAW,
    SCHEDULED_OPTIMIZERS,
    SPACES,
    default_optimizers,
    default_schedules,
    drawn_optimizer,
    needs_full_batch,
)
from benchmarks.optimizers.summary import Tally, expected_best, gaps_at, tally_against, tally_pairs
from ravine import optimizers, schedules
from ravine.optimizers import SGD, Lbfgs, Newton
from ravine.protocols import Plan
from ravine.schedules import Constant, ReduceOnPlateau
from ravine.serialization import get
from ravine.studies.tuned_rate import RateResult
from ravine_gallery.surfaces import find_surface


def test_every_optimizer_and_schedule_of_the_catalog_is_listed():
    names = [kind.__name__ for kind in optimizers.ALL]
    assert list(default_optimizers()) == names
    assert sorted(SPACES) == sorted(names)
    assert list(default_schedules(20)) == [kind.__name__ for kind in schedules.ALL]
    assert set(SCHEDULED_OPTIMIZERS) <= set(names)


@pytest.mark.parametrize("name", SPACES)
def test_draws_lie_in_their_ranges_and_spread_over_them(name):
    elsewhere = drawn_optimizer(name, 0, "wine")
    drawn = [drawn_optimizer(name, draw, "digits") for draw in range(200)]
    for path, (low, high, complement) in SPACES[name].items():
        values = np.array([get(rule, path) for rule in drawn])
        values = 1 - values if complement else values
        share = np.log(values / low) / np.log(high / low)
        assert share.min() > -1e-3 and share.max() < 1 + 1e-3
        assert abs(share.mean() - 0.5) < 5 / math.sqrt(12 * 200)  # five standard errors
    assert drawn[0] != elsewhere
    assert drawn_optimizer(name, DEFAULT_DRAW, "digits") == default_optimizers()[name]


def test_schedules_are_as_long_as_the_run():
    """Each falls to at most half of its highest rate at some time in it, but for those that hold
    the rate, or wait for the validation score.
    """
    steps = torch.arange(280, dtype=torch.float64)[None]
    for name, schedule in default_schedules(28).items():
        factors = schedule.factor(steps, Plan(280, 10))
        assert factors.isfinite().all()
        if not isinstance(schedule, Constant | ReduceOnPlateau):
            assert factors.min() <= 0.5 * factors.max(), name


def test_gradient_descent_on_the_deep_quadratic_has_its_closed_form():
    """With θ ← (I − α Q) θ + α Q x̄ the coordinate along an eigenvector of λ has the mean
    (1 − αλ)^t c and the variance α² λ² σ² (1 − (1 − αλ)^(2t)) / (1 − (1 − αλ)²), σ² = 0.6² / 128.
    """
    rate, steps, seeds = 0.02, 40, 300
    values, vectors = np.linalg.eigh(quadratic_hessian().numpy())
    start = vectors.T @ np.ones(QUADRATIC_WIDTH)
    shrink = (1 - rate * values) ** 2
    noise = (rate * values) ** 2 * 0.36 / 128 * (1 - shrink**steps) / (1 - shrink)
    expected = 0.5 * float(values @ (shrink**steps * start**2 + noise))
    scores = deep_quadratic(steps).test([SGD(lr=rate)], Constant(), range(seeds))[0]
    heights = 10 ** np.array(scores)
    error = heights.std(ddof=1) / math.sqrt(seeds)
    assert abs(heights.mean() - expected) < 5 * error
    assert error < 0.02 * expected


def test_the_deep_quadratic_is_as_high_as_that_of_deepobs():
    """The loss at its minimum is ½ · 0.6² tr Q; tuned optimizers end at 87.05 to 87.40 there
    (Schneider et al. 2019), with another draw of the eigenvalues.
    """
    assert 80 < 0.5 * 0.36 * float(quadratic_hessian().trace()) < 95


@pytest.mark.parametrize(("gradients", "score"), [(2, math.log10(18.0)), (3, -12.0)])
def test_newton_pays_for_its_hessian(gradients, score):
    """One step solves a quadratic, and takes three gradients in two dimensions: 10 x² + y²/2 is 18
    at (−1, 4), around which the starts lie.
    """
    problem = surface_descent(find_surface("ravine"), gradients)
    found = problem.test([Newton(lr=1.0, damping=0.0)], Constant(), [0, 1, 2])[0]
    assert found == pytest.approx([score] * 3, abs=0.25 if score > 0 else 1e-9)


def test_a_line_search_spends_the_budget():
    """Every evaluation of the surface counts; only the last search may go beyond the budget."""
    problem = surface_descent(find_surface("rosenbrock"), 60)
    calls = []

    def counted(step, seeds):
        return lambda rows: calls.append(len(rows)) or problem.value(rows)

    replace(problem, at_step=counted).test([Lbfgs()], Constant(), [0])
    assert 55 <= len(calls) <= 60 + Lbfgs().tries


def test_who_ends_higher_than_it_began_has_failed():
    problem = surface_descent(find_surface("rosenbrock"), 20)
    scores = problem.test([SGD(lr=1.0), SGD(lr=1e-4)], Constant(), [0, 1])
    assert all(map(math.isnan, scores[0])) and not any(map(math.isnan, scores[1]))


def test_a_plateau_is_noticed_on_a_function():
    """Beyond the edge of stability only a reduction of the rate helps."""
    problem = deep_quadratic(400)
    rule, seeds = SGD(lr=0.031), [0, 1]
    constant, reduced = (
        problem.test([rule], schedule, seeds)[0]
        for schedule in (Constant(), ReduceOnPlateau(patience=1))
    )
    assert max(reduced) < min(constant)


class CountedProblem:
    """A problem that counts what is trained, and can be stopped."""

    name, about, metric, epochs = "counted", "nothing", "score", 20
    higher_is_better = has_networks = takes_schedules = True
    constant = test_constant = 0.0

    def __init__(self, stop_at=None):
        self.trained, self.stop_at = [], stop_at

    def buys_step(self, rule):
        return True

    def tune(self, rules, schedule, seeds):
        if len(self.trained) == self.stop_at:
            raise KeyboardInterrupt
        self.trained.append((*map(repr, rules), repr(schedule)))
        return [RateResult(rule.lr, 1 / (1 + i), 0.0, 0, 1) for i, rule in enumerate(rules)]

    def test(self, rules, schedule, seeds):
        return [(0.5,) * len(seeds) for _ in rules]


def test_no_draw_is_trained_twice_after_a_stop(tmp_path):
    plan = TuningPlan(budgets=(1, 2, 3), tuning_seeds=1, test_seeds=2)
    names = ["SGD", "AdamW", "Lion"]
    stopped, resumed, whole = CountedProblem(4), CountedProblem(), CountedProblem()
    with pytest.raises(KeyboardInterrupt):
        run_protocol([stopped], names, plan, tmp_path / "one", report=lambda text: None)
    kept = run_protocol([resumed], names, plan, tmp_path / "one", report=lambda text: None)
    all_at_once = run_protocol([whole], names, plan, tmp_path / "two", report=lambda text: None)
    assert len(stopped.trained) == 4 and len(resumed.trained) == len(whole.trained) - 4
    assert stopped.trained + resumed.trained == whole.trained
    assert len(set(whole.trained)) == len(whole.trained) == len(names) + len(schedules.ALL) - 1
    for known in (kept, all_at_once):
        for entry in known["counted"]["entries"].values():
            entry.pop("seconds")
        known["counted"].pop("seconds")
    assert kept == all_at_once
    again = CountedProblem()
    run_protocol([again], names, plan, tmp_path / "one", report=lambda text: None)
    assert again.trained == []


def test_the_best_of_a_budget_is_the_best_of_its_first_draws(tmp_path):
    class Rising(CountedProblem):
        def tune(self, rules, schedule, seeds):
            return [RateResult(rule.lr, float(i), 0.0, i == 3, 1) for i, rule in enumerate(rules)]

    plan = TuningPlan(budgets=(1, 2, 3), tuning_seeds=1, test_seeds=2)
    known = run_protocol([Rising()], ["SGD"], plan, tmp_path, report=lambda text: None)
    # the last draw has the best score, and failed with a seed
    assert known["counted"]["entries"]["SGD"]["best"] == {"1": -1, "2": 1, "3": 1}


def test_full_batches_are_for_those_that_need_them():
    needy = [name for name, rule in default_optimizers().items() if needs_full_batch(rule)]
    assert needy == ["Rprop", "Lbfgs", "Newton", "SaddleFreeNewton"]


def test_a_step_that_costs_more_than_the_budget_is_not_tried():
    problem = deep_quadratic(100)
    names = [name for name, *_ in entries_of(problem, list(SPACES), scheduled=False)]
    assert [name for name in SPACES if name not in names] == ["Newton", "SaddleFreeNewton"]


def test_a_quick_run_ends_with_a_table(tmp_path, capsys):
    words = ["--quick", "--problems", "ravine,wine", "--optimizers", "SGD,Adam,Lbfgs"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "ravine: 3 optimizers" in shown and "best of 4" in shown
    assert max(map(len, shown.splitlines())) <= 80
    kept = json.loads((tmp_path / "wine.json").read_text())
    entry = kept["entries"]["Adam"]
    assert len(entry["draws"]) == QUICK_PLAN.budgets[-1]
    assert all(len(scores) == QUICK_PLAN.test_seeds for scores in entry["test"].values())
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "wine.json").read_text()) == kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--problems", "digts"], "Did you mean 'digits'?"),
        (["--optimizers", "adamw"], "Did you mean 'AdamW'?"),
        (["--problems", ","], "no problem is named"),
        (["--workers", "0"], "one process at least"),
        (["--quick", "--publish"], "all optimizers on all problems"),
        (["--problems", "ravine", "--out", __file__], "that is a file"),
        (["--problems", "ravine", "--out", f"{__file__}/in"], "cannot be made"),
    ],
)
def test_a_wrong_option_is_one_message_before_any_work(words, said, capsys):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.out == ""
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"version": 0}'])
def test_what_is_kept_otherwise_is_left_alone(text, tmp_path, capsys):
    (tmp_path / "ravine.json").write_text(text)
    assert main(["--quick", "--problems", "ravine", "--out", str(tmp_path)]) == 2
    assert "ravine.json" in capsys.readouterr().err
    assert (tmp_path / "ravine.json").read_text() == text


def test_the_expected_best_is_the_mean_over_all_choices():
    gains = np.random.default_rng(0).random(7).tolist()
    for k in (1, 3, 7):
        found = np.mean([max(few) for few in itertools.combinations(gains, k)])
        assert expected_best(gains, k) == pytest.approx(float(found))


def known_scores(**scores):
    """Problems on which entries have such scores with ten seeds, with every budget."""
    seeds = np.linspace(-0.01, 0.01, 10)
    entries = {
        name: {
            "best": {"1": -1, "25": 0, "50": 0},
            "test": {d: [None if math.isnan(x) else x for x in value + seeds] for d in ("-1", "0")},
            "draws": [[value, 0]] * 50,
            "default": [value, 0],
            "near": 5,
            "decades": 1.0,
            "seconds": 1.0,
        }
        for name, value in scores.items()
    }
    plan = {"budgets": [1, 25, 50], "tuning_seeds": 2, "test_seeds": 10}
    head = {"metric": "accuracy", "higher_is_better": True, "has_networks": True, "plan": plan}
    return head | {"constant": 0.5, "test_constant": 0.5, "about": "", "entries": entries}


def test_gaps_are_shares_of_the_best_gain_over_the_constant_answer():
    known = {"one": known_scores(Adam=0.9, SGD=0.7, Lion=math.nan)}
    gaps = gaps_at(known, ["Adam", "SGD", "Lion"], [1])[1]
    assert gaps.loc["one"].tolist() == pytest.approx([0.0, 0.5, math.inf])


def test_differences_are_shown_or_called_ties():
    known = {f"p{i}": known_scores(Adam=0.9, SGD=0.7, Lion=0.9) for i in range(3)}
    assert tally_pairs(known, ("Adam", 50), ("SGD", 50)) == Tally(better=3, worse=0, ties=0)
    assert tally_pairs(known, ("SGD", 50), ("Adam", 50)) == Tally(better=0, worse=3, ties=0)
    against = tally_against(known, ["Adam", "SGD", "Lion"], "Adam", 50)
    assert against == {"SGD": Tally(0, 3, 0), "Lion": Tally(0, 0, 3)}
    failed = {"p": known_scores(Adam=0.9, SGD=math.nan)}
    assert tally_pairs(failed, ("Adam", 50), ("SGD", 50)) == Tally(better=1, worse=0, ties=0)


def test_the_screen_names_whom_to_take():
    known = {f"p{i}": known_scores(Adam=0.9, SGD=0.7) for i in range(5)}
    assert "least behind" not in screen_text(dict(list(known.items())[:4]))
    text = screen_text(known)
    assert "Adam is the least behind the best" in " ".join(text.split())
    assert "it is ahead of all others" in " ".join(text.split())


def test_percents_have_two_digits():
    assert [percent(x) for x in (0.0999, 0.1, 1.0, math.inf)] == ["10", "10", "100", "failed"]


def test_a_claim_holds_where_a_test_over_problems_says_so():
    """Where all of N problems agree p is 2 / 2^N, corrected for the 13 claims about optimizers."""
    many = {f"p{i}": known_scores(Momentum=0.9, SGD=0.7 - 0.01 * i) for i in range(12)}
    rows = {row[0]: row[1:] for row in claim_rows(many)}
    held = ["held (0.0063)"] * 2  # 2 / 2^12, times 13
    assert rows["momentum beats gradient descent"] == ["12 / 0 / 0", "12 / 0 / 0", "", *held]
    assert rows["Adam beats momentum"] == ["", "", "", "not measured", "not measured"]
    few = dict(list(many.items())[:8])
    assert claim_rows(few)[0][-1] == "not shown (0.1)"
