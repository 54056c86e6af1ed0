"""Augmentation of training batches: images are changed a little at every step, their labels stay.

Parts take floats from 0 to 1, [P, B, C, H, W]; they act in the order of `recipe.augment`. Their
random draws depend on a network's seed and the step alone and are scaled by the strength: networks
with the same seed and other strengths see the same changes, more or less of them.
"""

from collections import Counter
from collections.abc import Sequence

from ravine.augment.colors import ColorJitter, Noise
from ravine.augment.geometry import Crop, Flip, Rotate, Shear, Stretch, Zoom
from ravine.augment.kornia_ops import KorniaAugmentation
from ravine.augment.mixing import CutMix, Erase, Mixup
from ravine.augment.randaugment import RandAugment
from ravine.errors import RecipeError
from ravine.protocols import Augmentation, ChecksShape, ImageShape

ALL = (
    (Flip, Crop, Zoom, Rotate, Stretch, Shear)
    + (ColorJitter, Noise)
    + (Erase, Mixup, CutMix)
    + (RandAugment, KorniaAugmentation)
)


def check_augmentation(parts: Sequence[Augmentation], image: ImageShape | None) -> None:
    """Raise `RecipeError` where parts cannot act on these examples, or not together.

    Raises `InputError` for missing packages.

    >>> check_augmentation((Flip(), Crop(), Flip()), ImageShape(1, 8, 8, (0.5,), (0.2,)))
    Traceback (most recent call last):
    ravine.errors.RecipeError: Flip stands twice in augment: ...
    """
    if not parts:
        return
    if image is None:
        what = f"the recipe augments with {type(parts[0]).__name__}"
        do = "leave augment out, or name a folder of images"
        raise RecipeError(what, why="the examples are rows of a table", do=do)
    # under these names parts draw their random numbers
    names = [getattr(part, "augmentation", type(part).__name__) for part in parts]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        what = f"{twice[0]} stands twice in augment"
        raise RecipeError(what, why="both would draw the same", do="leave one of them out")
    if sum(isinstance(part, (Mixup, CutMix)) for part in parts) > 1:
        why = "a loss has one share for what is mixed in"
        raise RecipeError("augment has both Mixup and CutMix", why=why, do="leave one of them out")
    for part in parts:
        if isinstance(part, ChecksShape):
            part.check_shape(image)
