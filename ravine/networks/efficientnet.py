"""EfficientNet-Lite0 (Tan & Le 2019; without gates, as Google published it in 2020) as a module.

    stem 3x3, stride 2 → seven stages of blocks → 1x1 convolution → mean over places → classifier

A block widens the channels (1x1), filters each by itself (k x k) and narrows them again (1x1), each
followed by batch norm, the first two by ReLU6; where the shape stays, its input is added. Borders
are padded as in TensorFlow: as much as makes the output ⌈size / stride⌉, the odd pixel at the end.
Letters: B images, C channels.
"""

from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM_EPS = 1e-3  # of batch norm, as TensorFlow has it
FEATURE_COUNT = 1280


# of the blocks in a row: count, kernel side, first stride, widening, channels that come out
BLOCK_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """Images [B, 3, H, W] of mean and SD 0.5 in, scores of `classes` out.

    `features` gives the 1,280 numbers before the classifier.

    >>> import torch
    >>> network = EfficientNetLite0(classes=10).eval()
    >>> network(torch.zeros(2, 3, 64, 64)).shape, network.features(torch.zeros(2, 3, 64, 64)).shape
    (torch.Size([2, 10]), torch.Size([2, 1280]))
    """

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.stem = ConvNormReLU6(3, 32, kernel=3, stride=2)
        stages = []
        width = 32
        for count, kernel, stride, widen, channels in BLOCK_STAGES:
            blocks = []
            for i in range(count):
                step = stride if i == 0 else 1
                block = InvertedResidual(width, channels, kernel=kernel, stride=step, widen=widen)
                blocks.append(block)
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.top = ConvNormReLU6(width, FEATURE_COUNT, kernel=1)
        self.classifier = nn.Linear(FEATURE_COUNT, classes)

    def features(self, images: Tensor) -> Tensor:
        """The mean over the image of the last convolution's outputs, [B, 1280]."""
        return self.top(self.stages(self.stem(images))).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


class ConvNormReLU6(nn.Module):
    """Convolution without bias, batch norm, and (if `clipped`) ReLU6: y = min(max(x, 0), 6)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        clipped: bool = True,
    ):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        # momentum as in torch: TensorFlow's 0.01 takes hundreds of steps to forget the start
        self.norm = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS, momentum=0.1)
        self.kernel, self.stride, self.clipped = kernel, stride, clipped

    def forward(self, x: Tensor) -> Tensor:
        high, wide = (self._padding(size) for size in x.shape[2:])
        if high % 2 or wide % 2:
            x = functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
            high = wide = 0
        filters = self.convolution
        padding = (high // 2, wide // 2)
        y = functional.conv2d(x, filters.weight, None, self.stride, padding, groups=filters.groups)
        x = self.norm(y)
        return functional.relu6(x) if self.clipped else x

    def _padding(self, size: int) -> int:
        """How many pixels to pad so that the output is ⌈size / stride⌉."""
        return max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; the input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, widen: int):
        super().__init__()
        middle = inputs * widen
        self.widen = ConvNormReLU6(inputs, middle, kernel=1) if widen > 1 else nn.Identity()
        self.filter = ConvNormReLU6(middle, middle, kernel=kernel, stride=stride, groups=middle)
        self.narrow = ConvNormReLU6(middle, outputs, kernel=1, clipped=False)
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(self.filter(self.widen(x)))
        return x + y if self.adds else y
