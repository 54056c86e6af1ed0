"""Any torch.nn.Module as a network: its parameters become rows, its buffers stay beside them, its
forward is called.

Networks are called one after another. Through `torch.func.vmap` the convolutions of P networks
become one grouped convolution and products become batched ones, with other kernels and other bits
for P networks than for one; a network would depend on its company. Letters: P networks, B examples,
C outputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ravine.effects import Effect
from ravine.errors import RecipeError
from ravine.layout import Role, Slot
from ravine.networks.conv_layers import Pixels
from ravine.networks.initializers import Normal
from ravine.networks.layers import Columns
from ravine.part import part, setting
from ravine.protocols import Layer, Pass, Signature
from ravine.rng import isolated_rng, stream_seed

# times as many numbers as a picture has: what a guest is taken to hold of it at once, for block
# sizes
WIDER = 32
TRIED = 4  # examples in the batch with which a module is tried before training

Make = Callable[[Signature], nn.Module]


@part
class Module:
    """A module of yours: `make(signature)` gives it, and is called once for each network (and once
    to look at it).

    Each call has torch's random numbers from the network's own stream, so every network has its own
    start. `make` sees `signature.outputs`, and `signature.picture` (pictures come standardized, [B,
    C, H, W]) or `signature.numbers` ([B, F]: categories are already embedded, `embedding` numbers
    each). It returns [B, outputs].

    Parameters with two axes or more have the role "weight", others "bias" where they are named so,
    else "scale". Frozen parameters (`requires_grad = False`) and buffers start as those of the
    first look, the same for all networks. Dropout draws from streams of its own for each network
    and step. A recipe file can tell the module's name but not make it: hand it in from Python.

    >>> Module(make=lambda signature: nn.Linear(signature.numbers, signature.outputs)).embedding
    8
    """

    acts: ClassVar[Effect] = Effect(
        "module", "mean |output| of the module, called for one network after another"
    )
    make: Make | None = None
    embedding: int = setting(default=8, ge=1)

    def check(self) -> None:
        if not callable(self.make):
            raise RecipeError(
                f"Module.make is {self.make!r}",
                why="a recipe file cannot make a module",
                do="hand it in from Python: Module(make=f), or open_run(folder, module=f)",
            )

    def build(self, signature: Signature) -> list[Layer]:
        assert self.make is not None
        if signature.picture is not None:
            return [Pixels(signature.picture), Guest(self.make, signature)]
        columns = Columns(
            numbers=signature.numbers,
            codes=signature.codes,
            size=self.embedding,
            initializer=Normal(sd=1 / math.sqrt(self.embedding)),
        )
        return [columns, Guest(self.make, Signature(columns.outputs, (), signature.outputs))]


class Guest:
    """The layer that calls a module with each network's tensors in place of its own."""

    one_by_one = True

    def __init__(self, make: Make, signature: Signature):
        self.make, self.signature = make, signature
        self.module = looked_at(make, signature)
        self.shapes = {n: p.shape for n, p in self.module.named_parameters() if p.requires_grad}
        self.slots = tuple(_slot(n, shape) for n, shape in self.shapes.items())
        frozen = {n: p.detach() for n, p in self.module.named_parameters() if not p.requires_grad}
        held = frozen | dict(self.module.named_buffers())
        self.types = {n: value.dtype for n, value in held.items()}
        self.buffers: dict[str, Tensor] = {
            f"module.{n}": value.clone() for n, value in held.items()
        }
        picture = signature.picture
        self.values = (
            0 if picture is None else WIDER * picture.channels * picture.height * picture.width
        )

    def start(self, generators: dict[str, Sequence[torch.Generator]]) -> dict[str, Tensor]:
        each = [
            _made(self.make, self.signature, seed=g.initial_seed())
            for g in generators[self.slots[0].name]
        ]
        named = [dict(module.named_parameters()) for module in each]
        return {
            slot.name: torch.stack(
                [own[name].detach().float().reshape(slot.shape) for own in named]
            )
            for slot, name in zip(self.slots, self.shapes, strict=True)
        }

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], now: Pass) -> Tensor:
        networks = tensors[self.slots[0].name].shape[0]
        own = [tensors[slot.name].unbind(0) for slot in self.slots]
        xs = x.unbind(0) * (networks if x.shape[0] == 1 else 1)
        self.module.train(now.training)
        outputs = []
        for i in range(networks):
            values = {
                n: t[i].reshape(shape)
                for (n, shape), t in zip(self.shapes.items(), own, strict=True)
            }
            beside = {
                n: self._typed(now.buffers[f"module.{n}"][i], kind)
                for n, kind in self.types.items()
            }
            outputs.append(self._one(xs[i], values | beside, now, i))
            if now.training:
                for name, value in beside.items():
                    now.buffers[f"module.{name}"][i] = value.to(now.buffers[f"module.{name}"].dtype)
        y = torch.stack(outputs)
        if now.meter is not None:
            now.meter.add("module", y.abs().mean((1, 2)))
        return y

    def _typed(self, value: Tensor, kind: torch.dtype) -> Tensor:
        """A buffer as the module had it: whole numbers as such, others in the precision they are
        kept in.
        """
        return value.clone() if kind.is_floating_point else value.to(kind)

    def _one(self, x: Tensor, values: dict[str, Tensor], now: Pass, i: int) -> Tensor:
        """The outputs of one network [B, C], its random numbers from its own stream."""
        if not now.training:
            y = torch.func.functional_call(self.module, values, (x,))
        else:
            with isolated_rng(stream_seed(now.seeds[i], "module", now.step)):
                y = torch.func.functional_call(self.module, values, (x,))
        return y if y.dim() == 2 else y[:, None]


