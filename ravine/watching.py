"""Watching a training loop that someone else wrote: what is wrong with it, said when it shows.

    with ravine.watch(model, optimizer) as watched:
        for x, y in batches:
            optimizer.zero_grad()
            loss = watched.loss(criterion(model(x), y))
            loss.backward()
            optimizer.step()

Hooks only look. Nothing that they do changes a number or a random state: a watched run ends with the same weights, bit
for bit. The first steps are looked at closely, later ones at intervals; every step leaves a letter on a tape.
"""

from __future__ import annotations

import gc
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ravine.diagnosis.graph import read_graph
from ravine.diagnosis.seeing import dark, fresh, hidden_parameters, twins
from ravine.diagnosis.story import Broken, Idle, Look, Modes, Schedule, Story, Weight
from ravine.diagnosis.watched import ALL
from ravine.errors import InputError
from ravine.finding import Checks, Finding, Report, arrange
from ravine.reporting.findings import closing, finding_line, findings_text

EVERY = 200  # steps between looks
FIRST = 8  # steps that are all looked at
TOGETHER = 10  # losses and rates that are read together
GRAPHS = 4  # first steps of which the graph is read
ROW = 2  # looks in a row; rules ask that neighbors agree
TAPE = 400  # letters kept
LOOKS = 64  # kept
SAMPLE = 4096  # numbers of a parameter that are compared before and after a step
SAMPLED = 8  # parameters of which they are
WINDOW, BATCHES, EXAMPLES = 16, 4, 128  # batches kept; how many must leave a unit at 0, with how many rows
LOW = 1e-3  # of the highest learning rate
DROPOUTS = (nn.modules.dropout._DropoutNd,)
NORMS = (nn.modules.batchnorm._BatchNorm,)
FAST = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)  # a hook would turn off a fast path


