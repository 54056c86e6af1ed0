"""A torch program as a subject of the engine."""

import contextlib
import copy
import functools
import itertools
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.optim import Adam, AdamW

from ravine.diagnosis.baseline_learners import to_array
from ravine.diagnosis.data.data_kinds import count_classes
from ravine.diagnosis.data.measure import measure_numbers, profile_data
from ravine.diagnosis.data.profile import ClassCounts, DataProfile
from ravine.diagnosis.initialization.probe import profile_start
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.registry import DATA_RULES, INPUT_RULES, SEVERAL_TARGET_RULES, START_RULES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.trials.trial_results import TRIAL_SEEDS, TrialResults
from ravine.errors import InputError, first_line, shorten, typed_message, wrap_errors
from ravine.examination.model_surgery import ModelCall, layers_without_activation, record_calls
from ravine.examination.step_seconds import measure_step
from ravine.examination.subject import (
    CannotTryError,
    Facts,
    RunOwn,
    Say,
    SeedRun,
    Strength,
    SubjectProfile,
    TrialBudget,
)
from ravine.examination.time_limit import TimeLimit
from ravine.examination.torch_capacity import CAPACITY_STEPS, is_narrow, try_capacity
from ravine.examination.torch_change import apply_treatments
from ravine.examination.torch_data import Pair
from ravine.examination.torch_loss_trials import try_classes, try_losses
from ravine.examination.torch_model_changes import reinitialize
from ravine.examination.torch_program import (
    EVALUATED_EXAMPLES,
    TorchProgram,
    TorchRun,
    train_program,
)
from ravine.examination.torch_results import own_results, seed_run
from ravine.examination.torch_settings import (
    CURES_BY_CAUSE,
    STRENGTHS_BY_CAUSE,
    TORCH_FACTS,
    USE_RELU,
    small_normalized_batch,
)
from ravine.examination.torch_training_changes import join_changes, set_batch_size, set_steps
from ravine.finding import Change, Checks, Finding
from ravine.record import Score
from ravine.rng import isolated_rng
from ravine.statistics import even_places

EVALUATED_FRACTIONS = (0.04, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)  # of the budget
MIN_TRIAL_STEPS, MAX_PROGRAM_STEPS = 100, 600  # of a trial
EXAMINATION_SECONDS = 16.0  # of all trials, about, on one core
TRIAL_RUNS = 40  # in an examination, about
PROBED_EXAMPLES = 256  # training examples on which the start is probed
MAX_SMALL_PARAMETERS = 500_000  # of a network that one thread serves best
BUDGET_FACTOR = 3  # times the steps, where more are tried
MAX_CHEAP_STEPS = 200  # up to which the factor is applied again
NORMALIZED_BATCH = 32  # tried where the program's is too small for batch normalization
MAX_TINY_BATCH = 4  # examples, of which a loss that compares them sees little
MIN_LARGE_BATCH, MIN_EPOCH_STEPS = 64, 3  # batches that may be too large

UNKNOWN_BY_FORM = {
    "whole": "checks of outputs and data: only the loss of a whole batch is known",
    "none": "checks of targets: the loss uses none",
    "several": "checks of targets: the loss takes several tensors",
    "one": "checks of answers: no output has the shape of one",
}
UNMEASURED_REMEDIES: dict[str, Callable[[TorchProgram, TrialResults, RunOwn], TrialResults]] = {
    "other classes": try_classes,
    "other losses": try_losses,
    "a larger network": try_capacity,
}
ACTIVATION_CAUSES = ("output-activation", "hidden-activation")


class CannotProfileError(Exception):
    """Why examples cannot be profiled."""