@functools.lru_cache(maxsize=8)
def looked_at(make: Make, signature: Signature) -> nn.Module:
    """A module that was tried on a batch of noise. Raises `RecipeError` where it cannot be the
    task's network.
    """
    module = _made(make, signature, seed=0)
    if not any(p.requires_grad for p in module.parameters()):
        raise RecipeError(
            f"the module of {name_of(make)} has no parameters", why="there is nothing to train"
        )
    picture = signature.picture
    inputs = (
        (signature.numbers,)
        if picture is None
        else (picture.channels, picture.height, picture.width)
    )
    with isolated_rng(0), torch.enable_grad():
        values = {
            n: t.detach().clone().requires_grad_(t.requires_grad)
            for n, t in (*module.named_parameters(), *module.named_buffers())
        }
        try:
            y = torch.func.functional_call(module, values, (torch.randn(TRIED, *inputs),))
        except Exception as error:  # whatever a foreign module may raise
            raise RecipeError(
                f"the module of {name_of(make)} fails on inputs of {[TRIED, *inputs]}",
                why=str(error),
                do="build it for signature.numbers or signature.picture",
            ) from error
        wanted = [[TRIED, signature.outputs]] + ([[TRIED]] if signature.outputs == 1 else [])
        given = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        if given not in wanted:
            raise RecipeError(
                f"the module of {name_of(make)} gives {given}",
                why=f"it must give {wanted[0]}",
                do="build it for signature.outputs",
            )
        trained = [n for n, p in module.named_parameters() if p.requires_grad]
        found = torch.autograd.grad(y.sum(), [values[n] for n in trained], allow_unused=True)
    unused = [n for n, g in zip(trained, found, strict=True) if g is None]
    if unused:
        raise RecipeError(
            f"the module of {name_of(make)} does not use {', '.join(unused)}",
            do="leave them out, or set requires_grad = False",
        )
    return module


def name_of(make: Any) -> str:
    """What a factory is called."""
    return getattr(make, "__qualname__", type(make).__qualname__)


def _made(make: Make, signature: Signature, *, seed: int) -> nn.Module:
    """What a factory makes with random numbers from a seed. Raises `RecipeError` where it fails."""
    with isolated_rng(seed):
        try:
            module = make(signature)
        except Exception as error:  # whatever a foreign factory may raise
            raise RecipeError(
                f"{name_of(make)} fails", why=f"{type(error).__name__}: {error}"
            ) from error
    if not isinstance(module, nn.Module):
        raise RecipeError(
            f"{name_of(make)} gives {type(module).__name__}", why="it must give a torch.nn.Module"
        )
    return module


def _slot(name: str, shape: torch.Size) -> Slot:
    role: Role = "weight" if len(shape) >= 2 else "bias" if name.endswith("bias") else "scale"
    if len(shape) < 2:
        return Slot(name=f"module.{name}", shape=tuple(shape) or (1,), role=role)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape, device="meta"))
    return Slot(
        name=f"module.{name}", shape=tuple(shape), role=role, fan_in=fan_in, fan_out=fan_out
    )
