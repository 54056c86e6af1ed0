"""A step as it usually is, from which the tests of training loops make histories."""

from ravine.diagnosis.training_loop.history import ObservedGradient, OptimizerSettings, StepSnapshot

SNAPSHOT = StepSnapshot(
    step=3,
    optimizer=0,
    settings=OptimizerSettings(kind="SGD", lrs=(0.1,)),
    gradient=ObservedGradient(norm_after_backward=1.0, norm_at_step=1.0),
    gradient_norms={"w": 1.0},
    weight_norm=10.0,
)