@dataclass
class TorchSubject:
    """A program that was read from the arguments of `examine`."""

    program: TorchProgram
    name: str | None = None
    score: Score | None = None
    calls: list[ModelCall] = field(default_factory=list)  # of a forward pass, once it was profiled
    limit: TimeLimit | None = None
    spent: list[float] = field(default_factory=list)  # seconds of each run, about
    made: tuple[Change, ...] = ()  # to what was given
    known_runs: dict[object, SeedRun] = field(default_factory=dict)  # none is made twice
    broken: list[str] = field(default_factory=list)  # what broke, and why

    def leave_out_broken(self, what: str, error: Exception) -> None:
        """Note what is left out because it raised an error."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        self.broken.append(f"{what}: {typed_message(error)} ({where})")

    @property
    def has_budget(self) -> bool:
        return 2 * sum(self.spent) < EXAMINATION_SECONDS  # it may take as long as all before it

    def affords(self, steps: int) -> bool:
        """Whether so many steps more fit into what an examination may take."""
        return sum(self.spent) + steps * self.step_seconds < EXAMINATION_SECONDS

    @property
    def budget(self) -> TrialBudget:
        affordable = int(EXAMINATION_SECONDS / TRIAL_RUNS / self.step_seconds)
        steps = min(self.program.steps, max(MIN_TRIAL_STEPS, min(MAX_PROGRAM_STEPS, affordable)))
        return TrialBudget(screening_seeds=1, screening_steps=steps, seeds=TRIAL_SEEDS, steps=steps)

    @functools.cached_property
    def step_seconds(self) -> float:
        """How long a step of the program takes, about."""
        with isolated_rng(self.program.seed):
            inputs, targets = next(iter(self.program.train.epoch()))
            model = copy.deepcopy(self.program.model)
            sizes = [p.numel() for p in model.parameters() if p.requires_grad]
            step = lambda: self.program.loss(model(inputs), targets)  # noqa: E731
            return measure_step(step, tensors=len(sizes), numbers=sum(sizes))

    @contextlib.contextmanager
    def limit_threads(self) -> Iterator[None]:
        """One thread while small networks train again and again: with more, waiting for each other
        costs more than it saves, many times over on a busy machine.
        """
        threads = torch.get_num_threads()
        parameters = sum(p.numel() for p in self.program.model.parameters())
        if parameters < MAX_SMALL_PARAMETERS:
            torch.set_num_threads(1)
        try:
            with threadpool_limits(1, user_api="blas"):  # of the quick learners' linear algebra
                yield
        finally:
            torch.set_num_threads(threads)

    def profile(self, *, trials: bool, say: Say) -> SubjectProfile:
        """Probe the start, profile the data, and train a copy under the watch."""
        program = self.program
        data: DataProfile | None = None
        start = StartProfile(measured={"outputs": False})
        if not program.is_large:  # the probes copy it several times
            inputs, targets = program.examples()
            probed = min(PROBED_EXAMPLES, program.evaluated)
            rows = even_places(len(inputs), 1 if program.form.whole else probed)
            start = profile_start(
                program.model,
                program.loss,
                inputs[rows],
                targets[rows],
                seed=program.seed,
                without=program.form.unmeasured_probes,
            )
        with isolated_rng(program.seed), contextlib.suppress(Exception):  # what the model raises
            self.calls = record_calls(program.build()[0], program.examples(8)[0])
        in_start, start_checks = run_rules(START_RULES, start)
        by_targets = {"one": DATA_RULES, "several": SEVERAL_TARGET_RULES}
        rules = by_targets.get(program.form.targets, INPUT_RULES)
        codes = tuple(rule.code for rule in rules)
        others = Checks(not_measured=tuple(r.code for r in DATA_RULES if r.code not in codes))
        try:
            with np.errstate(all="ignore"):  # squares of very large numbers
                data = profile_program_data(program, start)
                if start.dependence.copies_alone:  # a code of words, no model of sequences
                    data = replace(data, same_tokens=0.0)
            in_data, data_checks = run_rules(rules, data)
        except CannotProfileError:
            in_data, data_checks = [], Checks(not_measured=codes)
        except Exception:  # unusual data: the examination goes on without them
            in_data, data_checks = [], Checks(failed=codes)
        say("training a copy under the watch")
        steps = self.budget.steps
        evaluate_at = {max(1, round(program.steps * part)) for part in EVALUATED_FRACTIONS}
        evaluate_at |= {0, steps}
        do = "see that every batch passes model and loss, the last one too"
        begin = time.monotonic()
        with wrap_errors(InputError, "training breaks off", do, why=typed_message):
            run = train_program(
                program,
                seed=program.seed,
                evaluate_at=evaluate_at,
                watched=True,
                end=None if self.limit is None else self.limit.end,
            )
        assert run.report is not None
        if self.limit is not None:
            self._measure_trial(self.limit, run, begin)
        return SubjectProfile(
            findings=[*run.report.findings, *in_start, *in_data],
            checks=run.report.checks.merge(start_checks, data_checks, others),
            start=start,
            data=data,
            runs=(seed_run(run.until(steps)),),
            results=own_results(program, run, data, steps=steps) if trials else None,
        )

    def _measure_trial(self, limit: TimeLimit, run: TorchRun, begin: float) -> None:
        """Take the time of a trial from that of the own run, and whether this came to its end."""
        steps = max(1, len(run.losses))
        limit.trial_seconds = (time.monotonic() - begin) / steps * self.budget.steps
        if steps < self.program.steps and time.monotonic() > limit.end:
            limit.left_out.append(f"training after step {steps} of {self.program.steps}")

    def strengths(self, cause: str) -> tuple[Strength, ...]:
        program = self.program
        if program.form.whole and cause in ACTIVATION_CAUSES:
            return ()  # those of the loss cannot be told apart
        if cause == "too-few-steps":
            if self.budget.steps != program.steps:
                return ()  # trials are shorter than it is
            longer = [BUDGET_FACTOR * program.steps]
            while BUDGET_FACTOR * longer[-1] <= MAX_CHEAP_STEPS:
                longer.append(BUDGET_FACTOR * longer[-1])
            return tuple((set_steps(steps),) for steps in longer)
        if cause == "batch-size":
            batch = program.train.batch
            if small_normalized_batch(program, self.calls) or batch <= MAX_TINY_BATCH:
                return ((set_batch_size(NORMALIZED_BATCH),),)
            large = batch >= MIN_LARGE_BATCH or len(program.train) < MIN_EPOCH_STEPS
            return ((set_batch_size(max(2, batch // 8)),),) if large else ()
        if cause == "optimizer" and isinstance(program.build()[1], Adam | AdamW):
            return ()  # another one of these is another rate
        if cause == "hidden-activation" and not layers_without_activation(self.calls):
            return ((USE_RELU,), (USE_RELU, reinitialize))
        return STRENGTHS_BY_CAUSE.get(cause, ())

    def cures(self, finding: Finding) -> tuple[Strength, ...]:
        by_hand = finding.cause == "shape-pairing" and {c.path for c in finding.changes} == {"data"}
        return () if by_hand else CURES_BY_CAUSE.get(finding.cause, ())

    def treatments_for(self, changes: Sequence[Change]) -> Strength:
        """Nothing: what rules of programs ask for is meant for its author."""
        return ()

    def join(self, strengths: Sequence[Strength]) -> Strength:
        return join_changes(itertools.chain.from_iterable(strengths))

    def with_treatments(self, strength: Strength, *, loss_in_doubt: bool) -> "TorchSubject":
        program = self.program if loss_in_doubt else self.program.keeping_measure()
        changed = replace(self, program=apply_treatments(program, strength), calls=[])
        changed.made = tuple(treatment.change for treatment in strength)
        changed.known_runs = {} if loss_in_doubt else self.known_runs
        changed.step_seconds = self.step_seconds  # trials of one examination are equally long
        return changed

    def facts(self, cause: str, profile: SubjectProfile) -> Facts | None:
        find = TORCH_FACTS.get(cause)
        return None if find is None else find(self.program, self.calls, profile)

    def run(
        self,
        strengths: Sequence[Strength],
        *,
        seeds: range,
        steps: int | None,
        evaluate_at: Sequence[int] = (),
        loss_in_doubt: bool = False,
    ) -> list[list[SeedRun] | CannotTryError]:
        program = self.program if loss_in_doubt else self.program.keeping_measure()
        found: list[list[SeedRun] | CannotTryError] = []
        can_wait = seeds.start == 0 and not evaluate_at  # what is begun is ended
        for strength in strengths:
            if strength and can_wait and self.limit and not self.limit.allows_trial:
                name = ", ".join(f"{t.change.path} = {t.change.value}" for t in strength)
                self.limit.left_out.append(f"the trial of {name}")
                found.append(CannotTryError(f"no time was left of {self.limit.minutes:g} minutes"))
                continue
            try:
                tried = apply_treatments(program, strength)
                longer = steps is None or any(t.change.path == "steps" for t in strength)
                count = tried.steps if longer else min(tried.steps, steps or 0)
                runs = []
                made = (*self.made, *(treatment.change for treatment in strength))
                in_doubt = bool(made) and program.evaluation_loss is None
                about = made, count, tuple(evaluate_at), in_doubt
                for seed in range(program.seed + seeds.start, program.seed + seeds.stop):
                    if (seed, about) not in self.known_runs:
                        run = train_program(tried, seed=seed, steps=count, evaluate_at=evaluate_at)
                        self.spent.append(len(run.losses) * self.step_seconds)
                        self.known_runs[seed, about] = seed_run(run)
                    runs.append(self.known_runs[seed, about])
                found.append(runs)
            except CannotTryError as error:
                found.append(error)
            except Exception as error:  # the model's own code may raise anything
                why = f"with this change the program raises {type(error).__name__}"
                why += f": {shorten(first_line(error), 120)}" if str(error) else ""
                found.append(CannotTryError(why))
        return found

    def run_own(self) -> list[SeedRun]:
        """Runs of the program as it is, as long as trials."""
        (runs,) = self.run([()], seeds=range(TRIAL_SEEDS), steps=self.budget.steps)
        assert not isinstance(runs, CannotTryError)
        return runs

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not measured, and why."""
        form = self.program.form
        found = [*self.broken, *(self.limit.left_out if self.limit else ())]
        if self.program.evaluated < EVALUATED_EXAMPLES:
            what = f"evaluation of more than {self.program.evaluated} examples: model and loss "
            found.insert(0, f"{what}do not run on more at once than a batch has")
        if self.program.is_large:
            found.insert(0, "checks before training: the model is too large for many copies")
        if form.answer is None:
            kind = "whole" if form.whole else form.targets
            found.insert(0, f"scores, and {UNKNOWN_BY_FORM[kind]}")
        return tuple(dict.fromkeys(found))

    def try_unmeasured_remedies(self, results: TrialResults) -> TrialResults:
        if self.program.form.answer is None:
            return results
        for name, attempt in UNMEASURED_REMEDIES.items():
            suspected = results.shortfall or is_narrow(self.program)
            explained = results.best_explanation and not results.is_partly_explained
            if attempt is try_capacity and (explained or not suspected):
                continue
            if attempt is try_capacity and not self.affords(CAPACITY_STEPS):
                self.broken.append(f"trials of {name}: a step of the program calculates too much")
                continue
            try:
                results = attempt(self.program, results, self.run_own)
            except Exception as error:  # the model's own code may raise anything
                self.leave_out_broken(f"trials of {name}", error)
        return results


