"""Watching a training loop that someone else wrote: what is wrong with it, said when it shows.

    with ravine.watch(model, optimizer) as watched:
        for x, y in batches:
            optimizer.zero_grad()
            loss = watched.loss(criterion(model(x), y))
            loss.backward()
            optimizer.step()

Hooks only look. Nothing that they do changes a number or a random state: a watched run ends with
the same weights, bit for bit. The first steps are looked at closely, later ones at intervals; every
step leaves a letter on a tape.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TextIO

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from ravine.diagnosis.constant_baseline import SavedTargetBaseline
from ravine.diagnosis.registry import LOOP_RULES
from ravine.diagnosis.training_loop import rules_loss_curve
from ravine.diagnosis.training_loop.autograd_graph import read_graph
from ravine.diagnosis.training_loop.history import Broken, Cut, Idle, Inputs, Modes, Schedule, Story
from ravine.diagnosis.training_loop.optimizer_monitor import Eye, rates
from ravine.diagnosis.training_loop.parameter_names import Names, parameters
from ravine.diagnosis.training_loop.tensor_stats import (
    batch_excerpt,
    count_duplicate_rows,
    find_tables,
    first_tensor,
    inactive_units,
)
from ravine.errors import InputError
from ravine.finding import Checks, Finding, Report, arrange
from ravine.reporting.findings_text import closing, finding_line, findings_text

EVERY = 200  # steps between looks
FIRST = 8  # steps that are all looked at
TOGETHER = 10  # losses and rates that are read together
GRAPHS = 4  # first steps of which the graph is read
ROW = 2  # looks in a row; rules ask that neighbors agree
TAPE = 400  # letters kept
LOOKS = 64  # kept, beside the first
BEGUN = 16
SUSPICIOUS = 10  # looks in a row at the same inputs, after which their table is searched for
SCALED = 2.0  # a loss that was multiplied by more before backward is a loss with a gradient scaler
PASSES = 40  # backward passes with a scaled loss that are remembered
DUE = 20
WINDOW, BATCHES, EXAMPLES = (
    16,
    4,
    128,
)  # batches kept; how many must leave a unit at 0, with how many rows
LOW, FAINT = 1e-3, 1e-2  # of the highest learning rate
COURSE = 64  # losses after which their course is judged, then at twice as many, and so on
DROPOUTS = (nn.modules.dropout._DropoutNd,)
NORMS = (nn.modules.batchnorm._BatchNorm,)
FAST = (
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.MultiheadAttention,
)  # a hook would turn off a fast path
TRENDS = frozenset(rule.code for rule in rules_loss_curve.ALL)
NEEDS = frozenset(rule.needs for rule in LOOP_RULES)
LETTERS = ("n", "N", "E", "F")  # by recording a graph, by training


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] = (),
    *,
    scheduler: LRScheduler | None = None,
    every: int = EVERY,
    quiet: bool = False,
) -> Watched:
    """Watch the training of a model by one or more torch optimizers; without one, each told loss
    counts as a step.

    `scheduler` is found by itself if it was made before. After the first steps, two in `every` are
    looked at closely. Findings go to stderr when they are found, and together at the end, unless
    `quiet`.

    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with watch(model, optimizer, quiet=True) as watched:
    ...     for _ in range(4):  # zero_grad is missing
    ...         watched.loss(model(torch.ones(3, 2)).square().mean()).backward()
    ...         optimizer.step()
    >>> [f.code for f in watched.findings()]
    ['RVN-L01']
    """
    several = isinstance(optimizer, Iterable)
    optimizers = (
        tuple(optimizer) if several else (optimizer,)
    )  # one that is no optimizer is named below
    if not isinstance(model, nn.Module):
        raise InputError(
            f"the model is a {type(model).__name__}",
            why="only a torch.nn.Module can be watched",
            do="give the module whose parameters are trained",
        )
    for one in optimizers:
        if not isinstance(one, Optimizer):
            raise InputError(
                f"the optimizer is a {type(one).__name__}",
                why="only a torch.optim.Optimizer has hooks",
                do="give the torch optimizer itself, or none",
            )
    if every < 10:
        raise InputError(
            f"every is {every}",
            why="two steps in so many are looked at closely",
            do="use 10 or more",
        )
    return Watched(model, optimizers, scheduler, every, None if quiet else sys.stderr)


class Watched:
    """A loop that is being watched: `loss` in every step; `findings` and `report` at any time."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[Optimizer, ...],
        scheduler: LRScheduler | None,
        every: int,
        out: TextIO | None,
    ):
        self.model, self.optimizers, self.every, self.out = model, optimizers, every, out
        self.story = Story(optimizers=max(1, len(optimizers)))
        self._within = getattr(model, "_orig_mod", model)  # of a compiled model, the model
        self._names = Names(self._within, optimizers)
        self._places = {id(o): i for i, o in enumerate(optimizers)}
        self._eyes = [Eye(i, o) for i, o in enumerate(optimizers)] or [Eye(0, None)]
        self._close = True  # the next step is looked at
        self._tape: deque[str] = deque(maxlen=TAPE)
        self._schedulers: list[tuple[LRScheduler, int]] = []  # with their count at the start
        self._given = scheduler
        self._handles: list[Any] = []
        self._hookable = False
        self._hearing: Any = None  # the hook on the model itself
        self._module_hooks: list[Any] = []
        self._found: list[Finding] = []
        self._failed: dict[str, None] = {}
        self._reached: set[str] = set()
        self._ran_ever: set[int] = set()  # modules, by id
        self._recorded: list[nn.Module] = []  # those that ran first with a graph
        self._entered = False
        self._dropped: dict[Any, Any] = {}
        self._makers: dict[Any, str] = {}  # operations that ended a module's forward pass
        self._sensitive: list[tuple[str, nn.Module]] = []
        self._twins: dict[str, bool] = {}
        self._dark: dict[str, deque[tuple[int, Tensor]]] = {}
        self._dark_first: dict[str, int] = {}
        self._gated = False  # the gates are hooked, for this step
        self._made: dict[str, list[Tensor]] = {}  # what each module gave last, in this graph
        self._links: dict[str, tuple[int, int]] = {}  # calls on its own output, cut off and not
        self._graph_read = -1
        self._bad_inputs = False
        self._noted = False  # a forward pass without a graph, in training mode
        self._rates_read = 0
        self._evaluating = 0  # steps in evaluation mode
        self._hunting = False
        self._bad_module = ""
        self._pending: Broken | None = None
        self._values: list[Tensor] = []  # losses on an accelerator, read together
        self._told = 0  # losses in this step
        self._scale: float | None = None  # the gradient that the last told loss got
        self._scaled: deque[bool] = deque(
            maxlen=PASSES
        )  # whether gradients of scaled losses were finite
        self._scaler = False
        self._due = DUE
        self._constant = SavedTargetBaseline()
        self._input: Tensor | None = None  # an excerpt of the first one
        self._tables: list[Any] = []
        self._next_told = COURSE
        self._first_loss: float | None = None
        self._highest = -math.inf
        self._last = math.nan

    def __enter__(self) -> Watched:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Watched:
        """Begin to watch; `with` does it too."""
        self._names.read()
        self._sensitive = [
            (n or type(m).__name__, m) for n, m in self._within.named_modules() if _sensitive(m)
        ]
        self.story.opaque = next(
            (n or "the model" for n, m in self.model.named_modules() if _compiled(m)), ""
        )
        self._find_schedulers()
        if self.optimizers:
            self._handles += [
                register_optimizer_step_pre_hook(self._safely(self._before_step)),
                register_optimizer_step_post_hook(self._safely(self._after_step)),
            ]
        compiled = (
            getattr(self.model, "_compiled_call_impl", None) is not None
        )  # in place, with its hooks
        self._hookable = not compiled and not isinstance(
            self.model, (*FAST, torch.jit.ScriptModule)
        )
        self._listen()
        self._hook_modules(fast=False)
        for eye in self._eyes:
            held = (
                parameters(eye.optimizer)
                if eye.optimizer is not None
                else list(self.model.parameters())
            )
            eye.choose(held)
            eye.guard(held)
            self._attend(eye)
        return self

    def loss(self, value: Any) -> Any:
        """Tell the loss of this step, best as the tensor before `backward`; it comes back as it
        is.
        """
        if is_compiling():
            return value
        try:
            self._tell(value)
        except Exception as error:  # watching must not stop the loop
            self._broke(error)
        return value

    def stop(self) -> None:
        """Stop watching, and say what was found."""
        self._hookable = False
        self._listen()
        for handle in [
            *self._handles,
            *self._module_hooks,
            *(h for eye in self._eyes for h in eye.handles),
        ]:
            handle.remove()
        self._handles, self._module_hooks = [], []
        for eye in self._eyes:
            eye.handles, eye.watched, eye.left = [], None, []
            eye.forget()
        self._made, self._links, self._dropped, self._tables, self._input = {}, {}, {}, [], None
        self._makers = {}
        self._safely(self._read_values)()
        if self._pending is not None:
            self.story.broken, self._pending = self._pending, None
        self.story.ended = True
        self._judge()
        if self.out is not None:
            report = self.report()
            color = self.out.isatty() and not os.environ.get("NO_COLOR")
            print(
                findings_text(report, color=color)
                if report.findings
                else f"ravine: {closing(report)}",
                file=self.out,
            )

    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, most important first; what a sure finding accounts for is a note
        beside it.
        """
        sure = [
            f for f in self._found if f.confidence in ("exact", "high") and f.severity != "note"
        ]
        known = {code for f in sure for code in f.explains}
        if any(f.code not in TRENDS for f in sure):
            known |= TRENDS  # what the losses did is then no news
        return arrange(replace(f, severity="note") if f.code in known else f for f in self._found)

    def report(self) -> Report:
        """The findings so far, and how each check went."""
        found = {f.code for f in self._found}
        rest = [
            rule for rule in LOOP_RULES if rule.code not in found and rule.code not in self._failed
        ]
        has = {rule.code: self.story.has(rule.needs) for rule in rest}
        checks = Checks(
            passed=tuple(code for code, was in has.items() if was),
            not_applicable=tuple(code for code, was in has.items() if was is None),
            not_measured=tuple(code for code, was in has.items() if was is False),
            failed=tuple(self._failed),
        )
        return Report(checks=checks, findings=self.findings())

    # Forward

    def _listen(self) -> None:
        """See the model's calls: always where the mode matters to it, else in steps that are looked
        at. The quick way of a module without hooks saves microseconds at every call."""
        wanted = self._hookable and (self._close or bool(self._sensitive))
        if wanted and self._hearing is None:
            seen = self._safely(self._before_forward)
            self._hearing = self.model.register_forward_pre_hook(seen, with_kwargs=True)
        elif self._hearing is not None and not wanted:
            self._hearing.remove()
            self._hearing = None

    def _before_forward(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        recording, training = torch.is_grad_enabled(), module.training
        self._tape.append(LETTERS[2 * recording + training])
        if not (recording and training):
            self._noted |= training
            return
        if not self._close:
            return
        given = first_tensor((*inputs, *named.values()))
        if given is not None:
            self._read_inputs(given)
        if self._hunting or self.story.steps < ROW:
            self._hook_modules(fast=True)
        if not self._gated:
            self._gated = True
            self._hook_gates()

    def _enter(self, module: nn.Module, *_: Any) -> None:
        """A module runs that stands for the model, which is not called as a whole."""
        if torch.is_grad_enabled():
            self._tape.append("F" if module.training else "E")

    def _read_inputs(self, given: Tensor) -> None:
        """Facts on the first input of the model; where it has always been the same, the table that
        it comes from.
        """
        story, eye = self.story, self._eyes[0]
        # a sum is the quickest look at all numbers; one that is not finite may also be too large
        if given.is_floating_point() and not math.isfinite(float(given.detach().sum())):
            if not bool(torch.isfinite(given.detach()).all()):
                self._bad_inputs = True
                return
        old, some = story.inputs, batch_excerpt(given)
        if old.looks and eye.passes:
            return  # another batch of the same step
        if self._input is None:
            self._input = some
        same = (
            old.same == old.looks
            and self._input.shape == some.shape
            and bool(torch.equal(self._input, some))
        )
        larger = old.larger
        # Whoever trains on all that there is keeps it at hand from look to look; a batch that is
        # taken from a larger table at every step is gone at the next one.
        if same and larger >= 0 and old.looks <= SUSPICIOUS + 1:
            if any(seen() is not None for seen in self._tables):
                larger = -1
            elif old.looks == SUSPICIOUS:
                kept, larger = find_tables(given, gc.get_objects())
                self._tables = [weakref.ref(x) for x in (*kept, given)]
            else:
                self._tables = [weakref.ref(given)]
        numbers = given.is_floating_point() and given.numel() > 1
        spread, mean = (float(v) for v in torch.std_mean(some.float())) if numbers else (0.0, 0.0)
        spreads = (
            (*old.spreads, (eye.steps, spread))
            if numbers and not given.requires_grad
            else old.spreads
        )
        if len(spreads) > LOOKS:
            spreads = spreads[: LOOKS // 2] + spreads[LOOKS // 2 :: 2]
        story.inputs = Inputs(
            looks=old.looks + 1,
            same=old.same + same,
            rows=len(given),
            larger=larger,
            first=eye.steps if not old.looks else old.first,
            spreads=spreads,
            mean=mean,
            spread=spread,
        )

    def _hook_modules(self, *, fast: bool) -> None:
        """For one step: which modules run, what dropout does to the graph, who is cut off from its
        own past, and where numbers stop being finite. `fast` modules have a quick way in
        evaluation, which a hook would close.
        """
        if self.story.opaque or (self._module_hooks and not fast):
            return
        quick = [
            m for m in self.model.modules() if isinstance(m, FAST) and not (fast and m.training)
        ]
        inside = {id(inner) for m in quick for inner in m.modules()}
        for handle in self._module_hooks:
            handle.remove()
        self._module_hooks = []
        for name, module in self.model.named_modules():
            if name and id(module) not in inside and not isinstance(module, torch.jit.ScriptModule):
                seen = self._safely(
                    lambda m, given, made, name=name: self._ran(name, m, given, made)
                )
                self._module_hooks.append(module.register_forward_hook(seen))

    def _ran(self, name: str, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        self._ran_ever.add(id(module))
        if not torch.is_grad_enabled():
            return
        if self.story.steps == 0 and not self._entered:
            self._recorded.append(module)
        self._link(name, given, made)
        if not isinstance(made, Tensor):
            return
        if made.grad_fn is not None:
            self._makers.setdefault(made.grad_fn, name)
        source = given[0].grad_fn if given and isinstance(given[0], Tensor) else None
        if isinstance(module, DROPOUTS) and made.grad_fn is not None and made.grad_fn is not source:
            self._dropped[made.grad_fn] = source
        if self._hunting and not self._bad_module and made.is_floating_point():
            if not any(True for _ in module.children()) and not bool(torch.isfinite(made).all()):
                self._bad_module = name

    def _link(self, name: str, given: tuple[Any, ...], made: Any) -> None:
        """Whether a module is called on what it gave before, and with what gradient."""
        for x in _tensors(given):
            for y in self._made.get(name, ()):
                if x.data_ptr() == y.data_ptr() and x.shape == y.shape and y.requires_grad:
                    cut, whole = self._links.get(name, (0, 0))
                    self._links[name] = (cut + (not x.requires_grad), whole + x.requires_grad)
        self._made[name] = list(
            _tensors((made,))
        )  # kept, so that its place in memory is not another's

    def _hook_gates(self) -> None:
        """For one step: which units of rectified layers no example activates."""
        gates = {} if self.story.graph is None or self.story.opaque else self.story.graph.rectified
        for name, by in gates.items():
            module = self._names.owners.get(by)
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, *NORMS)):
                last = isinstance(module, nn.Linear)
                seen = self._safely(
                    lambda m, given, made, name=name, last=last: self._lit(name, made, last)
                )
                self._module_hooks.append(module.register_forward_hook(seen))

    def _lit(self, name: str, made: Tensor, last: bool) -> None:
        if torch.is_grad_enabled():  # not what is validated between
            units, rows = inactive_units(made, last=last)
            self._dark.setdefault(name, deque(maxlen=WINDOW)).append((rows, units))
            self._dark_first.setdefault(name, int(units.sum()))

    # The loss

    def _tell(self, value: Any) -> None:
        self._tape.append("L")
        if self._close:
            self._told += 1
            if isinstance(value, Tensor) and value.numel() == 1:
                self._read_loss(value)
        if not isinstance(value, Tensor):
            self._number(float(value))
        elif value.is_cpu:
            self._number(
                value.item() if value.numel() == 1 else float(value.detach().double().mean())
            )
        else:  # read together: one at a time, the loop would wait for the device
            self._values.append(value.detach())
            if len(self._values) >= TOGETHER or self._close:
                self._read_values()
        if not self.optimizers:
            self._end_step(self._eyes[0], None)
        elif self._due <= 0:
            self._due = DUE
            self._judge()

    def _read_loss(self, value: Tensor) -> None:
        story = self.story
        if value.grad_fn is None:
            leaf = value.requires_grad and not isinstance(value, nn.Parameter)
            story.cut = "leaf" if leaf else "none"
            return
        story.cut = ""
        self._scale = None
        value.register_hook(self._safely(self._scaled_by))
        kind = self._constant.add(value)
        story.kind = kind if story.told.count == 0 or story.kind == kind else ""
        if kind:
            story.constant, story.spread = self._constant.loss, self._constant.standard_error
        step = self._eyes[0].steps
        if self._graph_read != story.steps and (step < GRAPHS or step % self.every == 0):
            self._graph_read = story.steps
            story.graph = read_graph(value, self._names.names, self._dropped, self._makers)
            if story.graph is not None:
                story.reached = story.reached | story.graph.weights
                self._read_cuts()
                story.flipped = _flipped(value) and self._all_held(story.graph.weights)
        self._dropped.clear()  # holds a part of the graph: not beyond the step
        self._makers.clear()

    def _scaled_by(self, grad: Tensor) -> None:
        self._scale = float(grad.detach())

    def _all_held(self, names: frozenset[str]) -> bool:
        """Whether the only optimizer holds all parameters of a loss."""
        held = {id(p) for o in self.optimizers for p in parameters(o)}
        known = self._names.parameters
        return (
            self._names.alone
            and bool(held)
            and all(n in known and id(known[n]) in held for n in names)
        )

    def _read_cuts(self) -> None:
        graph = self.story.graph
        if graph is None:
            return
        uses = {
            node.weight: graph.consumers[i] for i, node in enumerate(graph.nodes) if node.weight
        }
        found = []
        for name, (cut, whole) in self._links.items():
            used = max(
                (n for weight, n in uses.items() if weight.startswith(f"{name}.")), default=0
            )
            if cut >= 2 and not whole and used:
                found.append(Cut(where=name, cut=cut, used=used))
        self.story.cuts = tuple(found)

    def _read_values(self) -> None:
        values, self._values = self._values, []
        if values:
            for value in torch.stack([v.double().mean() for v in values if v.numel()]).tolist():
                self._number(value)

    def _number(self, value: float) -> None:
        story = self.story
        if len(story.losses) < FIRST:
            story.losses.append(value)
        if math.isfinite(value):
            story.told.add(value)
            if self._first_loss is None:
                self._first_loss = value
            if value > self._highest:
                self._highest = value
            self._last = value
            if self._pending is None:
                return
        if story.broken is not None:
            return
        if self._pending is None:
            bad = next(
                (
                    n
                    for n, p in self._names.parameters.items()
                    if not bool(torch.isfinite(p.detach()).all())
                ),
                "",
            )
            first = value if self._first_loss is None else self._first_loss
            self._pending = Broken(
                step=story.steps,
                what="loss",
                where=bad,
                inputs=self._bad_inputs,
                first=first,
                highest=max(self._highest, first),
                last=self._last,
                lr=story.lr,
            )
            self._hunting = self._close = not bad
            if self._hunting:
                self._listen()
                return  # the next forward pass shows in which module
        broken = self._pending
        self.story.broken = Broken(
            **{
                **vars(broken),
                "where": broken.where or self._bad_module or "loss",
                "inputs": broken.inputs or self._bad_inputs,
            }
        )
        self._pending, self._hunting = None, False
        self._judge()

    # Backward and step

    def _attend(self, eye: Eye) -> None:
        """If the next step is looked at: see the gradients that come, and remember what the last
        step left behind.
        """
        for handle in eye.handles:
            handle.remove()
        eye.handles = []
        if eye.watched is None or not self._looking(eye):
            return

        def incoming(grad: Tensor) -> None:
            if not grad.is_sparse:
                eye.incoming = grad.detach().clone()

        eye.handles = [
            eye.watched.register_hook(self._safely(incoming)),
            eye.watched.register_post_accumulate_grad_hook(
                self._safely(lambda p: self._arrived(eye, p))
            ),
        ]
        if eye.watched.grad is not None and not eye.watched.grad.is_sparse:
            eye.before = eye.watched.grad.detach().clone()

    def _arrived(self, eye: Eye, parameter: nn.Parameter) -> None:
        """A gradient was added to the parameter that this optimizer's eye is on."""
        if not self._tape or self._tape[-1] != "B":
            self._tape.append("B")
        self._made, self._links = {}, {}
        eye.arrive(parameter)
        if (
            eye.arrived is None
            or self._scale is None
            or not (self._scaler or abs(self._scale) >= SCALED)
        ):
            return
        self._scaler, finite = True, math.isfinite(eye.arrived)
        if (
            finite or self._scaled or abs(self._scale) <= 1
        ):  # at first, a scaler looks for its scale from above
            self._scaled.append(finite)
            self._due -= not finite

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        place = self._places.get(id(optimizer))
        if place is None:
            self._tape.append("s")
            self._names.elsewhere(optimizer)
            return
        eye = self._eyes[place]
        if self.story.steps == 0:
            self._find_schedulers()
            self._note_schedulers(first=True)
        if eye.stamps and (eye.left or not eye.untouched()):
            self.story.written = eye.compare(self.story.written, self._names.names)
        if self._close and self._looking(eye):
            skip, scale = _by_scaler(optimizer)
            if not skip:
                eye.look_before(parameters(optimizer), self._names.names, scale)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        place = self._places.get(id(optimizer))
        if place is not None:
            self._tape.append("S")
            self._end_step(self._eyes[place], optimizer)
        for eye in self._eyes:
            if eye.optimizer is not optimizer and eye.stamps and eye.shares(optimizer):
                eye.leave(closely=bool(eye.left))

    def _end_step(self, eye: Eye, optimizer: Optimizer | None) -> None:
        story = self.story
        looked = self._close and self._looking(eye)
        if looked:
            self._look_after(eye, optimizer)
        if self._module_hooks:
            for hook in self._module_hooks:
                hook.remove()
            self._module_hooks = []
        if story.steps == 0:
            self._find_entrance()
        eye.steps += 1
        story.steps += 1
        if optimizer is not None and (looked or eye.steps % TOGETHER == 0):
            self._rates(optimizer)
        changed = bool(self._sensitive) and self._note_mode()
        noted, self._noted = self._noted, False
        following = self._looking(eye)
        if self._close or following:
            self._gated, self._made, self._links, self._told = False, {}, {}, 0
            eye.forget()
            self._attend(eye)
            self._close = self._hunting or any(self._looking(e) for e in self._eyes)
            self._listen()
        if optimizer is not None:
            eye.leave(closely=following)
        # of looks in a row, the last one judges
        if (
            (looked and not following)
            or eye.steps <= FIRST
            or changed
            or noted
            or self._rate_gone()
        ):
            self._judge()
        elif story.told.count >= self._next_told:
            self._judge()

    def _look_after(self, eye: Eye, optimizer: Optimizer | None) -> None:
        story = self.story
        self._names.read()
        held = list(self.model.parameters()) if optimizer is None else parameters(optimizer)
        skip, _ = _by_scaler(optimizer)
        if skip:
            return  # a fused step that a gradient scaler told to do nothing
        look = eye.look_after(
            held,
            self._names.names,
            idle=self._idle(),
            twins=self._equal(eye),
            scale=self._scale,
            told=self._told,
        )
        story.looks.append(look)
        del story.looks[
            BEGUN : max(BEGUN, len(story.looks) - LOOKS)
        ]  # the first stay: was it so from the start?
        if story.broken is None and self._pending is None and math.isfinite(self._last):
            where = next((n for n, norm in look.norms.items() if not math.isfinite(norm)), None)
            if where is not None:
                story.broken = Broken(
                    step=eye.steps,
                    what="gradient",
                    where=where,
                    inputs=self._bad_inputs,
                    first=self._first_loss or 0.0,
                    highest=self._highest,
                    last=self._last,
                    lr=story.lr,
                )
        if (
            not eye.came and eye.norms and eye.steps < FIRST
        ):  # other parameters do get gradients: look at one of those
            eye.choose([p for p in held if p.grad is not None])

    def _idle(self) -> dict[str, Idle]:
        """Of rectified layers: the units that no example of the last batches activated, once there
        are enough.
        """
        found = {}
        for name, kept in self._dark.items():
            both, seen = kept[-1][1], 0
            for i, (rows, units) in enumerate(reversed(kept)):
                both, seen = both & units, seen + rows
                if i + 1 >= BATCHES and seen >= EXAMPLES:
                    found[name] = Idle(
                        count=int(both.sum()),
                        units=len(both),
                        rows=seen,
                        first=self._dark_first[name],
                    )
                    break
        return found

    def _equal(self, eye: Eye) -> dict[str, tuple[int, int]]:
        """Matrices whose rows were equal to others at the start and are still, in weights and in
        gradient.
        """
        if self.story.steps >= 2 * FIRST:
            return {}
        found = {}
        for name, p in self._names.parameters.items():
            skip = (
                p.dim() < 2
                or len(p) < 2
                or not p.requires_grad
                or isinstance(self._names.owners.get(name), nn.Embedding | nn.EmbeddingBag)
            )
            if skip or not self._twins.get(name, eye.steps == 0):
                continue
            if count_duplicate_rows(p.detach()) == 0:
                self._twins[name] = False
                continue
            rows = [p.detach().flatten(1)]
            bias = self._names.parameters.get(name.removesuffix("weight") + "bias")
            for q in (p, bias):
                if q is not None and q.grad is not None and len(q) == len(p):
                    rows.append(
                        q.grad.detach().flatten(1) if q.dim() > 1 else q.grad.detach()[:, None]
                    )
            if bias is not None and bias.dim() == 1 and len(bias) == len(p):
                rows.append(bias.detach()[:, None])
            same = count_duplicate_rows(torch.cat(rows, dim=1))
            self._twins[name] = same > 0
            if same:
                found[name] = (same, len(p))
        return found

    # Modes, rates, schedules

    def _find_entrance(self) -> None:
        """If the model is not called as a whole in the first step: a module that is, for the order
        of things.
        """
        called, self._recorded, self._entered = self._recorded, [], True
        if not called or any(letter in self._tape for letter in "FENn"):
            return
        entrance = next((m for m in called if _sensitive(m)), called[0])
        self._handles.append(entrance.register_forward_pre_hook(self._safely(self._enter)))

    def _rates(self, optimizer: Optimizer) -> None:
        """The learning rate now; the steps since it was last read count as made at it if it was as
        low then.
        """
        story, now = self.story, rates(optimizer)
        if not now:
            return
        since, self._rates_read = story.steps - self._rates_read, story.steps
        before, story.lr = story.lr, max(now)
        story.highest_lr = max(story.highest_lr, story.lr)
        low, faint = LOW * story.highest_lr, FAINT * story.highest_lr
        story.lr_zero = story.lr_zero + (since if before == 0 else 1) if story.lr == 0 else 0
        story.lr_low = story.lr_low + (since if before < low else 1) if story.lr < low else 0
        story.lr_faint = (
            story.lr_faint + (since if before < faint else 1) if story.lr < faint else 0
        )

    def _rate_gone(self) -> bool:
        """Whether the rate has been next to nothing for so long that the rules should hear of
        it.
        """
        story = self.story
        return self._rates_read == story.steps and (
            story.lr_zero >= TOGETHER or story.lr_low >= story.steps / 2 > FIRST
        )

    def _note_mode(self) -> bool:
        """Whether the step was made in evaluation mode; True when that became certain just now."""
        if self._within.training:
            if self._evaluating or not self.story.modes.was_training:
                self._evaluating = 0
                self.story.modes = Modes(
                    sensitive=len(self._sensitive),
                    was_training=True,
                    names=tuple(n for n, _ in self._sensitive),
                )
            return False
        if self._evaluating > ROW and not self._close:
            self._evaluating += 1
            return False
        tape = "".join(self._tape)
        partly = any(not p.requires_grad for p in self.model.parameters())
        off = [
            n
            for n, m in self._sensitive
            if not m.training
            and (
                any(p.requires_grad for p in m.parameters()) or not (partly or isinstance(m, NORMS))
            )
        ]
        self._evaluating = self._evaluating + 1 if tape.rfind("E") > tape.rfind("F") else 0
        self.story.modes = Modes(
            sensitive=len(self._sensitive),
            in_evaluation=len(off),
            names=tuple(off),
            steps=self._evaluating,
            was_training=self.story.modes.was_training,
        )
        return self._evaluating == ROW

    def _find_schedulers(self) -> None:
        """The schedules of the watched optimizers: the one that was given, and those that refer to
        an optimizer.
        """
        if self._schedulers:
            return
        found = [self._given] if self._given is not None else []
        for optimizer in self.optimizers if self._given is None else ():
            if any(
                "initial_lr" in group for group in optimizer.param_groups
            ):  # a schedule writes that
                referring = gc.get_referrers(optimizer)
                around = [x for r in referring if type(r) is dict for x in gc.get_referrers(r)]
                found += [
                    x
                    for x in (*referring, *around)
                    if isinstance(x, LRScheduler) and x.optimizer is optimizer
                ]
        inner = {id(x) for s in found for x in getattr(s, "_schedulers", ())}
        for s in {id(s): s for s in found}.values():
            if id(s) not in inner:
                self._schedulers.append((s, s.last_epoch))

    def _note_schedulers(self, *, first: bool = False) -> None:
        early = {i for i, s in enumerate(self.story.schedules) if s.before}
        self.story.schedules = tuple(
            Schedule(
                kind=type(s).__name__,
                steps=s.last_epoch - at_start,
                before=i in early or first and s.last_epoch > at_start,
                length=int(s.T_max) if isinstance(s, CosineAnnealingLR) else None,
            )
            for i, (s, at_start) in enumerate(self._schedulers)
        )

    # Judging

    def _looking(self, eye: Eye) -> bool:
        step = eye.steps
        power = 1 << (step.bit_length() - 1) if step else 0  # the greatest power of two up to here
        return step < FIRST or step % self.every < ROW or (step < self.every and step - power < ROW)

    def _judge(self) -> None:
        story = self.story
        story.tape = "".join(self._tape)
        self._note_schedulers()
        known = self._names.parameters
        self._reached.update(
            n for n, p in known.items() if n not in self._reached and p.grad is not None
        )
        still = {i for eye in self._eyes for i in eye.still}
        story.weights = self._names.weights(self._reached, self._ran_ever, still)
        story.alone = self._names.alone
        if story.ended:
            story.moved = max(eye.moved() for eye in self._eyes)
        story.lost = (sum(not finite for finite in self._scaled), len(self._scaled))
        due = story.ended or story.told.count >= self._next_told
        while self._next_told <= story.told.count:
            self._next_told *= 2
        found = {f.code for f in self._found} | (set() if due else TRENDS)
        has = {need: story.has(need) for need in NEEDS}
        for rule in LOOP_RULES:
            if rule.code in found or rule.code in self._failed or not has[rule.needs]:
                continue
            try:
                new = rule.judge(story)
            except Exception:  # a rule that breaks must not break the loop; the report names it
                self._failed[rule.code] = None
                continue
            self._found += new[:1]
            for finding in new[:1]:
                if self.out is not None:
                    print(f"ravine: {finding_line(finding, width=72)}", file=self.out)

    def _broke(self, error: Exception) -> None:
        if len(self._failed) < LOOKS:
            self._failed[f"watching: {type(error).__name__}, {str(error)[:80]}"] = None

    def _safely(self, look: Callable[..., None]) -> Callable[..., None]:
        """A hook that cannot stop the loop: if it breaks, the report says that watching failed."""

        def hook(*given: Any) -> None:
            if is_compiling():  # torch.compile would make the hook a part of what it compiles
                return
            try:
                look(*given)
            except Exception as error:
                self._broke(error)

        return hook


