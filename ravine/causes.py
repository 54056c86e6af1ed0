"""The causes that a finding may name, and what each means: the vocabulary of the doctor."""

from __future__ import annotations

from collections.abc import Mapping

CAUSES: Mapping[str, str] = {
    "learning-rate-high": "Steps are too long: the loss swings, grows or ends in NaN, or units "
    "die.",
    "learning-rate-low": "Steps are too short to get anywhere in the steps planned, or are lost in "
    "rounding.",
    "too-few-steps": "The loss is still falling when training ends.",
    "schedule": "The learning rate's course does not fit the run: too fast, too slow, never "
    "stepped, out of order.",
    "batch-size": "The gradient is too noisy for the rate, or too few steps are made of the "
    "examples.",
    "optimizer": "The optimizer does not fit the task, or is used with settings meant for another "
    "one.",
    "optimizer-numerics": "A constant of the optimizer (eps, a beta) is out of proportion to the "
    "gradients.",
    "hidden-activation": "An activation between layers is missing, misplaced, or keeps gradients "
    "from passing.",
    "output-activation": "The last activation does not fit the loss or the targets' range.",
    "loss": "The loss function does not fit the task, its inputs, or has no derivative where it is "
    "used.",
    "loss-reduction": "A sum stands where a mean is meant, or the reverse: the rate then depends "
    "on the batch.",
    "shape-pairing": "Output and target are broadcast, so examples are compared with those of "
    "others.",
    "initialization": "The weights start equal, too large or too small.",
    "input-scale": "Features are far from 0 or of very different sizes.",
    "target-scale": "Targets are far from 0 or far from size 1, for a network that starts near "
    "both.",
    "data-degenerate": "Examples have NaN, infinities, constants or copies, or too little in them "
    "to learn from.",
    "labels": "Targets are wrong, out of range, in another order than the inputs, or of another "
    "kind.",
    "leakage": "The score rests on what will not be known: the target in a feature, one example in "
    "two splits.",
    "imbalance": "Some classes are so rare that the network does well by leaving them out.",
    "split": "Training, validation and test examples are not of one kind, or a split is too small.",
    "shuffling": "Examples come in an order that means something, so batches are not alike.",
    "augmentation": "Changes made to examples destroy what tells classes apart, or reach "
    "validation too.",
    "dead-units": "Rectified units are 0 for every example and can no longer learn.",
    "saturation": "Units of a bounded activation sit at its bounds, where the gradient is next to "
    "0.",
    "vanishing": "Gradients shrink from layer to layer, so the first layers hardly learn.",
    "exploding": "Signals or gradients grow from layer to layer, or from step to step.",
    "architecture-too-small": "The network cannot express the task, even on the training examples.",
    "architecture-too-deep": "The network is deeper than its gradients reach.",
    "overfitting": "Training examples are learned by heart; others get worse.",
    "over-regularized": "Weight decay or another penalty outweighs the loss.",
    "dropout": "Dropout takes away too much, or stands where it does harm.",
    "normalization": "Batch, layer or group norm is missing, misplaced, or has too few examples "
    "for its statistics.",
    "train-eval-mode": "model.train() and model.eval() are not where they should be.",
    "frozen-parameters": "Parameters have requires_grad False.",
    "parameters-not-in-optimizer": "Parameters that want to learn are in no optimizer, or are not "
    "the model's.",
    "zero-grad": "Gradients are not cleared, or are cleared at the wrong place.",
    "step-order": "Forward, backward and step come in the wrong order, or one of them does not "
    "come.",
    "detached-graph": "Something between parameters and loss cuts the graph, so no gradient "
    "passes.",
    "gradient-clipping": "Gradients are clipped to next to nothing, or not clipped where they must "
    "be.",
    "precision": "The number format is too coarse or its range too small.",
    "metric": "The number that is watched does not measure what is wanted.",
    "randomness": "Random streams repeat, or differ where they should not.",
    "replicas": "Copies of a model that should agree do not.",
    "causality": "An output depends on inputs that come after it.",
    "seed-fragile": "The result depends on the seed: some runs fail, others do not.",
    "healthy": "Nothing is wrong.",
}
