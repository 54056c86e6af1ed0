"""Networks: what layers they have, what these compute, and how their weights start."""

from ravine.networks.conv import Conv, ResNet
from ravine.networks.mlp import Mlp
from ravine.networks.pretrained import Continued, Pretrained
from ravine.networks.torch_module import TorchModule

ALL = (Mlp, Conv, ResNet, TorchModule, Pretrained, Continued)

__all__ = ["ALL", "Continued", "Conv", "Mlp", "TorchModule", "Pretrained", "ResNet"]