def _sensitive(module: nn.Module) -> bool:
    """Whether a module behaves differently in training."""
    return isinstance(module, NORMS) or (isinstance(module, DROPOUTS) and module.p > 0)


def _compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _tensors(given: Iterable[Any]) -> Iterable[Tensor]:
    """The tensors of arguments or results, within tuples too."""
    for x in given:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, tuple | list):
            yield from (y for y in x if isinstance(y, Tensor))


def _by_scaler(optimizer: Optimizer | None) -> tuple[bool, float]:
    """Whether a gradient scaler tells a fused step to do nothing, and by what that step divides the
    gradients.
    """
    found, scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
    return found is not None and float(found) > 0, 1.0 if scale is None else float(scale)


def _flipped(loss: Tensor) -> bool:
    """Whether a loss that cannot be below 0 is below 0 with nothing but a sign before it."""
    made: Any = loss.grad_fn
    if (
        made is None
        or float(loss.detach()) >= 0
        or made.name().partition("Backward")[0] not in ("Neg", "Mul")
    ):
        return False
    given = [n for n, _ in made.next_functions if n is not None]
    if len(given) != 1:
        return False
    known = given[0].name().partition("Backward")[0]
    if known == "NllLoss" and not given[0].next_functions[0][0].name().startswith("LogSoftmax"):
        return False
    return known in (
        "NllLoss",
        "MseLoss",
        "BinaryCrossEntropy",
        "BinaryCrossEntropyWithLogits",
        "SmoothL1Loss",
    )
