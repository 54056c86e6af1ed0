"""Somebody's program as a subject: what its settings say, what is tried on it, how it runs."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.trials.trial_results import Outcome, TrialResults, WholeRun
from ravine.examination.subject import CannotTryError, SeedRun, stay_silent
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_capacity import is_narrow, memorized_score, widen
from ravine.examination.torch_change import apply_treatments
from ravine.examination.torch_model_changes import (
    average_loss,
    reinitialize,
    use_class_outputs,
    use_linear_output,
)
from ravine.examination.torch_program import train_program
from ravine.examination.torch_results import compares_examples, loss_rise
from ravine.examination.torch_subject import TorchSubject
from ravine.examination.torch_training_changes import (
    scale_learning_rate,
    set_batch_size,
    set_steps,
    use_adam,
)

RNG = torch.Generator().manual_seed(0)
X = torch.randn(28, 4, generator=RNG)  # so few that no quick learner learns: it saves time
Y = (X[:, 0] * X[:, 1] > 0).long()
NUMBER = X[:, :1] - X[:, 1:2]


def network(*, act=nn.ReLU, outputs=2, tail=(), depth=2):
    torch.manual_seed(1)
    hidden = [m for _ in range(depth - 1) for m in (nn.Linear(16, 16), act())]
    return nn.Sequential(nn.Linear(4, 16), act(), *hidden, nn.Linear(16, outputs), *tail)


def subject(model=None, *, loss=F.cross_entropy, train=(X, Y), **more):
    given = {"optimizer": lambda p: torch.optim.Adam(p, lr=0.01), "batch_size": 7, "epochs": 2}
    model = network() if model is None else model
    return TorchSubject(read_program(model, loss, train, **given | more))


def profile(given, *, trials=False):
    return given.profile(trials=trials, say=stay_silent)


def run_strength(given, strength, **more) -> list[SeedRun]:
    (runs,) = given.run([strength], **more)
    assert not isinstance(runs, CannotTryError), runs
    return runs


# What its settings say


def test_deep_saturating_activations_and_dropout_within_functions_are_seen():
    deep, shallow = (subject(network(act=nn.Sigmoid, depth=d)) for d in (4, 2))
    assert deep.facts("hidden-activation", profile(deep)).suspects[0] == "vanishing"
    assert shallow.facts("hidden-activation", profile(shallow)) is None

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.dropout = network(), 0.9

        def forward(self, x):
            return self.body(F.dropout(x, self.dropout, self.training))

    own = subject(Own())
    (evidence,) = own.facts("dropout", profile(own)).evidence
    assert (evidence.value, evidence.limit) == (0.9, 0.4)


def test_a_loss_that_went_up_speaks_for_a_lower_rate():
    given = subject(
        network(outputs=1),
        loss=F.mse_loss,
        train=(X, NUMBER),
        optimizer=lambda p: torch.optim.SGD(p, lr=50.0),
    )
    seen = profile(given, trials=True)
    (evidence,) = given.facts("learning-rate-high", seen).evidence
    last = seen.results.whole_run.evaluations[-1]
    assert math.isnan(last[1]) and evidence.value == last[0] < given.program.steps
    plain = subject()
    assert plain.facts("learning-rate-high", profile(plain, trials=True)) is None


def test_frozen_layers_are_evidence_if_they_are_still_random():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    model[0].requires_grad_(False)
    trained = subject(model)
    assert trained.facts("frozen-parameters", profile(trained)).evidence == ()
    drawn = network()
    drawn[0].requires_grad_(False)
    fresh = subject(drawn)
    facts = fresh.facts("frozen-parameters", profile(fresh))
    assert "0.weight" in facts.where and facts.evidence[0].value == 1


def pairs(outputs, targets):
    apart = (outputs[:, None] - outputs).pow(2).sum(2)
    return (apart * (targets[:, None] == targets)).mean()


@pytest.mark.parametrize(
    ("loss", "compares"),
    [
        (F.cross_entropy, False),
        (lambda o, y: F.cross_entropy(o, y) + (o**2).mean(), False),
        (lambda o, y: F.triplet_margin_loss(o, o.flip(0), o.roll(1, 0)), False),
        (pairs, True),
        (lambda o, y: pairs(o, y).sqrt(), True),
        (lambda o, y: torch.relu(o[:, None, :1] - o[None, :, 1:]).sum(), True),
    ],
)
def test_a_loss_that_compares_examples_has_its_constant_by_batches(loss, compares):
    outputs, targets = torch.randn(300, 3), torch.arange(300) % 3
    assert compares_examples(loss, outputs, targets) == compares


class OwnWeight(nn.Module):
    """A linear layer whose matrix is `make(random numbers)`."""

    def __init__(self, make):
        super().__init__()
        self.w = make(torch.randn(X.shape[1], 3))
        self.b = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x @ self.w + self.b


def test_a_matrix_that_is_no_parameter_is_evidence_and_is_trained_as_one():
    given = subject(OwnWeight(lambda w: w))
    facts = given.facts("frozen-parameters", profile(given))
    assert facts.where == "w" and facts.evidence[0].value == 1
    (strength,) = given.strengths("frozen-parameters")
    model, optimizer = apply_treatments(given.program, strength).build()
    assert isinstance(model.w, nn.Parameter) and len(optimizer.param_groups) == 2
    assert torch.equal(model.w, given.program.model.w)
    own = subject(OwnWeight(nn.Parameter))
    assert own.facts("frozen-parameters", profile(own)) is None


def test_what_facts_alone_do_not_decide_speaks_below_its_limit_without_evidence():
    for decay, count in ((0.0, None), (1e-4, 0), (0.01, 1)):
        given = subject(optimizer=lambda p, w=decay: torch.optim.SGD(p, lr=0.1, weight_decay=w))
        facts = given.facts("over-regularized", profile(given))
        assert (None if facts is None else len(facts.evidence)) == count


# What is tried


def test_an_optimizer_and_a_batch_size_are_tried_where_they_may_matter():
    plain = subject()
    assert plain.strengths("optimizer") == () == plain.strengths("batch-size")
    sgd = subject(optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    assert sgd.strengths("optimizer") == ((use_adam(),), (use_adam(0.01),))
    assert subject(batch_size=64).strengths("batch-size") == ((set_batch_size(8),),)
    assert subject(batch_size=14).strengths("batch-size") == ((set_batch_size(2),),)  # two steps


def test_more_steps_are_tried_by_threes_up_to_200_and_unknown_causes_have_no_strength():
    given = subject()
    longer = ((set_steps(24),), (set_steps(72),))
    assert given.program.steps == 8 and given.strengths("too-few-steps") == longer
    assert subject(epochs=20).strengths("too-few-steps") == ((set_steps(240),),)
    assert given.strengths("leakage") == ()
    assert given.treatments_for(profile(given).findings) == ()


def test_trials_are_as_long_as_the_program_and_at_most_600_steps():
    assert subject(epochs=2).budget.steps == 8
    budget = subject(epochs=300).budget
    assert (budget.steps, budget.screening_steps) == (600, 600)
    assert (budget.seeds, budget.screening_seeds) == (5, 1)


# How it runs


def test_what_is_tried_is_evaluated_by_the_program_s_own_loss_on_the_same_examples():
    """Also where the remedy is another loss: a sum is evaluated as the sum that it was."""
    given = subject(loss=nn.CrossEntropyLoss(reduction="sum"), validation=(X, Y))
    (run,) = run_strength(given, (average_loss,), seeds=range(1), steps=8)
    known = train_program(average_loss.apply(given.program), seed=0)
    with torch.no_grad():
        out = known.model.eval()(X)
        groups = [
            float(given.program.loss(o, y))
            for o, y in zip(out.tensor_split(7), Y.tensor_split(7), strict=True)
        ]
    assert run.loss == pytest.approx(sum(groups) / 7, rel=1e-5)
    (doubted,) = run_strength(given, (average_loss,), seeds=range(1), steps=8, loss_in_doubt=True)
    assert doubted.loss < run.loss / 2  # a mean over groups of four, by its own loss


def test_its_own_run_is_the_run_that_trials_are_compared_to():
    given = subject(epochs=200, validation=(X, Y))
    seen = profile(given, trials=True)
    whole = train_program(given.program, seed=0, evaluate_at=(0, 600))
    assert seen.results.start_loss == whole.evaluations[0].loss
    assert seen.results.base.loss == seen.runs[0].loss == whole.evaluations[1].loss
    last = seen.results.whole_run.evaluations[-1]
    assert last[:2] == (800, whole.last.loss) and seen.results.steps == 600


def test_seeds_count_from_the_program_s_own_and_repeat():
    given = subject(seed=3)
    some = run_strength(given, (), seeds=range(2, 4), steps=8)
    assert [run.loss for run in some] == [
        train_program(given.program, seed=s).last.loss for s in (5, 6)
    ]
    assert given.run([()], seeds=range(0), steps=8) == [[]]


def test_a_run_is_cut_at_the_steps_unless_a_treatment_makes_it_longer():
    given = subject(epochs=10)
    for strength, steps, last in (
        ((), 5, 5),
        ((), None, 40),
        ((set_steps(60),), 5, 60),
        ((set_batch_size(14), scale_learning_rate(10)), 30, 20),  # ten passes are no more steps
    ):
        (run,) = run_strength(given, strength, seeds=range(1), steps=steps, evaluate_at=(2,))
        assert [step for step, _, _ in run.evaluations] == [2, last]


def test_what_cannot_be_made_or_breaks_is_refused_and_the_others_run():
    class Picky(nn.Module):
        """Refuses batches of one size."""

        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            assert len(x) != 8, "a batch\nof 8"
            return self.body(x)

    given = subject(Picky(), batch_size=64)
    strengths = [(set_batch_size(8),), (use_linear_output,), (reinitialize,)]
    breaks, missing, runs = given.run(strengths, seeds=range(1), steps=2)
    assert isinstance(breaks, CannotTryError)
    assert str(breaks) == "with this change the program raises AssertionError: a batch"
    assert isinstance(missing, CannotTryError) and "no activation" in str(missing)
    assert len(runs) == 1


def test_a_run_that_diverges_has_no_loss():
    given = subject(
        network(outputs=1),
        loss=F.mse_loss,
        train=(X, NUMBER),
        optimizer=lambda p: torch.optim.SGD(p, lr=1e6),
        epochs=10,
    )
    (run,) = run_strength(given, (), seeds=range(1), steps=40)
    assert math.isnan(run.loss)


def test_a_rise_of_the_loss_has_a_standard_error_over_groups_of_examples():
    x = torch.randn(200, 4, generator=RNG)
    examples = x[:40], torch.randint(0, 2, (40,), generator=RNG)
    others = x[40:], torch.randint(0, 2, (160,), generator=RNG)
    given = subject(train=examples, validation=others, epochs=60)
    run = train_program(given.program, seed=0, evaluate_at=range(0, 360, 20))
    best = min(run.evaluations, key=lambda e: e.loss)
    rises = torch.tensor(run.last.losses) - torch.tensor(best.losses)
    rise = loss_rise(given.program, run)
    assert rise is not None
    mean, error = rise
    assert mean == pytest.approx(float(rises.mean()), abs=1e-6) and mean > 0.1
    assert error == pytest.approx(float(rises.std() / 16**0.5), rel=1e-5)
    assert loss_rise(subject().program, run) is None  # nothing is held out
    run.evaluations[-1] = replace(run.last, losses=(run.last.loss,))  # of all examples together
    assert loss_rise(given.program, run) is None


# Classes in place of numbers


@pytest.fixture(scope="module")
def names():
    """Five classes without an order, numbered, for a network with one output; half held out."""
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(3))
    places = 4 * torch.randn(5, 2, generator=torch.Generator().manual_seed(4))
    y = torch.arange(400) % 5
    x = x * 0.3 + places[y]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    target = y.float()[:, None]
    program = read_program(
        model,
        F.mse_loss,
        (x[:200], target[:200]),
        optimizer=lambda p: torch.optim.Adam(p, lr=0.01),
        validation=(x[200:], target[200:]),
        batch_size=20,
        epochs=10,
    )
    return TorchSubject(program)


def results(steps, last=1.0):
    whole = ((0, 2.0, None), (steps, last, None))
    base = Outcome(cause="healthy", losses=(1.0,), scores=(None,))
    return TrialResults(
        base=base,
        constant_loss=2.0,
        start_loss=2.0,
        steps=steps,
        whole_run=WholeRun(evaluations=whole),
    )


def test_targets_that_are_names_of_classes_are_hit_far_more_often_as_classes(names):
    found = names.try_unmeasured_remedies(results(100))
    assert found.preferred is found.outcomes[-1] and found.preferred.cause == "loss"
    assert found.preferred.changes[0] == use_class_outputs.change
    assert found.preferred.trial.verdict == "helped" and found.preferred.trial.seeds == 5
    assert found.preferred.evidence[0].value == 5


def test_a_run_that_diverged_and_numbers_that_are_no_classes_are_not_tried_as_classes(names):
    diverged = results(100, math.nan)
    assert names.try_unmeasured_remedies(diverged) is diverged
    given, plain = subject(network(outputs=1), loss=F.mse_loss, train=(X, NUMBER)), results(8)
    assert given.try_unmeasured_remedies(plain) is plain


def test_small_networks_have_one_thread_while_they_are_examined_and_large_ones_keep_theirs():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with subject().limit_threads():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        large = nn.Sequential(nn.Linear(4, 120_000), nn.Linear(120_000, 2))
        with TorchSubject(read_program_of(large)).limit_threads():
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def read_program_of(model):
    return read_program(
        model,
        F.cross_entropy,
        (X, Y),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.01),
        batch_size=28,
        epochs=1,
    )


def test_changes_are_made_one_after_another():
    given = subject(epochs=4)
    changed = apply_treatments(given.program, (set_batch_size(14), set_steps(20)))
    assert changed.train.batch == 14 and changed.steps == 20


@pytest.mark.parametrize(("width", "lr", "memorizes"), [(1, 1e-2, False), (64, 1e-3, True)])
def test_a_network_that_learns_examples_by_heart_is_large_enough(width, lr, memorizes):
    """Labels that no input tells: one unit has nowhere to keep them, whatever the rate."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(120, 6, generator=generator), torch.arange(120) % 4
    model = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 4))
    known = read_program(
        model,
        nn.CrossEntropyLoss(),
        (x, y),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr),
        batch_size=30,
        epochs=2,
    )
    score = memorized_score(known)
    assert score is not None and (score >= 0.95) is memorizes