def profile_program_data(program: TorchProgram, start: StartProfile) -> DataProfile:
    """What is to be known of the examples; held-out ones are not compared with the others."""
    validation = None if program.held_out else program.validation
    if program.form.targets != "one":
        return _profile_inputs(program)
    outputs = start.loss.targets.output_shape[1:]
    labels = program.examples(start.examples)[1]
    beyond = outputs and not labels.is_floating_point() and bool((labels >= outputs[0]).any())
    if beyond and start.first_loss.value is not None:
        outputs = ()  # the loss takes labels beyond them: no output stands for a label
    data = profile_data(
        *_as_columns(program, program.examples()),
        validation=None if validation is None else _as_columns(program, validation),
        shuffled=program.train.is_shuffled,
        batch=program.train.batch,
        outputs=outputs,
        seed=program.seed,
    )
    if program.held_out and program.validation is not None:
        counts = count_classes(to_array(program.validation[1]), data.kind)
        data = replace(data, classes=replace(data.classes, validation=counts))
    return data


def _profile_inputs(program: TorchProgram) -> DataProfile:
    """What is to be known of inputs whose targets are none, or several."""
    if program.form.whole is not None:
        raise CannotProfileError("batches are not made of rows")
    examples, packing = program.examples(), program.form.target_packing
    inputs, _ = _as_columns(program, examples)
    found = profile_data(inputs, torch.zeros(len(inputs), dtype=torch.long), seed=program.seed)
    columns = None if packing is None else packing.columns(examples[1])
    targets = None if columns is None else measure_numbers(to_array(columns))
    return replace(found, kind="numbers", classes=ClassCounts(), targets=targets, baseline=None)


def _as_columns(program: TorchProgram, examples: Pair) -> Pair:
    """Examples as they are profiled: of packed inputs the numbers."""
    packing = program.form.packing
    if packing is None:
        return examples
    columns = packing.columns(examples[0])
    if columns is None:
        raise CannotProfileError("no part of the inputs are numbers")
    return columns, examples[1]