def watch(model: nn.Module, optimizer: Optimizer | Iterable[Optimizer] = (), *, scheduler: LRScheduler | None = None,
          every: int = EVERY, quiet: bool = False) -> Watched:  # fmt: skip
    """Watch the training of a model by one or more torch optimizers; without one, each told loss counts as a step.

    `scheduler` is found by itself if it was made before. After the first steps, two in `every` are looked at closely.
    Findings go to stderr when they are found, and together at the end, unless `quiet`.

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
    optimizers = tuple(optimizer) if several else (optimizer,)  # one that is no optimizer is named below
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}", why="only a torch.nn.Module can be watched",
                         do="give the module whose parameters are trained")  # fmt: skip
    for one in optimizers:
        if not isinstance(one, Optimizer):
            raise InputError(f"the optimizer is a {type(one).__name__}", why="only a torch.optim.Optimizer has hooks",
                             do="give the torch optimizer itself, or none")  # fmt: skip
    if every < 10:
        raise InputError(f"every is {every}", why="two steps in so many are looked at closely", do="use 10 or more")
    return Watched(model, optimizers, scheduler, every, None if quiet else sys.stderr)


class Watched:
    """A loop that is being watched: `loss` in every step; `findings` and `report` at any time."""

    def __init__(self, model: nn.Module, optimizers: tuple[Optimizer, ...], scheduler: LRScheduler | None, every: int,
                 out: TextIO | None):  # fmt: skip
        self.model, self.optimizers, self.every, self.out = model, optimizers, every, out
        self.story = Story(optimizers=max(1, len(optimizers)))
        self._places = {id(o): i for i, o in enumerate(optimizers)}
        self._eyes = [_Eye(i) for i in range(max(1, len(optimizers)))]
        self._schedulers: list[tuple[LRScheduler, int]] = []  # with their count at the start
        self._given = scheduler
        self._handles: list[Any] = []
        self._module_hooks: list[Any] = []
        self._found: list[Finding] = []
        self._failed: list[str] = []
        self._names: dict[int, str] = {}
        self._params: dict[str, nn.Parameter] = {}
        self._owners: dict[str, nn.Module] = {}
        self._hidden: set[str] = set()
        self._foreign: set[str] = set()  # held by a watched optimizer, not by the model
        self._stepped_elsewhere: set[int] = set()
        self._reached: set[str] = set()
        self._fresh: dict[str, bool] = {}
        self._called: set[int] = set()
        self._forwards = 0
        self._dropped: dict[Any, Any] = {}
        self._sensitive: list[tuple[str, nn.Module]] = []
        self._twins: dict[str, bool] = {}
        self._dark: dict[str, deque[tuple[int, Tensor]]] = {}
        self._dark_first: dict[str, int] = {}
        self._gated = False  # the gates are hooked, for this step
        self._graph_read = -1
        self._bad_inputs = False
        self._noted = False  # a forward pass without a graph, in training mode
        self._rates_read = 0
        self._hunting = False
        self._bad_module = ""
        self._pending: Broken | None = None
        self._values: list[Tensor] = []  # losses on an accelerator, read together
        self._first_loss: float | None = None
        self._highest = -math.inf
        self._last = math.nan

    def __enter__(self) -> Watched:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Watched:
        """Begin to watch; `with` does it too."""
        self._name()
        self._sensitive = [(n or type(m).__name__, m) for n, m in self.model.named_modules() if _sensitive(m)]
        self._find_schedulers()
        if self.optimizers:
            self._handles += [register_optimizer_step_pre_hook(self._safely(self._before_step)),
                              register_optimizer_step_post_hook(self._safely(self._after_step))]  # fmt: skip
        if not isinstance(self.model, FAST) and not isinstance(self.model, torch.jit.ScriptModule):
            self._handles.append(self.model.register_forward_pre_hook(self._safely(self._before_forward)))
        for eye, optimizer in zip(self._eyes, self.optimizers, strict=False):
            self._choose(eye, _parameters(optimizer))
        if not self.optimizers:
            self._choose(self._eyes[0], list(self.model.parameters()))
        return self

    def loss(self, value: Any) -> Any:
        """Tell the loss of this step, best as the tensor before `backward`; it comes back as it is."""
        self._safely(self._told)(value)
        return value

    def stop(self) -> None:
        """Stop watching, and say what was found."""
        for handle in [*self._handles, *self._module_hooks, *(h for eye in self._eyes for h in eye.handles)]:
            handle.remove()
        self._handles, self._module_hooks = [], []
        for eye in self._eyes:
            if eye.incoming_handle is not None:
                eye.incoming_handle.remove()
            eye.handles, eye.incoming_handle, eye.watched = [], None, None
        self._safely(self._read_values)()
        if self._pending is not None:
            self.story.broken, self._pending = self._pending, None
        self.story.ended = True
        self._judge()
        if self.out is not None:
            report = self.report()
            color = self.out.isatty() and not os.environ.get("NO_COLOR")
            print(
                findings_text(report, color=color) if report.findings else f"ravine: {closing(report)}", file=self.out
            )

    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, most important first."""
        return arrange(self._found)

    def report(self) -> Report:
        """The findings so far, and how each check went."""
        found = {f.code for f in self._found}
        rest = [rule for rule in ALL if rule.code not in found]
        failed = tuple(dict.fromkeys(self._failed))
        rest = [rule for rule in rest if rule.code not in failed]
        has = {rule.code: self.story.has(rule.needs) for rule in rest}
        checks = Checks(
            passed=tuple(code for code, was in has.items() if was),
            not_applicable=tuple(code for code, was in has.items() if was is None),
            not_measured=tuple(code for code, was in has.items() if was is False),
            failed=failed,
        )
        return Report(checks=checks, findings=self.findings())

    def _before_forward(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        recording = torch.is_grad_enabled()
        self._mark(("F" if module.training else "E") if recording else ("N" if module.training else "n"))
        self._forwards += 1
        self._noted |= module.training and not recording
        if not (recording and module.training):
            return
        if self._hunting or self._forwards <= ROW:
            self._bad_inputs |= any(
                isinstance(x, Tensor) and x.is_floating_point() and not bool(torch.isfinite(x).all()) for x in inputs
            )
        if (self._hunting or self.story.steps < ROW) and not self._module_hooks:
            self._hook_modules()
        if not self._gated and self._looking(self._eyes[0]):
            self._gated = True
            self._hook_gates()

    def _hook_modules(self) -> None:
        """For one step: which modules run, what dropout does to the graph, and where numbers stop being finite."""
        quick = [m for m in self.model.modules() if isinstance(m, FAST) and not m.training]
        inside = {id(inner) for m in quick for inner in m.modules()}
        for name, module in self.model.named_modules():
            if name and id(module) not in inside and not isinstance(module, torch.jit.ScriptModule):
                seen = self._safely(lambda m, given, made, name=name: self._ran(name, m, given, made))
                self._module_hooks.append(module.register_forward_hook(seen))

    def _ran(self, name: str, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        self._called.add(id(module))
        if not isinstance(made, Tensor):
            return
        source = given[0].grad_fn if given and isinstance(given[0], Tensor) else None
        if isinstance(module, DROPOUTS) and made.grad_fn is not None and made.grad_fn is not source:
            self._dropped[made.grad_fn] = source
        if self._hunting and not self._bad_module and made.is_floating_point():
            if not any(True for _ in module.children()) and not bool(torch.isfinite(made).all()):
                self._bad_module = name

    def _told(self, value: Any) -> None:
        self._mark("L")
        if isinstance(value, Tensor):
            self._values.append(value.detach())  # read together: one at a time, the loop would wait for a device
            if self._looking(self._eyes[0]) and value.numel() == 1:
                self._read_loss(value)
        else:
            self._values.append(torch.tensor(float(value), dtype=torch.float64))
        if len(self._values) >= TOGETHER or self.story.steps < FIRST or self._hunting:
            self._read_values()
        if not self.optimizers:
            self._end_step(self._eyes[0], None)

    def _read_loss(self, value: Tensor) -> None:
        story = self.story
        if value.grad_fn is None:
            leaf = value.requires_grad and not isinstance(value, nn.Parameter)
            story.cut = "leaf" if leaf else "none"
            return
        story.cut = ""
        first = self._eyes[0].steps
        if self._graph_read != story.steps and (first < GRAPHS or first % self.every == 0):
            self._graph_read = story.steps
            story.graph = read_graph(value, self._names, self._dropped)
            if story.graph is not None:
                story.reached = story.reached | story.graph.weights
        self._dropped.clear()  # holds a part of the graph: not beyond the step

    def _read_values(self) -> None:
        values, self._values = self._values, []
        if values:
            for value in torch.stack([v.reshape(-1)[0].double() for v in values if v.numel()]).tolist():
                self._number(value)

    def _number(self, value: float) -> None:
        story = self.story
        if len(story.losses) < FIRST:
            story.losses.append(value)
        if math.isfinite(value):
            self._first_loss = value if self._first_loss is None else self._first_loss
            self._highest, self._last = max(self._highest, value), value
            if self._pending is None:
                return
        if story.broken is not None:
            return
        if self._pending is None:
            bad = next((n for n, p in self._params.items() if not bool(torch.isfinite(p.detach()).all())), "")
            first = value if self._first_loss is None else self._first_loss
            self._pending = Broken(step=story.steps, what="loss", where=bad, inputs=self._bad_inputs, first=first,
                                   highest=max(self._highest, first), last=self._last, lr=story.lr)  # fmt: skip
            self._hunting = not bad
            if self._hunting:
                return  # the next forward pass shows in which module
        broken = self._pending
        self.story.broken = Broken(**{**vars(broken), "where": broken.where or self._bad_module or "loss",
                                      "inputs": broken.inputs or self._bad_inputs})  # fmt: skip
        self._pending, self._hunting = None, False
        self._judge()

    def _arrived(self, eye: _Eye, parameter: nn.Parameter) -> None:
        """A gradient was added to the parameter that this optimizer's eye is on."""
        if not self.story.tape.endswith("B"):
            self._mark("B")
        grad, new = parameter.grad, eye.incoming
        eye.incoming = None
        eye.came = True
        if not self._looking(eye) or grad is None or grad.is_sparse:
            return
        eye.arrived = float(grad.norm())
        if new is None:
            return
        eye.fresh = new if eye.fresh is None else eye.fresh + new
        if eye.before is not None:
            eye.expected = eye.before + new if eye.expected is None else eye.expected + new
            eye.stale = bool(torch.equal(grad, eye.expected)) and not bool(torch.equal(grad, eye.fresh))
            eye.kept = float(eye.before.norm()) / max(eye.arrived, 1e-30) if eye.stale else 0.0

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        place = self._places.get(id(optimizer))
        if place is None:
            self._mark("s")
            self._stepped_elsewhere.update(id(p) for p in _parameters(optimizer))
            return
        eye = self._eyes[place]
        if self.story.steps == 0:
            self._note_schedulers(first=True)
        if self._looking(eye):
            self._look_before(eye, _parameters(optimizer))

    def _look_before(self, eye: _Eye, parameters: Sequence[Tensor]) -> None:
        with torch.no_grad():
            eye.norms = self._norms(parameters)
            eye.at_step = _norm(eye.watched)
            eye.samples = [(p, p.detach().flatten()[:SAMPLE].clone(), p.grad.detach().flatten()[:SAMPLE] != 0)
                           for p in parameters[:SAMPLED] if p.grad is not None and not p.grad.is_sparse]  # fmt: skip

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        place = self._places.get(id(optimizer))
        if place is not None:
            self._mark("S")
            self._end_step(self._eyes[place], optimizer)

    def _end_step(self, eye: _Eye, optimizer: Optimizer | None) -> None:
        story = self.story
        looked = self._looking(eye)
        if looked:
            with torch.no_grad():
                self._look_after(eye, optimizer)
        for hook in self._module_hooks:
            hook.remove()
        self._module_hooks, self._gated = [], False
        eye.steps += 1
        story.steps += 1
        if optimizer is not None and (looked or eye.steps % TOGETHER == 0):
            self._rates(optimizer)
        changed = self._note_mode()
        noted, self._noted = self._noted, False
        eye.reset()
        self._attend(eye)
        if len(story.tape) > 2 * TAPE:
            story.tape = story.tape[-TAPE:]
        if looked or changed or noted or self._rate_gone():
            self._judge()

    def _attend(self, eye: _Eye) -> None:
        """If the next step is looked at: see the gradients that come, and remember what the last step left behind."""
        if eye.incoming_handle is not None:
            eye.incoming_handle.remove()
            eye.incoming_handle = None
        if eye.watched is None or not self._looking(eye):
            return

        def incoming(grad: Tensor) -> None:
            if not grad.is_sparse:
                eye.incoming = grad.detach().clone()

        eye.incoming_handle = eye.watched.register_hook(self._safely(incoming))
        if eye.watched.grad is not None and not eye.watched.grad.is_sparse:
            eye.before = eye.watched.grad.detach().clone()

    def _look_after(self, eye: _Eye, optimizer: Optimizer | None) -> None:
        self._name()
        parameters = list(self.model.parameters()) if optimizer is None else _parameters(optimizer)
        if not eye.norms:  # a closure made the gradients within the step, or there is no optimizer
            eye.norms, eye.at_step = self._norms(parameters), _norm(eye.watched)
        self._reached.update(self._names[id(p)] for p in self._params.values() if p.grad is not None)
        group = optimizer.param_groups[0] if optimizer is not None else {}
        same = [(torch.eq(old, p.detach().flatten()[:SAMPLE]) & moved).sum() for p, old, moved in eye.samples]
        with_gradient = sum(int(moved.sum()) for _, _, moved in eye.samples)
        self.story.looks.append(Look(
            step=eye.steps,
            optimizer=eye.place,
            kind=type(optimizer).__name__,
            lrs=_rates(optimizer) or (math.nan,),
            momentum=float(group.get("momentum") or 0.0),
            eps=float(group.get("eps") or 0.0),
            norms=eye.norms,
            arrived=(eye.arrived if eye.arrived is not None else math.nan) if eye.came else None,
            at_step=eye.at_step,
            stale=self._names.get(id(eye.watched), "") if eye.stale else "",
            kept=eye.kept,
            weights=math.sqrt(sum(float(p.detach().norm()) ** 2 for p in parameters)),
            unchanged=sum(int(s) for s in same) / with_gradient if with_gradient else None,
            idle=self._idle(),
            twins=self._equal(eye),
        ))  # fmt: skip
        del self.story.looks[:-LOOKS]
        if (
            not all(math.isfinite(n) for n in eye.norms.values())
            and self.story.broken is None
            and self._pending is None
        ):
            where = next(n for n, norm in eye.norms.items() if not math.isfinite(norm))
            if math.isfinite(self._last):
                self.story.broken = Broken(step=eye.steps, what="gradient", where=where, inputs=self._bad_inputs,
                                           first=self._first_loss or 0.0, highest=self._highest, last=self._last,
                                           lr=self.story.lr)  # fmt: skip
        if not eye.came and eye.norms and eye.steps < FIRST:  # other parameters do get gradients: look at one of those
            self._choose(eye, [p for p in parameters if p.grad is not None])

    def _norms(self, parameters: Sequence[Tensor]) -> dict[str, float]:
        held = [p for p in parameters if p.grad is not None and not p.grad.is_sparse]
        grads = [p.grad.detach() for p in held if p.grad is not None]
        values = torch.stack([torch.linalg.vector_norm(g).float() for g in grads]).tolist() if grads else []
        return {self._names.get(id(p), "?"): v for p, v in zip(held, values, strict=True)}

    def _hook_gates(self) -> None:
        """For one step: which units of rectified layers no example activates."""
        gates = {} if self.story.graph is None else self.story.graph.rectified
        for name, by in gates.items():
            module = self._owners.get(by)
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, *NORMS)):
                last = isinstance(module, nn.Linear)
                seen = self._safely(lambda m, given, made, name=name, last=last: self._lit(name, made, last))
                self._module_hooks.append(module.register_forward_hook(seen))

    def _lit(self, name: str, made: Tensor, last: bool) -> None:
        if torch.is_grad_enabled():  # not what is validated between
            units, rows = dark(made, last=last)
            self._dark.setdefault(name, deque(maxlen=WINDOW)).append((rows, units))
            self._dark_first.setdefault(name, int(units.sum()))

    def _idle(self) -> dict[str, Idle]:
        """Of rectified layers: the units that no example of the last batches activated, once there are enough."""
        found = {}
        for name, kept in self._dark.items():
            both, seen = kept[-1][1], 0
            for i, (rows, units) in enumerate(reversed(kept)):
                both, seen = both & units, seen + rows
                if i + 1 >= BATCHES and seen >= EXAMPLES:
                    found[name] = Idle(count=int(both.sum()), units=len(both), rows=seen, first=self._dark_first[name])
                    break
        return found

    def _equal(self, eye: _Eye) -> dict[str, tuple[int, int]]:
        """Matrices whose rows were equal to others at the start and are still, in weights and in gradient."""
        if self.story.steps >= 2 * FIRST:
            return {}
        found = {}
        for name, p in self._params.items():
            skip = (
                p.dim() < 2
                or len(p) < 2
                or not p.requires_grad
                or isinstance(self._owners.get(name), nn.Embedding | nn.EmbeddingBag)
            )
            if skip or not self._twins.get(name, eye.steps == 0):
                continue
            rows = [p.detach().flatten(1)]
            bias = self._params.get(name.removesuffix("weight") + "bias")
            for q in (p, bias):
                if q is not None and q.grad is not None and len(q) == len(p):
                    rows.append(q.grad.detach().flatten(1) if q.dim() > 1 else q.grad.detach()[:, None])
            if bias is not None and bias.dim() == 1 and len(bias) == len(p):
                rows.append(bias.detach()[:, None])
            same = twins(torch.cat(rows, dim=1))
            self._twins[name] = same > 0
            if same:
                found[name] = (same, len(p))
        return found

    def _name(self) -> None:
        """Names of all parameters: the model's, those in its lists, and what else the optimizers hold."""
        self._params = dict(self.model.named_parameters())
        self._owners = {f"{path}.{name}" if path else name: module for path, module in self.model.named_modules()
                        for name, _ in module.named_parameters(recurse=False)}  # fmt: skip
        self._names = {id(p): n for n, p in self._params.items()}
        hidden = hidden_parameters(self.model)
        self._hidden = set(hidden)
        for n, p in hidden.items():
            self._params[n] = p
            self._names[id(p)] = n
        self._foreign = set()
        for i, optimizer in enumerate(self.optimizers):
            for j, p in enumerate(_parameters(optimizer)):
                if id(p) not in self._names and isinstance(p, nn.Parameter):
                    name = f"optimizer {i} parameter {j}"
                    self._names[id(p)], self._params[name] = name, p
                    self._foreign.add(name)

    def _weights(self) -> tuple[Weight, ...]:
        held = {id(p): i for i, o in enumerate(self.optimizers) for p in _parameters(o)}
        unknown = not self.optimizers  # who steps is not seen, so nothing is known to be left out
        return tuple(Weight(
            name=name,
            shape=tuple(p.shape),
            owner=type(self._owners.get(name)).__name__,
            trainable=p.requires_grad,
            in_model=name not in self._foreign,
            registered=name not in self._hidden,
            optimizer=held.get(id(p), -1 if unknown or id(p) in self._stepped_elsewhere else None),
            reached=name in self._reached,
            called=not self._called or id(self._owners.get(name)) in self._called,
            fresh=self._is_fresh(name, p, held),
        ) for name, p in self._params.items())  # fmt: skip

    def _is_fresh(self, name: str, p: Tensor, held: dict[int, int]) -> bool:
        """Worked out once, and only where it is asked: for what is frozen, in no optimizer, or without a gradient."""
        if p.requires_grad and id(p) in held and name in self._reached:
            return False
        owner = self._owners.get(name)
        if name not in self._fresh:
            self._fresh[name] = owner is not None and fresh(p, owner)
        return self._fresh[name]

    def _rates(self, optimizer: Optimizer) -> None:
        """The learning rate now; the steps since it was last read count as made at it if it was as low then."""
        story, rates = self.story, _rates(optimizer)
        if not rates:
            return
        since, self._rates_read = story.steps - self._rates_read, story.steps
        before, story.lr = story.lr, max(rates)
        story.highest_lr = max(story.highest_lr, story.lr)
        limit = LOW * story.highest_lr
        story.lr_zero = story.lr_zero + (since if before == 0 else 1) if story.lr == 0 else 0
        story.lr_low = story.lr_low + (since if before < limit else 1) if story.lr < limit else 0

    def _rate_gone(self) -> bool:
        """Whether the rate has been next to nothing for so long that the rules should hear of it."""
        story = self.story
        return self._rates_read == story.steps and (
            story.lr_zero >= TOGETHER or story.lr_low >= story.steps / 2 > FIRST
        )

    def _note_mode(self) -> bool:
        """Whether the step was made in evaluation mode; True when that became certain just now."""
        modes = self.story.modes
        if not self._sensitive:
            return False
        if self.model.training:
            if modes.steps or not modes.was_training:
                self.story.modes = Modes(sensitive=len(self._sensitive), was_training=True,
                                         names=tuple(n for n, _ in self._sensitive))  # fmt: skip
            return False
        partly = any(not p.requires_grad for p in self.model.parameters())
        off = [n for n, m in self._sensitive if not m.training
               and (any(p.requires_grad for p in m.parameters()) or not (partly or isinstance(m, NORMS)))]  # fmt: skip
        steps = modes.steps + 1 if self.story.tape.rfind("E") > self.story.tape.rfind("F") else 0
        self.story.modes = Modes(sensitive=len(self._sensitive), in_evaluation=len(off), names=tuple(off), steps=steps,
                                 was_training=modes.was_training)  # fmt: skip
        return steps == 2

    def _find_schedulers(self) -> None:
        """The schedules of the watched optimizers: the one that was given, and those that refer to an optimizer."""
        found = [self._given] if self._given is not None else []
        for optimizer in self.optimizers if self._given is None else ():
            if any("initial_lr" in group for group in optimizer.param_groups):  # a schedule writes that
                referring = gc.get_referrers(optimizer)
                around = [x for r in referring if type(r) is dict for x in gc.get_referrers(r)]
                found += [x for x in (*referring, *around) if isinstance(x, LRScheduler) and x.optimizer is optimizer]
        inner = {id(x) for s in found for x in getattr(s, "_schedulers", ())}
        known = {id(s) for s, _ in self._schedulers}
        for s in {id(s): s for s in found}.values():
            if id(s) not in inner and id(s) not in known:
                self._schedulers.append((s, s.last_epoch))

    def _note_schedulers(self, *, first: bool = False) -> None:
        early = {i for i, s in enumerate(self.story.schedules) if s.before}
        self.story.schedules = tuple(Schedule(
            kind=type(s).__name__,
            steps=s.last_epoch - at_start,
            before=i in early or first and s.last_epoch > at_start,
            length=int(s.T_max) if isinstance(s, CosineAnnealingLR) else None,
        ) for i, (s, at_start) in enumerate(self._schedulers))  # fmt: skip

    def _looking(self, eye: _Eye) -> bool:
        step = eye.steps
        power = 1 << (step.bit_length() - 1) if step else 0  # the greatest power of two up to here
        return step < FIRST or step % self.every < ROW or (step < self.every and step - power < ROW)

    def _mark(self, letter: str) -> None:
        self.story.tape += letter

    def _choose(self, eye: _Eye, parameters: Iterable[Tensor]) -> None:
        """Put an optimizer's eye on one parameter: a small one near the output, where every gradient passes."""
        for handle in eye.handles:
            handle.remove()
        eye.handles, eye.watched, eye.before = [], None, None
        fit = [p for p in parameters if p.requires_grad and p.is_leaf and isinstance(p, nn.Parameter)]
        good = [p for p in fit if 2 <= p.numel() <= 100_000] or fit
        if not good:
            return
        eye.watched = good[-1]
        seen = self._safely(lambda p: self._arrived(eye, p))
        eye.handles = [eye.watched.register_post_accumulate_grad_hook(seen)]
        self._attend(eye)

    def _judge(self) -> None:
        self._note_schedulers()
        self.story.weights = self._weights()
        found = {f.code for f in self._found}
        for rule in ALL:
            if rule.code in found or rule.code in self._failed or not self.story.has(rule.needs):
                continue
            try:
                new = rule.judge(self.story)
            except Exception:  # a rule that breaks must not break the loop; the report names it
                self._failed.append(rule.code)
                continue
            self._found += new[:1]
            for finding in new[:1]:
                if self.out is not None:
                    print(f"ravine: {finding_line(finding, width=72)}", file=self.out)

    def _safely(self, look: Callable[..., None]) -> Callable[..., None]:
        """A hook that cannot stop the loop: if it breaks, the report says that watching failed."""

        def hook(*given: Any) -> None:
            try:
                look(*given)
            except Exception as error:
                self._failed.append(f"watching: {type(error).__name__}, {str(error)[:80]}")

        return hook


