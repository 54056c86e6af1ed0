"""Any torch.nn.Module as a network: its parameters become rows of the matrix of weights.

Networks are called one after another. Through `torch.func.vmap` the convolutions of P networks
become one grouped convolution and products batched ones, with other kernels and bits for P networks
than for one: numbers would depend on the others in the batch. P networks, B examples, C outputs.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ravine.effects import Effect
from ravine.errors import RecipeError, typed_message, wrap_errors
from ravine.layout import Role, Slot
from ravine.networks.conv_layers import PixelLayer
from ravine.networks.layer_parts import MAX_UNITS
from ravine.networks.layers import ColumnsLayer, unbind_networks
from ravine.part import part, setting
from ravine.protocols import ForwardContext, Layer, Signature, SlotStreams
from ravine.rng import isolated_rng, stream_seed

# numbers that a module may hold at once for each number of an image: block sizes follow from it
VALUES_PER_PIXEL = 32
TRIAL_EXAMPLES = 4  # examples in the batch on which a module is tried before training

ModuleFactory = Callable[[Signature], nn.Module]


@part
class TorchModule:
    """A torch module of your own, made by `make(signature)`.

    `make` is called once for each network, under random numbers from the network's own stream, so
    each has a start of its own; and once more for a trial. It sees `signature.outputs`, and
    `signature.image` (images come standardized, [B, C, H, W]) or `signature.numbers` ([B, F]:
    categories are already embedded, `embedding` numbers each). The module returns [B, outputs].

    Parameters with two axes or more have the role "weight", others "bias" where they are named so,
    else "scale". Frozen parameters (`requires_grad = False`) and buffers start as in the trial, the
    same for all networks. Dropout draws from a stream of its own for each network and step. A
    recipe file can name the module but not make it: pass `make` in Python.

    >>> TorchModule(make=lambda signature: nn.Linear(signature.numbers, 2)).embedding
    8
    """

    acts: ClassVar[Effect] = Effect(
        "module", "mean |output| of the module, called for one network after another"
    )
    make: ModuleFactory | None = None
    embedding: int = setting(default=8, ge=1, le=MAX_UNITS)

    def check(self) -> None:
        if not callable(self.make):
            what = f"TorchModule.make is {self.make!r}"
            do = "pass it in Python: TorchModule(make=f), or open_run(folder, module=f)"
            raise RecipeError(what, why="a recipe file cannot make a module", do=do)

    def build(self, signature: Signature) -> list[Layer]:
        assert self.make is not None
        if signature.image is not None:
            return [PixelLayer(signature.image), TorchModuleLayer(self.make, signature)]
        columns = ColumnsLayer(signature, size=self.embedding)
        layer = TorchModuleLayer(self.make, Signature(columns.outputs, (), signature.outputs))
        return [columns, layer]


NO_VARIANCE = "Expected more than 1 value per channel"  # torch, of a batch norm in training


class TorchModuleLayer:
    """The layer that calls a module with each network's tensors in place of its own."""

    one_by_one = True

    def __init__(self, make: ModuleFactory, signature: Signature):
        self.make, self.signature = make, signature
        self.module = try_module(make, signature)
        self.shapes = {n: p.shape for n, p in self.module.named_parameters() if p.requires_grad}
        self.slots = tuple(_slot(n, shape) for n, shape in self.shapes.items())
        frozen = {n: p.detach() for n, p in self.module.named_parameters() if not p.requires_grad}
        kept = frozen | dict(self.module.named_buffers())
        self.types = {n: value.dtype for n, value in kept.items()}
        self.buffers: dict[str, Tensor] = {f"module.{n}": v.clone() for n, v in kept.items()}
        image = signature.image
        pixels = 0 if image is None else image.channels * image.height * image.width
        self.values = VALUES_PER_PIXEL * pixels

    def start(self, generators: SlotStreams) -> dict[str, Tensor]:
        seeds = [generator.initial_seed() for generator in generators[self.slots[0].name]]
        modules = [_make_module(self.make, self.signature, seed=seed) for seed in seeds]
        started = {}
        for slot, name in zip(self.slots, self.shapes, strict=True):
            each = [module.get_parameter(name).detach().float() for module in modules]
            started[slot.name] = torch.stack([value.reshape(slot.shape) for value in each])
        return started

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        networks = tensors[self.slots[0].name].shape[0]
        own = [unbind_networks(tensors[slot.name]) for slot in self.slots]
        xs = x.unbind(0) * (networks if x.shape[0] == 1 else 1)
        self.module.train(context.training)
        outputs = []
        for i in range(networks):
            shaped = zip(self.shapes.items(), own, strict=True)
            values = {n: t[i].reshape(shape) for (n, shape), t in shaped}
            kept = {n: context.buffers[f"module.{n}"][i] for n in self.types}
            # whole numbers have the module's own type
            beside = {
                n: value.clone() if self.types[n].is_floating_point else value.to(self.types[n])
                for n, value in kept.items()
            }
            outputs.append(self._one(xs[i], values | beside, context, i))
            if context.training:
                for name, value in beside.items():
                    buffer = context.buffers[f"module.{name}"]
                    buffer[i] = value.to(buffer.dtype)
        y = torch.stack(outputs)
        if context.meter is not None:
            context.meter.add("module", y.abs().mean((1, 2)))
        return y

    def _one(self, x: Tensor, values: dict[str, Tensor], context: ForwardContext, i: int) -> Tensor:
        """The outputs of one network [B, C], its random numbers from its own stream."""
        if not context.training:
            y = torch.func.functional_call(self.module, values, (x,))
        else:
            with isolated_rng(stream_seed(context.seeds[i], "module", context.step)):
                y = self._train_one(x, values)
        return y if y.dim() == 2 else y[:, None]

    def _train_one(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """The outputs in training; one example has no variance: there running statistics are used.

        So an epoch may end with a batch of one, as with batch norms of our own.
        """
        if len(x) > 1:
            return torch.func.functional_call(self.module, values, (x,))
        before = {name: values[name].clone() for name in self.types}
        try:
            return torch.func.functional_call(self.module, values, (x,))
        except ValueError as error:
            if NO_VARIANCE not in str(error):
                raise
        for name, value in before.items():
            values[name].copy_(value)
        for module in self.module.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        y = torch.func.functional_call(self.module, values, (x,))
        self.module.train()
        return y


@functools.lru_cache(maxsize=8)
def try_module(make: ModuleFactory, signature: Signature) -> nn.Module:
    """Make a module and run it on noise. Raises `RecipeError` where it cannot be the network."""
    module = _make_module(make, signature, seed=0)
    if not any(p.requires_grad for p in module.parameters()):
        why = "there is nothing to train"
        raise RecipeError(f"the module of {factory_name(make)} has no parameters", why=why)
    image = signature.image
    inputs = (signature.numbers,) if image is None else (image.channels, image.height, image.width)
    with isolated_rng(0), torch.enable_grad():
        tensors = (*module.named_parameters(), *module.named_buffers())
        values = {n: t.detach().clone().requires_grad_(t.requires_grad) for n, t in tensors}
        x = torch.randn(TRIAL_EXAMPLES, *inputs)
        what = f"the module of {factory_name(make)} fails on inputs of {list(x.shape)}"
        do = "build it for signature.numbers or signature.image"
        with wrap_errors(RecipeError, what, do, why=typed_message):
            y = torch.func.functional_call(module, values, (x,))
        wanted = [[TRIAL_EXAMPLES, signature.outputs]]
        wanted += [[TRIAL_EXAMPLES]] if signature.outputs == 1 else []
        given = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        if given not in wanted:
            why, do = f"it must give {wanted[0]}", "build it for signature.outputs"
            raise RecipeError(f"the module of {factory_name(make)} gives {given}", why=why, do=do)
        trained = [n for n, p in module.named_parameters() if p.requires_grad]
        found = torch.autograd.grad(y.sum(), [values[n] for n in trained], allow_unused=True)
    unused = [n for n, g in zip(trained, found, strict=True) if g is None]
    if unused:
        what = f"the module of {factory_name(make)} does not use {', '.join(unused)}"
        raise RecipeError(what, do="leave them out, or set requires_grad = False")
    return module


def factory_name(make: object) -> str:
    """The name of a factory, for messages."""
    return getattr(make, "__qualname__", type(make).__qualname__)


def _make_module(make: ModuleFactory, signature: Signature, *, seed: int) -> nn.Module:
    """Call a factory under random numbers from a seed. Raises `RecipeError` where it fails."""
    what = f"{factory_name(make)} fails"
    with isolated_rng(seed), wrap_errors(RecipeError, what, why=typed_message):
        module = make(signature)
    if not isinstance(module, nn.Module):
        what = f"{factory_name(make)} gives {type(module).__name__}"
        raise RecipeError(what, why="it must give a torch.nn.Module")
    return module


def _slot(name: str, shape: torch.Size) -> Slot:
    role: Role = "weight" if len(shape) >= 2 else "bias" if name.endswith("bias") else "scale"
    name = f"module.{name}"
    sides = tuple(shape) or (1,)
    if len(shape) < 2:
        return Slot(name=name, shape=sides, role=role)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape, device="meta"))
    return Slot(name=name, shape=sides, role=role, fan_in=fan_in, fan_out=fan_out)