@pytest.mark.parametrize(
    ("widths", "narrow"), [((6, 3, 4), True), ((6, 4, 4), False), ((6, 32, 3), False)]
)
def test_a_layer_within_is_narrow(widths, narrow):
    first, hidden, last = widths
    model = nn.Sequential(nn.Linear(first, hidden), nn.ReLU(), nn.Linear(hidden, last))
    x, y = torch.randn(40, first), torch.arange(40) % last
    assert is_narrow(subject(model, train=(x, y)).program) is narrow


def test_a_code_between_inputs_and_targets_alike_is_meant_to_be_narrow():
    model, x = nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 6)), torch.randn(40, 6)
    assert not is_narrow(subject(model, loss=F.mse_loss, train=(x, x)).program)


def test_units_beside_a_network_are_trained_by_its_own_optimizer():
    """An optimizer that was made of the model's parameters gets those of the branch, too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 1), nn.Tanh(), nn.Linear(1, 4))
    x, y = torch.randn(120, 6), torch.arange(120) % 4
    program = read_program(
        model,
        F.cross_entropy,
        (x, y),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        batch_size=30,
        epochs=2,
    )
    wider = widen.apply(program)
    start, run = wider.build()[0], train_program(wider, seed=0, steps=8)
    torch.testing.assert_close(start.eval()(x), model.eval()(x))  # the branch starts at 0
    pairs = zip(start.parameters(), run.model.parameters(), strict=True)
    moved = [not torch.equal(a, b) for a, b in pairs]
    assert all(moved[:4]) and moved[-1]
    assert model[0].weight.grad is None and len(program.optimizer.param_groups) == 1


class Reader(nn.Module):
    """Scores at each place of tokens [N, T], or after the last."""

    def __init__(self, units, by_place):
        super().__init__()
        self.words, self.by_place = nn.Embedding(9, 6), by_place
        self.states, self.out = nn.GRU(6, units, batch_first=True), nn.Linear(units, 9)

    def forward(self, x):
        states = self.out(self.states(self.words(x))[0])
        return states if self.by_place else states[:, -1]


@pytest.mark.parametrize("by_place", [True, False])
def test_units_beside_a_reader_of_tokens_learn_what_a_single_state_cannot(by_place):
    torch.manual_seed(0)
    x = torch.randint(0, 9, (160, 5))
    y = (x + 1) % 9 if by_place else (x[:, -1] + 1) % 9

    def entropy(out, y):
        return F.cross_entropy(out.flatten(0, -2), y.flatten())

    narrow, wide = Reader(1, by_place), Reader(16, by_place)
    given = {"loss": entropy, "train": (x, y), "epochs": 30, "batch_size": 16}
    program = subject(narrow, optimizer=lambda p: torch.optim.Adam(p, 0.02), **given).program
    assert is_narrow(program) and not is_narrow(subject(wide, **given).program)
    wider = widen.apply(program)
    runs = [train_program(each, seed=0) for each in (program, wider)]
    scores = [run.last.score for run in runs]
    assert scores[0] < 0.6 and scores[1] > 0.95


def test_units_beside_a_network_see_both_of_two_inputs():
    torch.manual_seed(0)
    x = 50 + 10 * torch.randn(300, 2)
    y = ((x - 50).norm(dim=1) > 11).long()
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2))
    program = subject(model, train=(x, y), batch_size=20, epochs=30).program
    runs = [train_program(each, seed=0) for each in (program, widen.apply(program))]
    scores = [run.last.score for run in runs]
    assert scores[0] < 0.4 and scores[1] > 0.8


@pytest.mark.parametrize(("batch", "strengths"), [(2, [32]), (7, [32]), (8, []), (64, [8])])
def test_batches_too_small_to_be_normalized_are_made_larger(batch, strengths):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    given = subject(model, batch_size=batch)
    assert [s[0].change.value for s in given.strengths("batch-size")] == strengths
    facts = given.facts("batch-size", None)
    assert (facts is not None and facts.where == "1") is (batch < 8)


def test_trials_of_a_costly_program_are_shorter_and_say_nothing_of_the_machine():
    def of_width(width):
        model = nn.Sequential(nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 2))
        return subject(model, batch_size=14, epochs=1000)

    small, large = of_width(8), of_width(2000)
    assert small.strengths("too-few-steps") == ()  # its 2,000 steps are more than a trial has
    assert subject().strengths("too-few-steps")[0][0].change.value == 24
    assert small.budget.steps == 600 and 100 <= large.budget.steps < 300
    products, numbers = 14 * 2 * (2000**2 + 6 * 2000), 2000**2 + 5 * 2000 + 2000 * 3 + 2
    assert large.step_seconds == pytest.approx(3e-11 * products + 3e-9 * numbers, rel=0.06)


def test_no_run_is_made_twice_and_what_is_known_is_what_training_again_gives():
    calls = []
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model.register_forward_hook(lambda *_: calls.append(None))
    given, fresh = subject(model), subject(model)
    adam = (use_adam(),)
    first = given.run([(), adam], seeds=range(2), steps=5)
    made = len(calls)
    assert given.run([adam, ()], seeds=range(2), steps=5) == first[::-1] and len(calls) == made
    assert given.run([()], seeds=range(2), steps=5, loss_in_doubt=True) == first[:1]
    assert len(calls) == made and len(given.spent) == 4
    assert fresh.run([adam], seeds=range(1, 2), steps=5)[0] == first[1][1:]
    cured, made = given.with_treatments(adam, loss_in_doubt=False), len(calls)
    assert cured.run([()], seeds=range(2), steps=5) == first[1:] and len(calls) == made
    assert cured.run([()], seeds=range(2), steps=5, loss_in_doubt=True) == first[1:]
    assert len(calls) == made
    in_doubt = given.with_treatments(adam, loss_in_doubt=True)
    assert in_doubt.run([()], seeds=range(2), steps=5) == first[1:] and len(calls) > made


def test_what_does_not_fit_into_the_time_of_an_examination_is_not_begun():
    given = subject()
    assert given.affords(1000)
    given.step_seconds = 0.02
    assert given.affords(799) and not given.affords(800)  # 16 s
    given.spent.append(7.9)
    assert given.has_budget and not given.affords(500)
    given.spent.append(0.2)
    assert not given.has_budget


@pytest.mark.parametrize(("batch", "strengths"), [(2, [32]), (4, [32]), (5, [])])
def test_batches_of_a_few_examples_are_made_larger(batch, strengths):
    given = subject(batch_size=batch)
    assert [s[0].change.value for s in given.strengths("batch-size")] == strengths


def without_correlation(out, y):
    out, y = out - out.mean(0), y - y.mean(0)
    return 1 - (out * y).mean() / (out.square().mean() * y.square().mean()).sqrt().clamp_min(1e-9)


@pytest.mark.parametrize(
    ("loss", "compared"),
    [
        (without_correlation, False),
        (lambda out, y: F.mse_loss(out - out.mean(), y - y.mean()), False),  # any level will do
        (lambda out, y: F.mse_loss(out.exp(), y.abs()), False),
        (F.mse_loss, True),
        (lambda out, y: F.smooth_l1_loss(out, y, reduction="sum"), True),
    ],
)
def test_numbers_are_compared_with_a_quick_learner_where_the_loss_tells_their_units(loss, compared):
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    given = subject(nn.Linear(4, 1), loss=loss, train=(x, x[:, :1] + 3), batch_size=16)
    learner = profile(given, trials=True).results.learner
    assert (learner.score is not None) is compared
