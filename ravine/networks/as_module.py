"""One network of a cohort as a plain `nn.Module`, with torch's own layers and our names.

Linear layers, convolutions, normalization, dropout and modules of one's own become the modules that
torch has for them; every other layer is called as it is. Letters: N examples, F numbers, K codes.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ravine.layout import Rows
from ravine.networks.activations import Padded
from ravine.networks.batched import BatchedNetwork
from ravine.networks.conv_layers import ConvolutionLayer, ResidualLayer
from ravine.networks.layers import (
    ActivationLayer,
    BatchNormLayer,
    DropoutLayer,
    LayerNormLayer,
    LinearLayer,
)
from ravine.networks.torch_module import TorchModuleLayer
from ravine.protocols import Batch, ForwardContext, Layer, Signature

Tensors = Mapping[str, Tensor]  # of one network, by the names of its slots and buffers


class NetworkModule(nn.Module):
    """A network that takes its examples as one tensor: [N, F + K], or images [N, C, H, W].

    The codes of columns stand behind the numbers, as floats. Images are bytes, or floats 0 to 1.
    """

    def __init__(self, layers: list[nn.Module], signature: Signature):
        super().__init__()
        self.signature = signature
        self.sequence = layers  # a plain list: the modules are registered under the slots' names

    def forward(self, x: Tensor) -> Tensor:
        if self.signature.image is not None:
            made: Any = Batch(x[None])
        else:
            numbers, codes = x[:, : self.signature.numbers], x[:, self.signature.numbers :]
            made = Batch(numbers[None], codes.long()[None] if codes.shape[1] else None)
        for layer in self.sequence:
            made = layer(made)
        return made


class LayerModule(nn.Module):
    """A layer of a cohort, called for one network."""

    def __init__(self, layer: Layer, tensors: Tensors):
        super().__init__()
        self.layer = layer
        own = {_key(s.name): nn.Parameter(tensors[s.name].clone()) for s in layer.slots}
        self.weights = nn.ParameterDict(own)
        for name in layer.buffers:
            self.register_buffer(_key(name), tensors[name].clone())

    def forward(self, x: Any) -> Tensor:
        own = {s.name: self.weights[_key(s.name)][None] for s in self.layer.slots}
        buffers = {name: getattr(self, _key(name))[None] for name in self.layer.buffers}
        given = x if isinstance(x, Batch) else x[None]
        size = (given.numbers if isinstance(given, Batch) else given).shape[1]
        context = ForwardContext(self.training, seeds=[0], batch=size, buffers=buffers)
        # a layer without weights of its own looks at any tensor for the precision
        own = own or {"": torch.empty(0)}
        return self.layer(given, own, context)[0]


class ResidualModule(nn.Module):
    """f(inner(x) + shortcut(x)), as `ResidualLayer`."""

    def __init__(self, inner: list[nn.Module], shortcut: list[nn.Module], activation: Any):
        super().__init__()
        self.inner, self.shortcut = inner, shortcut
        self.activation = ActivationModule(activation)

    def forward(self, x: Tensor) -> Tensor:
        made = carried = x
        for layer in self.inner:
            made = layer(made)
        for layer in self.shortcut:
            carried = layer(carried)
        return self.activation(made + carried)


def as_module(
    network: BatchedNetwork, signature: Signature, weights: Rows, buffers: Mapping[str, Tensor]
) -> NetworkModule:
    """The network of one row of weights [1, W] with its buffers [1, ...] as a training module.

    Its modules have the names of the slots: `hidden.0` is the `nn.Linear` of the slots
    `hidden.0.weight` and `hidden.0.bias`. In evaluation it gives what the network gives, up to the
    rounding of sums in another order; in training its dropout draws from torch's generator.

    >>> from ravine.networks.mlp import Mlp
    >>> signature = Signature(numbers=3, codes=(), outputs=2)
    >>> network = BatchedNetwork(Mlp(hidden=(4,)), signature)
    >>> module = as_module(network, signature, *network.start([0]))
    >>> [name for name, m in module.named_modules() if isinstance(m, nn.Linear)]
    ['hidden.0', 'output']
    >>> module(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """
    tensors = {n: t[0].detach() for n, t in network.layout.views(weights).items()}
    tensors |= {name: value[0].detach() for name, value in buffers.items()}
    named: list[tuple[str, nn.Module]] = []
    module = NetworkModule(_modules(network.layers, tensors, named), signature)
    for name, child in named:  # a layer before what is inside it
        _register(module, name, child)
    return module.train()


def _modules(layers: Any, tensors: Tensors, named: list[tuple[str, nn.Module]]) -> list[nn.Module]:
    """The modules of some layers; `named` gets each with its name."""
    made: list[nn.Module] = []
    weighted = ""
    for layer in layers:
        if isinstance(layer, ResidualLayer):
            inner = _modules(layer.inner, tensors, named)
            shortcut = _modules(layer.shortcut, tensors, named)
            made.append(ResidualModule(inner, shortcut, layer.activation))
            continue
        module = TORCH_MODULES.get(type(layer), lambda layer: None)(layer)
        if module is None:
            module = LayerModule(layer, tensors)
        else:
            _fill_(module, layer, tensors)
        own = layer.slots[0].name.rpartition(".")[0] if layer.slots else ""
        if isinstance(layer, LinearLayer | ConvolutionLayer):
            weighted = own
        elif not own:  # an activation, dropout or pooling belongs to the layer before it
            own = getattr(layer, "name", "") or f"{weighted}.{type(layer).__name__.lower()}"
        named.append((own.lstrip("."), module))
        made.append(module)
    return made


def _fill_(module: nn.Module, layer: Layer, tensors: Tensors) -> None:
    """Copy a layer's tensors into the module that torch has for it, which holds them in order."""
    parameters = sorted(module.parameters(), key=lambda p: not p.requires_grad)  # frozen ones last
    held = [*parameters, *module.buffers()]
    names = [*(slot.name for slot in layer.slots), *layer.buffers]
    with torch.no_grad():
        for own, name in zip(held, names, strict=False):  # batch norms of torch also count batches
            value = tensors[name]
            if isinstance(layer, LinearLayer) and own.dim() == 2:
                value = value.T * layer.scale
            own.copy_(value.reshape(own.shape))


def _convolution(layer: ConvolutionLayer) -> nn.Module:
    outputs, inputs, side, _ = layer.slots[0].shape
    window = (layer.stride, layer.padding, 1, layer.groups)  # 1: no dilation
    return nn.Conv2d(inputs * layer.groups, outputs, side, *window, bias=layer.has_bias)


class BatchNormModule(nn.modules.batchnorm._BatchNorm):
    """Batch normalization of rows [N, H] or images [N, C, H, W]."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


class LayerNormModule(nn.LayerNorm):
    """Layer normalization of rows [N, H]; of images [N, C, H, W] over all channels and places."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 4:
            return nn.functional.group_norm(input, 1, self.weight, self.bias, self.eps)
        return super().forward(input)


def _dropout(layer: DropoutLayer) -> nn.Module | None:
    if not layer.inverted:
        return None
    kind = nn.Dropout2d if layer.spatial else nn.Dropout
    return kind(float(layer.rate))


class ActivationModule(nn.Module):
    """An activation as a module, without the padding that cohorts need."""

    def __init__(self, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.activation = activation.formula if isinstance(activation, Padded) else activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x)


# what torch has a module for; None from a function means that it has none for these settings
TORCH_MODULES: Mapping[type, Callable[[Any], nn.Module | None]] = {
    LinearLayer: lambda layer: nn.Linear(*layer.slots[0].shape, bias=layer.has_bias),
    ConvolutionLayer: _convolution,
    BatchNormLayer: lambda layer: BatchNormModule(
        layer.slots[0].shape[1], eps=layer.eps, momentum=float(layer.momentum)
    ),
    LayerNormLayer: lambda layer: LayerNormModule(layer.slots[0].shape[1], eps=layer.eps),
    DropoutLayer: _dropout,
    ActivationLayer: lambda layer: ActivationModule(layer.activation),
    TorchModuleLayer: lambda layer: copy.deepcopy(layer.module),
}


def _register(root: nn.Module, name: str, module: nn.Module) -> None:
    """Make a module the child of that name, also where its parent is no container."""
    *above, last = name.split(".")
    parent = root
    for step in above:
        if step not in parent._modules:
            parent.add_module(step, nn.Module())
        parent = parent.get_submodule(step)
    while last in parent._modules or hasattr(parent, last):
        last += "_"
    parent.add_module(last, module)


def _key(name: str) -> str:
    return name.replace(".", "_")
