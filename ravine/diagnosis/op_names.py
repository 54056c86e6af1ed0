"""The names of torch operations, by what they do: the only table of them.

The same operation has two names. Autograd records *nodes*, whose names stand here without the
ending `Backward0`: `Addmm`, `NativeBatchNorm`. A `TorchFunctionMode` sees *functions*: `linear`,
`conv2d`, `relu_`.
"""

from collections.abc import Mapping
from typing import Any

# Nodes of autograd

AFFINE_NODES: Mapping[str, tuple[int, int]] = {  # the places of input and weight among their inputs
    "Addmm": (1, 2),
    "Mm": (0, 1),
    "Linear": (0, 1),
    "Convolution": (0, 1),
    "MkldnnConvolution": (0, 1),
}
CONVOLUTION_NODES = frozenset({"Convolution", "MkldnnConvolution"})
BATCH_NORM_NODES = frozenset({"NativeBatchNorm", "CudnnBatchNorm"})
DROPOUT_NODES = frozenset({"Dropout", "NativeDropout"})
POOLING_NODES = frozenset({"AvgPool1D", "AvgPool2D", "AvgPool3D"})
LINEAR_NODES = BATCH_NORM_NODES | DROPOUT_NODES | POOLING_NODES  # no nonlinearity, no weight matrix
MIXING_NODES = frozenset(  # combine the features of an example
    {*AFFINE_NODES, "Bmm", "Baddbmm", "Embedding", "NativeLayerNorm"}
)
VIEW_NODES = frozenset(
    "Alias AsStrided Clone Flatten Permute Reshape ReshapeAlias Select Slice Squeeze "
    "SqueezeDim T ToCopy Transpose UnsafeView Unsqueeze View".split()
)
NODE_OUTPUT_RANGES: Mapping[str, tuple[float, float]] = {  # of activations
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "Relu": (0.0, float("inf")),
}
BOUNDED_NODES = frozenset({"Sigmoid", "Softmax", "Tanh"})
PROBABILITY_NODES = frozenset({"Softmax", "Sigmoid"})
LOGIT_NODES = frozenset(  # whose output is neither a probability nor the logarithm of one
    {"Addmm", "Mm", "Linear", "Convolution", "Relu", "Tanh"}
)
TARGET_LOSS_NODES = frozenset(  # losses that keep their target in the graph
    {"MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropyWithLogits"}
)
ELEMENTWISE_LOSS_NODES = frozenset({"MseLoss", "SmoothL1Loss", "HuberLoss"})
BROADCASTING_NODES = ELEMENTWISE_LOSS_NODES | {"Sub", "Expand", "Mul"}
SCALING_NODES = frozenset({"Mul", "Div", "Neg"})
ROUNDING_NODES = frozenset({"Round", "Floor", "Ceil", "Trunc", "Sign"})  # their derivative is 0

# Functions of torch, as they are called

CONVOLUTION_FUNCTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
TRANSPOSED_CONVOLUTION_FUNCTIONS = frozenset(f"conv_transpose{d}d" for d in (1, 2, 3))
LAYER_FUNCTIONS = CONVOLUTION_FUNCTIONS | {"linear"}
AFFINE_FUNCTIONS = LAYER_FUNCTIONS | TRANSPOSED_CONVOLUTION_FUNCTIONS  # their weight comes second
MATMUL_FUNCTIONS = frozenset({"matmul", "__matmul__", "__rmatmul__", "mm", "addmm"})
EMBEDDING_FUNCTIONS = frozenset({"embedding", "embedding_bag"})
RECURRENT_FUNCTIONS = frozenset({"gru", "lstm", "rnn_tanh", "rnn_relu"})
FUSED_FUNCTIONS = RECURRENT_FUNCTIONS | {"multi_head_attention_forward"}  # nonlinear within
# combine features, whatever the form
WEIGHT_FUNCTIONS = AFFINE_FUNCTIONS | MATMUL_FUNCTIONS | FUSED_FUNCTIONS
WEIGHT_FUNCTIONS |= frozenset(
    "baddbmm bilinear bmm einsum gru_cell lstm_cell rnn_relu_cell rnn_tanh_cell "
    "scaled_dot_product_attention".split()
)
SATURATING_FUNCTIONS = frozenset("hardsigmoid sigmoid sigmoid_ softsign tanh tanh_".split())
ACTIVATION_FUNCTIONS = SATURATING_FUNCTIONS | frozenset(
    "celu elu elu_ gelu hardswish hardtanh leaky_relu leaky_relu_ logsigmoid mish "
    "prelu relu relu6 relu_ selu silu softplus".split()
)
RECTIFIER_FUNCTIONS = frozenset({"relu", "relu6", "relu_", "threshold", "threshold_"})
SOFTMAX_FUNCTIONS = frozenset({"softmax", "log_softmax"})
EXAMPLE_NORM_FUNCTIONS = frozenset({"instance_norm"})  # by example and channel
DROPOUT_FUNCTIONS = frozenset({"alpha_dropout", "feature_alpha_dropout", "dropout"})
DROPOUT_FUNCTIONS |= {"dropout1d", "dropout2d", "dropout3d"}
VIEW_FUNCTIONS = frozenset(
    "T __getitem__ clone contiguous double flatten float mT movedim permute reshape "
    "squeeze swapaxes to transpose type_as unsqueeze view view_as".split()
)

# by a part of a name: how an operation, or a module, reads no later inputs
CAUSAL_FORMS: Mapping[str, str] = {
    **dict.fromkeys(
        ("attention", "softmax", "matmul", "bmm", "einsum"),
        "mask what comes later, before the softmax over the keys",
    ),
    "conv": "F.pad(x, ((kernel_size - 1) * dilation, 0)) and padding=0: padding on the left alone",
    "pool": "F.pad(x, (kernel_size - 1, 0)) and padding=0: a window that ends at its own place",
    **dict.fromkeys(("rnn", "lstm", "gru"), "bidirectional=False, and no flip of the time"),
    "norm": "mean and variance of each place alone, as nn.LayerNorm over the features",
}


def causal_form(*names: str) -> str:
    """What to write in place of what reads later inputs: operations or modules by their names.

    >>> causal_form("avg_pool1d", "AvgPool1d")
    'F.pad(x, (kernel_size - 1, 0)) and padding=0: a window that ends at its own place'
    """
    forms = (form for name in names for part, form in CAUSAL_FORMS.items() if part in name.lower())
    return next(forms, "outputs of their own and earlier inputs alone; attention masks later keys")


def node_name(node: Any) -> str:
    """The name of a node without `Backward0`, "" for None; NllLoss2D counts as NllLoss."""
    if node is None:
        return ""
    name = node.name().rpartition("::")[2].partition("Backward")[0]
    return "NllLoss" if name == "NllLoss2D" else name
