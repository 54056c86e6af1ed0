"""The causes that a finding may name, and what each means: the vocabulary of the doctor."""

from collections.abc import Mapping

CAUSES: Mapping[str, str] = {
    "learning-rate-high": (
        "Steps are too long: the loss oscillates, grows or becomes NaN, or units die."
    ),
    "learning-rate-low": "Steps are too short for the number of steps, or are lost to rounding.",
    "too-few-steps": "The loss is still falling when training ends.",
    "schedule": (
        "The schedule does not fit the run: too fast, too slow, never stepped, or stepped out "
        "of order."
    ),
    "batch-size": (
        "The gradient is too noisy for the learning rate, or there are too few steps for the "
        "examples."
    ),
    "optimizer": "The optimizer does not fit the task, or has settings meant for another one.",
    "optimizer-numerics": (
        "A constant of the optimizer (eps, a beta) is out of proportion to the gradients."
    ),
    "hidden-activation": "An activation between layers is missing, misplaced, or blocks gradients.",
    "output-activation": "The last activation does not fit the loss or the range of the targets.",
    "loss": (
        "The loss function does not fit the task or its inputs, or has no gradient where it is "
        "used."
    ),
    "loss-reduction": (
        "The loss is summed in place of averaged, or the reverse: the right rate depends on the "
        "batch."
    ),
    "shape-pairing": (
        "Output and target are broadcast, so examples are compared with other examples."
    ),
    "initialization": "The weights start equal, too large or too small.",
    "input-scale": "Features are far from 0 or of very different sizes.",
    "target-scale": (
        "Targets are far from 0 or far from size 1, while the network's outputs start near both."
    ),
    "data-degenerate": (
        "Examples contain NaN, infinities, constants or duplicates, or too little to learn from."
    ),
    "labels": (
        "Targets are wrong, out of range, in another order than the inputs, or of the wrong kind."
    ),
    "leakage": (
        "The score uses what will not be known: the target in a feature, one example in two splits."
    ),
    "imbalance": "Some classes are so rare that the network does well by ignoring them.",
    "split": (
        "Training, validation and test examples have different distributions, or a split is too "
        "small."
    ),
    "shuffling": "Examples come in a meaningful order, so batches differ from each other.",
    "augmentation": (
        "Augmentation removes what distinguishes the classes, or is applied to validation examples."
    ),
    "dead-units": "ReLU units are 0 for every example and can no longer learn.",
    "saturation": (
        "Units of a bounded activation are at its bounds, where the gradient is almost 0."
    ),
    "vanishing": "Gradients shrink from layer to layer, so the first layers hardly learn.",
    "exploding": "Signals or gradients grow from layer to layer, or from step to step.",
    "architecture-too-small": "The network cannot fit even the training examples.",
    "architecture-too-deep": "The network is so deep that gradients do not reach its first layers.",
    "overfitting": "The training loss keeps falling while the validation loss rises.",
    "over-regularized": "Weight decay or another penalty outweighs the loss.",
    "dropout": "The dropout rate is too high, or dropout is in a place where it does harm.",
    "normalization": (
        "Batch, layer or group norm is missing, misplaced, or has too few examples for its "
        "statistics."
    ),
    "train-eval-mode": "model.train() or model.eval() is missing or in the wrong place.",
    "frozen-parameters": "Parameters have requires_grad False.",
    "parameters-not-in-optimizer": (
        "Parameters with gradients are in no optimizer, or the optimizer has those of another "
        "model."
    ),
    "zero-grad": "Gradients are not cleared, or are cleared in the wrong place.",
    "step-order": (
        "Forward, backward and step are called in the wrong order, or one of them is missing."
    ),
    "detached-graph": (
        "Something between parameters and loss detaches the graph, so no gradient flows."
    ),
    "gradient-clipping": (
        "Gradients are clipped to almost nothing, or not clipped although they explode."
    ),
    "precision": "The number format is too coarse or its range too small.",
    "metric": "The metric does not measure what is wanted.",
    "randomness": "Random streams repeat, or differ where they should not.",
    "replicas": "Copies of a model that should be equal are not.",
    "causality": "An output depends on later inputs.",
    "seed-fragile": "The result depends on the seed: some runs fail, others do not.",
    "healthy": "Nothing is wrong.",
}