class _Eye:
    """What is remembered of one optimizer between its steps: the parameter that is looked at, and its gradients."""

    def __init__(self, place: int):
        self.place = place
        self.steps = 0
        self.watched: nn.Parameter | None = None
        self.handles: list[Any] = []
        self.incoming_handle: Any = None
        self.before: Tensor | None = None  # the gradient that the last step left behind
        self.incoming: Tensor | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the step."""
        self.before = None
        self.fresh: Tensor | None = None  # the sum of this step's gradients
        self.expected: Tensor | None = None  # the same, on top of what was left behind
        self.came, self.stale, self.kept = False, False, 0.0
        self.arrived: float | None = None
        self.at_step: float | None = None
        self.norms: dict[str, float] = {}
        self.samples: list[tuple[Tensor, Tensor, Tensor]] = []


def _parameters(optimizer: Optimizer) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _rates(optimizer: Optimizer | None) -> tuple[float, ...]:
    return () if optimizer is None else tuple(float(g["lr"]) for g in optimizer.param_groups if "lr" in g)


def _norm(parameter: nn.Parameter | None) -> float | None:
    if parameter is None or parameter.grad is None or parameter.grad.is_sparse:
        return None
    return float(parameter.grad.detach().norm())


def _sensitive(module: nn.Module) -> bool:
    """Whether a module behaves differently in training."""
    return isinstance(module, NORMS) or (isinstance(module, DROPOUTS) and module.p > 0)
