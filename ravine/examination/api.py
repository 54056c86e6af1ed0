"""Find out why training goes wrong: `examine` a torch program, `check` a recipe before it trains,
`doctor` a recipe or a run.

Everything happens on copies: the model, the optimizer and torch's random numbers are left as they
were.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ravine.argument_checks import check_arguments
from ravine.data import TableLike, Task
from ravine.errors import InputError, RavineError, typed_message, wrap_errors
from ravine.examination.preflight import check_recipe
from ravine.examination.preflight_checks import QUICK_RECIPE_CHECKS
from ravine.examination.program_forms import device_of
from ravine.examination.recipe_subject import subject_of
from ravine.examination.rounds import examine_subject
from ravine.examination.subject import SubjectProfile
from ravine.examination.time_limit import TimeLimit
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_program import keeping_buffers, repeatable, showing_warnings_once
from ravine.examination.torch_subject import TorchSubject
from ravine.finding import Report, arrange
from ravine.recipe import Recipe
from ravine.training.defaults import prepare
from ravine.training.run import Run


def examine(
    model: nn.Module,
    loss: Any = None,
    train: Any = None,
    *,
    optimizer: Any = None,
    validation: Any = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    trials: bool = True,
    step: Any = None,
    batches: Any = None,
) -> Report:
    """What is wrong with a program that trains, with evidence, cause, and what remedies did when
    they were tried.

    The model is checked before it trains; then a copy is trained for the whole budget, watched;
    then remedies are tried in copies that share its start and the order of its examples. Nothing
    that is given changes.

    - `model` is any module on any device, where batches follow it. One with `training_step` and
      `configure_optimizers`, as a LightningModule, needs neither loss nor optimizer.
    - `loss` gives one number, called as `loss(outputs, targets)` or `loss(outputs, batch)`,
      whichever runs; None where outputs have `.loss` or ["loss"].
    - `train` gives batches: a DataLoader or other iterable, a list, a generator (read once, up to
      1 GiB), or a function that returns an iterator for each epoch; or it is a Dataset, or
      examples in memory, N rows each, of which batches have `batch_size`. A batch is `(inputs,
      targets)`, `(a, b, targets)`, a dict, a dataclass, or inputs alone; the model gets inputs as
      one argument, several or keywords, or the whole batch.
    - `optimizer` is a torch optimizer on the model's parameters, or a function from these to one.
    - `validation`: what runs are compared on, laid out as `train` or as (inputs, targets). Without
      any, a fifth of examples in memory and of the batches of a list or generator is held out; of a
      loader nothing.
    - `epochs` or `steps` (updates; for batches without an end) are the budget. With `minutes` no
      trial begins that would not end in time; without, the report does not depend on the clock.
    - `step` in place of `loss` is a function `step(model, batch)` to the loss of a batch, before
      going back; `batches` is another name of `train`. Of tensors of one shape in a list each is a
      batch then; with `batch_size`, they are the parts of all examples.

    Where outputs and targets cannot be told apart (a step, a loss of the model's own, batches not
    made of rows), losses of batches are compared; where only as many examples as a batch has can be
    run at once, so many are evaluated. `left_out` of the report says what was not examined for
    that, for the time or an error, and remedies that were not tried; `checks.not_measured` has all
    checks that lacked what they read. Raises `InputError` for what cannot be run.

    >>> import torch
    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(1))
    >>> adam = lambda parameters: torch.optim.Adam(parameters, lr=0.01)
    >>> report = examine(network, nn.CrossEntropyLoss(), (x, y), batch_size=20, epochs=5,
    ...                  optimizer=adam)
    >>> report.findings[0].cause
    'output-activation'
    """
    check_arguments(examine, locals())
    limit = None if minutes is None else TimeLimit(minutes)
    do = "train it for one epoch in a loop of your own: what this raises is in the program"
    with keeping_buffers(model), showing_warnings_once():
        with wrap_errors(InputError, "the program cannot be read", do, why=typed_message):
            program = read_program(
                model,
                loss,
                train if batches is None else batches,
                optimizer=optimizer,
                validation=validation,
                batch_size=batch_size,
                epochs=epochs,
                steps=steps,
                step=step,
                seed=seed,
            )
        subject = TorchSubject(program, limit=limit)
        with repeatable(device_of(program.model)):
            try:
                report = examine_subject(subject, trials=trials)
            except (RavineError, MemoryError):
                raise
            except Exception as error:  # of Ravine's own
                report = _examine_less(subject, error, trials=trials)
    return replace(report, left_out=(*subject.left_out, *report.left_out))


def _examine_less(subject: TorchSubject, error: Exception, *, trials: bool) -> Report:
    """The report without what an error of Ravine's own broke: trials, or all checks."""
    subject.leave_out_broken("trials" if trials else "all checks", error)
    if not trials:
        return Report()
    try:
        return examine_subject(subject, trials=False)
    except (RavineError, MemoryError):
        raise
    except Exception as again:
        return _examine_less(subject, again, trials=False)


def check(recipe: Recipe, frame: TableLike | None = None) -> Report:
    """All checks of a recipe and its data before training. They take seconds, however long training
    would take.

    >>> from ravine.catalog import named_recipe
    >>> report = check(named_recipe("plain").vary("data.source", "iris"))
    >>> report.findings, report.checks.failed
    ((), ())
    """
    check_arguments(check, locals())
    task, resolved = prepare(recipe, frame)
    return _report(check_recipe(resolved, task))


def quick_check(recipe: Recipe, task: Task) -> Report:
    """The checks of a resolved recipe that take about a second: no gradient, no training."""
    return _report(check_recipe(recipe, task, QUICK_RECIPE_CHECKS))


def _report(profile: SubjectProfile) -> Report:
    found = arrange(profile.findings)
    return Report(findings=found, checks=profile.checks.merge(found=found))


def doctor(
    what: str | Path | Run | Recipe,
    frame: TableLike | None = None,
    *,
    trials: bool = True,
    module: Any = None,
    files: Mapping[str, str | Path] | None = None,
) -> Report:
    """What is wrong with a run (its folder, or what `train` returned) or with a recipe, and what
    helps against it.

    All checks before training are made, a run's curves are read, and remedies are tried unless
    `trials` is False. `frame` is the table where the recipe names no source, `module` makes the
    network where that is a module of one's own, `files` has the new paths of a run's files that
    were moved (`{"data.source": "new.csv"}`). Raises `InputError` for a folder that is no run,
    and for data that are not those of the run.

    >>> from ravine.catalog import named_recipe
    >>> recipe = named_recipe("plain").vary("data.source", "iris").vary("optimizer.lr", 1e-6)
    >>> doctor(recipe).findings[0].cause
    'learning-rate-low'
    """
    check_arguments(doctor, locals())
    return examine_subject(subject_of(what, frame, module=module, files=files), trials=trials)
