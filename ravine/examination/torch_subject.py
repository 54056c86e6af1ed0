"""Somebody's torch program as a subject of the engine."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from ravine.diagnosis.baseline_learners import fit_baseline, to_array
from ravine.diagnosis.data import measure
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.data.rules import ALL as DATA_RULES
from ravine.diagnosis.initialization.probe import profile_start
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.initialization.rules import ALL as INITIALIZATION_RULES
from ravine.diagnosis.op_names import SATURATING_FUNCTIONS
from ravine.diagnosis.rule import join_names, run_rules
from ravine.diagnosis.training_loop.tensor_stats import looks_default_initialized
from ravine.diagnosis.trials.outcome import (
    LEARNER_MARGIN,
    TRIAL_SEEDS,
    LearnerComparison,
    Outcome,
    TrialResults,
    WholeRun,
)
from ravine.errors import InputError
from ravine.examination.constant_answer import constant_loss
from ravine.examination.model_surgery import (
    ModelCall,
    hidden_activations,
    layers_without_activation,
    output_calls,
    record_calls,
)
from ravine.examination.scores import scaled_accuracy
from ravine.examination.subject import (
    CannotTryError,
    Facts,
    Observed,
    Say,
    SeedRun,
    Strength,
    TrialBudget,
)
from ravine.examination.torch_changes import (
    CURES,
    RUNNING_NORMS,
    STRENGTHS,
    OutputForEachClass,
    Reinitialize,
    ReplaceActivations,
    ScaleLearningRate,
    SetBatchSize,
    SetSteps,
    TorchChange,
)
from ravine.examination.torch_data import TensorData
from ravine.examination.torch_program import (
    EVALUATED_EXAMPLES,
    TorchProgram,
    TorchRun,
    losses_by_group,
    train_program,
)
from ravine.examination.verdict import weigh
from ravine.finding import Change, Checks, Evidence, Finding
from ravine.record import Score
from ravine.rng import isolated_rng
from ravine.watching.watcher import Watcher, watch

EVALUATED_SHARES = (0.04, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)  # of the budget
MAX_TRIAL_STEPS = 600
PROBED_EXAMPLES = 256  # training examples on which the start is probed
MAX_SMALL_PARAMETERS = 500_000  # of a network that one thread serves best
LONGER_TIMES = 3  # the budget, where more steps are tried
MIN_LARGE_BATCH, MIN_EPOCH_STEPS = 64, 3  # batches that may be too large
MAX_EPSILON = 1e-6  # Adam's, beyond which steps shrink with the gradients
MIN_WEIGHT_DECAY = 0.01  # that speaks for itself
MIN_DROPOUT = 0.4
NORM_MOMENTUM = (0.005, 0.9)  # within which running statistics follow the data
MIN_SATURATING = 3  # in a row
RISING_LOSS_RATIO = 1.2  # times the first loss
MAX_CLASS_VALUES = 20  # of a target that may be classes
CLASS_HITS = 0.25  # of the held-out targets that classes must hit beyond what a number does
CLASS_LOSS_RATIO = 1.2  # times the loss of a number that classes may have
MIN_RISE_GROUPS = 4


@dataclass
class TorchSubject:
    """A program that was read from the arguments of `examine`."""

    program: TorchProgram
    name: str | None = None
    score: Score | None = None
    calls: list[ModelCall] = field(default_factory=list)  # of a forward pass, once it was observed

    @property
    def budget(self) -> TrialBudget:
        steps = min(self.program.steps, MAX_TRIAL_STEPS)
        return TrialBudget(screening_seeds=1, screening_steps=steps, seeds=TRIAL_SEEDS, steps=steps)

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

    # What it is

    def observe(self, *, trials: bool, say: Say) -> Observed:
        """Probe the start, profile the data, and train a copy under the watch."""
        program, data = self.program, None
        inputs, targets = program.examples()
        rows = torch.linspace(0, len(inputs) - 1, min(len(inputs), PROBED_EXAMPLES)).round().long()
        start = profile_start(
            program.model, program.loss, inputs[rows], targets[rows], seed=program.seed
        )
        with isolated_rng(program.seed), contextlib.suppress(Exception):  # what the model raises
            self.calls = record_calls(program.build()[0], program.examples(8)[0])
        found, checks = run_rules(INITIALIZATION_RULES, start)
        try:
            data = self.profile_data(start)
        except Exception:  # data that nobody foresaw: the examination goes on without them
            checks = checks.and_(Checks(failed=tuple(rule.code for rule in DATA_RULES)))
        else:
            more, went = run_rules(DATA_RULES, data)
            found, checks = [*found, *more], checks.and_(went)
        say("training a copy under the watch")
        kept: list[Watcher] = []

        def keep(model: nn.Module, optimizer: Optimizer) -> Watcher:
            kept.append(watch(model, optimizer, quiet=True))
            return kept[-1]

        steps = {max(1, round(program.steps * share)) for share in EVALUATED_SHARES}
        evaluate_at = sorted({0, self.budget.steps, *steps})  # also where trials end
        try:
            run = train_program(program, seed=program.seed, evaluate_at=evaluate_at, watch=keep)
        except InputError:
            raise
        except Exception as error:  # whatever the model raises
            raise InputError(
                "training breaks off",
                why=f"{type(error).__name__}: {error}"[:300],
                do="check that model and loss accept every batch, also the last one",
            ) from error
        report = kept[0].report()
        runs = (_seed_run(run.until(self.budget.steps)),)
        return Observed(
            findings=[*report.findings, *found],
            checks=report.checks.and_(checks),
            start=start,
            data=data,
            runs=runs,
            results=self._own_results(run, runs[0], data) if trials else None,
        )

    def profile_data(self, start: StartProfile) -> DataProfile:
        """The examples."""
        program = self.program
        data = measure.profile_data(
            *program.examples(),
            validation=None if program.held_out else program.validation,
            shuffled=program.train.shuffled,
            batch=program.train.batch,
            outputs=start.loss.targets.output_shape[1:],
            seed=program.seed,
        )
        if program.held_out and program.validation is not None:
            counts = measure.count_classes(to_array(program.validation[1]), data.kind)
            data = replace(data, classes=replace(data.classes, validation=counts))
        return data

    def _own_results(self, run: TorchRun, own: SeedRun, data: DataProfile | None) -> TrialResults:
        """The run to which trials are compared, and what the whole of it shows."""
        program = self.program
        results = TrialResults(
            base=Outcome(
                cause="healthy",
                losses=(own.loss,),
                scores=(own.score,),
                evaluations=own.evaluations,
            ),
            null_loss=constant_loss(program),
            start_loss=run.evaluations[0].loss,
            steps=self.budget.steps,
        )
        known, margin = None if data is None else data.baseline, LEARNER_MARGIN
        if data is not None and data.kind == "inputs":  # a narrow code is meant to lose something
            known = fit_baseline(*program.examples(), "numbers", seed=program.seed)
            margin = 2 * LEARNER_MARGIN
        reached = fitted = None
        loss_fitted = math.nan
        if run.model is not None:
            inputs, targets = program.examples(EVALUATED_EXAMPLES)
            run.model.eval()
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                outputs = run.model(inputs)
                losses = losses_by_group(program.evaluation_loss or program.loss, outputs, targets)
                loss_fitted = sum(losses) / len(losses)
                if program.validation is not None and not run.diverged:
                    fitted = scaled_accuracy(outputs, targets)
                    others = program.evaluated()
                    reached = scaled_accuracy(run.model(others[0]), others[1])
            run.model.train()
        score = None
        if known is not None and known.null_score < 1:
            least = 0.0 if known.kind in ("number", "numbers") else known.null_score
            score = (known.score - least) / (1 - least)
        return replace(
            results,
            learner=LearnerComparison(
                score=score,
                margin=margin,
                informative=None if known is None else known.informative,
                validation_score=reached,
                train_score=fitted,
            ),
            whole_run=WholeRun(
                evaluations=(
                    *((e.step, e.loss, e.score) for e in run.evaluations),
                    *(((len(run.losses), math.nan, None),) if run.diverged else ()),
                ),
                rise=loss_rise(program, run),
                train_loss=loss_fitted,
            ),
        )

    # What can be changed

    def strengths(self, cause: str) -> tuple[Strength, ...]:
        program = self.program
        if cause == "too-few-steps":
            return ((SetSteps(LONGER_TIMES * program.steps),),)
        if cause == "batch-size":
            large = program.train.batch >= MIN_LARGE_BATCH or len(program.train) < MIN_EPOCH_STEPS
            return ((SetBatchSize(max(2, program.train.batch // 8)),),) if large else ()
        if cause == "optimizer" and isinstance(program.build()[1], Adam | AdamW):
            return ()  # another one of these is another rate
        if cause == "hidden-activation" and not layers_without_activation(self.calls):
            bent = ReplaceActivations("relu")
            return ((bent,), (bent, Reinitialize()))
        return STRENGTHS.get(cause, ())

    def cures(self, finding: Finding) -> tuple[Strength, ...]:
        return CURES.get(finding.cause, ())

    def treatments_for(self, changes: Sequence[Change]) -> Strength:
        """Nothing: what rules of programs ask for is meant for its author."""
        return ()

    def facts(self, cause: str, observed: Observed) -> Facts | None:
        """What model, optimizer and data loader say for a cause."""
        look = {
            "learning-rate-high": self._rising_loss,
            "frozen-parameters": self._frozen_fresh,
            "dropout": self._dropout,
            "over-regularized": self._weight_decay,
            "optimizer-numerics": self._epsilon,
            "normalization": self._norm_momentum,
            "output-activation": self._output_activation,
            "hidden-activation": self._hidden_activation,
            "shuffling": self._fixed_order,
        }.get(cause)
        return None if look is None else look(observed)

    def _rising_loss(self, observed: Observed) -> Facts | None:
        """A loss above where it started speaks for a lower rate."""
        if observed.results is None:
            return None
        whole = observed.results.whole_run.evaluations
        if not math.isfinite(whole[-1][1]):
            name = "step at which the loss stopped being finite"
            return Facts((Evidence(name, whole[-1][0]),))
        first, worst = whole[0][1], max(loss for _, loss, _ in whole)
        if worst > RISING_LOSS_RATIO * first:
            ratio = worst / max(first, 1e-12)
            return Facts((Evidence("highest loss over the first", ratio, "", RISING_LOSS_RATIO),))
        return None

    def _frozen_fresh(self, observed: Observed) -> Facts | None:
        """Parameters that are not trained though they are still as drawn at random."""
        model, optimizer = self.program.build()
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        owners = {
            f"{path}.{name}" if path else name: module
            for path, module in model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }
        left = [
            name
            for name, p in model.named_parameters()
            if (not p.requires_grad or id(p) not in held)
            and name in owners
            and looks_default_initialized(p, owners[name])
        ]
        if not left:
            return None
        name = "parameters that are not trained, as drawn at random"
        return Facts((Evidence(name, len(left), "", 0),), join_names(left))

    def _dropout(self, observed: Observed) -> Facts | None:
        rates = dict(observed.start.network.dropouts)
        for name, module in self.program.model.named_modules():
            rate = getattr(module, "dropout", None)
            if isinstance(rate, float):
                rates[name] = rate
        where, most = max(rates.items(), key=lambda r: r[1], default=("", 0.0))
        if most < MIN_DROPOUT:
            return None
        evidence = Evidence("dropout rate", most, "", MIN_DROPOUT)
        return Facts((evidence,), where, ("over-regularized",))

    def _weight_decay(self, observed: Observed) -> Facts | None:
        groups = self.program.build()[1].param_groups
        decay = max(float(g.get("weight_decay") or 0.0) for g in groups)
        if decay <= 0:
            return None
        large = decay >= MIN_WEIGHT_DECAY
        return Facts((Evidence("weight decay", decay, "", MIN_WEIGHT_DECAY),) if large else ())

    def _epsilon(self, observed: Observed) -> Facts | None:
        given = [g.get("eps") for g in self.program.build()[1].param_groups]
        numbers = [float(e) for e in given if isinstance(e, int | float)]  # Adafactor has two
        if max(numbers, default=0.0) <= MAX_EPSILON:
            return None
        evidence = Evidence("epsilon of the optimizer", max(numbers), "", MAX_EPSILON)
        return Facts((evidence,), suspects=("learning-rate-low",))

    def _norm_momentum(self, observed: Observed) -> Facts | None:
        for name, module in self.program.model.named_modules():
            tracks = isinstance(module, RUNNING_NORMS) and module.track_running_stats
            momentum: Any = module.momentum if tracks else None
            if momentum is not None and not NORM_MOMENTUM[0] < momentum < NORM_MOMENTUM[1]:
                evidence = Evidence("momentum of the running statistics", momentum, "", 0.1)
                return Facts((evidence,), name, ("train-eval-mode",))
        return None

    def _output_activation(self, observed: Observed) -> Facts | None:
        names = [self.calls[i].name for i in output_calls(self.calls)]
        if not names:
            return None
        evidence = Evidence("activations at the output", len(names), "", 0, ", ".join(names))
        last = [call.where for call in observed.start.network.activations if call.makes_output]
        return Facts((evidence,), last[-1] if last else "")

    def _hidden_activation(self, observed: Observed) -> Facts | None:
        layers = observed.start.network.layers
        first = layers[0].where if layers else ""
        missing = layers_without_activation(self.calls)
        if missing:
            name = "layers without a nonlinearity behind them"
            return Facts((Evidence(name, len(missing), "", 0),), first)
        names = [self.calls[i].name for i in hidden_activations(self.calls)]
        if sum(name in SATURATING_FUNCTIONS for name in names) < MIN_SATURATING:
            return None
        kinds = ", ".join(sorted(set(names)))
        evidence = Evidence(
            "saturating activations in a row", len(names), "", MIN_SATURATING - 1, kinds
        )
        return Facts((evidence,), first, ("vanishing", "architecture-too-deep"))

    def _fixed_order(self, observed: Observed) -> Facts | None:
        train = self.program.train
        if train.shuffled or not isinstance(train, TensorData) or len(train) < 2:
            return None
        return Facts((Evidence("order of the examples", None, text="the same in every pass"),))

    # How it runs

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
        for strength in strengths:
            try:
                changed = apply_changes(program, strength)
                longer = steps is None or any(isinstance(c, SetSteps) for c in strength)
                count = changed.steps if longer else min(changed.steps, steps or 0)
                runs = []
                for seed in seeds:
                    run = train_program(
                        changed, seed=program.seed + seed, steps=count, evaluate_at=evaluate_at
                    )
                    runs.append(_seed_run(run))
                found.append(runs)
            except CannotTryError as error:
                found.append(error)
            except Exception as error:  # the model's own code may raise anything
                found.append(
                    CannotTryError(f"with the change it does not run: {type(error).__name__}")
                )
        return found

    def try_otherwise(self, results: TrialResults) -> TrialResults:
        """Classes in place of numbers, where the targets are a few whole numbers and the network
        has one output.

        It helps if classes hit far more of the targets exactly, and are no farther off on average:
        then the order of the values says little.
        """
        program = self.program
        _, targets = program.examples()
        values = torch.unique(targets)
        whole = bool((values == values.round()).all()) and targets[0].numel() == 1
        few = 3 <= len(values) <= MAX_CLASS_VALUES
        if not (whole and few) or program.validation is None:
            return results
        if not math.isfinite(results.whole_run.evaluations[-1][1]):
            return results
        rate: tuple[TorchChange, ...] = ()
        for rate in ((), (ScaleLearningRate(10),)):  # gradients of classes are smaller
            try:
                as_classes = apply_changes(program, (OutputForEachClass(), *rate))
                pairs = self._compare_hits(as_classes, results.steps)
            except Exception:  # it cannot be tried, or the model's own code raises
                return results
            if pairs:
                break
        else:
            return results
        before, after = [missed for missed, _ in pairs], [missed for _, missed in pairs]
        as_number, as_class = (100 * (1 - missed[0]) for missed in (before, after))
        outcome = Outcome(
            cause="loss",
            changes=tuple(c.change for c in (OutputForEachClass(), *rate)),
            losses=tuple(after),
            scores=(None,) * len(after),
            trial=weigh(before, after, steps=results.steps, least=CLASS_HITS),
            evidence=(
                Evidence(
                    "different values of the target",
                    len(values),
                    "",
                    MAX_CLASS_VALUES,
                    "all whole numbers",
                ),
                Evidence(
                    "of them hit after rounding",
                    as_number,
                    "%",
                    text=f"{as_class:.0f} % as classes",
                ),
            ),
        )
        return replace(results, outcomes=(*results.outcomes, outcome), preferred=outcome)

    def _compare_hits(self, as_classes: TorchProgram, steps: int) -> list[tuple[float, float]]:
        """The shares of targets missed by numbers and by classes, for each seed; nothing where
        classes do not hit far more with the first.
        """
        pairs: list[tuple[float, float]] = []
        for seed in range(self.program.seed, self.program.seed + TRIAL_SEEDS):
            missed, loss = self._missed(self.program, steps, seed)
            fewer, lower = self._missed(as_classes, steps, seed)
            if not pairs and (missed - fewer < CLASS_HITS or lower > CLASS_LOSS_RATIO * loss):
                return []
            pairs.append((missed, fewer))
        return pairs

    def _missed(self, program: TorchProgram, steps: int, seed: int) -> tuple[float, float]:
        """The share of held-out targets that the answer does not round to, and the loss by the
        measure of the program itself.
        """
        measured = replace(program, evaluation_loss=self.program.loss)
        run = train_program(measured, seed=seed, steps=min(program.steps, steps))
        assert run.model is not None and self.program.validation is not None
        inputs, targets = self.program.validation
        run.model.eval()
        with torch.no_grad():
            answers: Tensor = run.model(inputs)
        missed = (answers.flatten().round() != targets.flatten()).float().mean()
        return float(missed), run.last.loss


def apply_changes(program: TorchProgram, strength: Sequence[Any]) -> TorchProgram:
    """The program with changes made, one after another. Raises `CannotTryError` with the reason
    where one cannot be.
    """
    for change in strength:
        program = change.apply(program)
    return program


def _seed_run(run: TorchRun) -> SeedRun:
    evaluations = tuple((e.step, e.loss, e.score) for e in run.evaluations)
    return SeedRun(math.nan if run.diverged else run.last.loss, run.last.score, evaluations)


def loss_rise(program: TorchProgram, run: TorchRun) -> tuple[float, float] | None:
    """By how much the loss on held-out examples ended above its least: mean and standard error
    over groups, paired.
    """
    if program.validation is None or run.diverged:
        return None
    best = min((e for e in run.evaluations if math.isfinite(e.loss)), key=lambda e: e.loss)
    rises = [a - b for a, b in zip(run.last.losses, best.losses, strict=True)]
    if len(rises) < MIN_RISE_GROUPS:
        return None
    mean = sum(rises) / len(rises)
    variance = sum((a - mean) ** 2 for a in rises) / (len(rises) - 1)
    return mean, math.sqrt(variance / len(rises))
