"""Any augmentation of kornia, by its name: one network at a time, with random numbers of its own.

Letters: P networks, B examples, C channels.
"""

import importlib
import importlib.util
from dataclasses import field
from typing import Any, ClassVar

import torch

from ravine.augment.sampling import with_pixels
from ravine.effects import Effect
from ravine.errors import InputError, RecipeError, nearest, value_text, wrap_errors
from ravine.part import part
from ravine.protocols import Batch, ForwardContext, ImageShape
from ravine.rng import isolated_rng, stream_seed


@part
class KorniaAugmentation:
    """Any class of kornia.augmentation that changes images and keeps their size.

    `settings` are the class's own, as kornia names them: `{"kernel_size": [3, 3], "sigma": [0.1,
    2.0]}`; they are the same for all networks. The result for one network depends on its batch and
    seed alone. Needs kornia (`pip install 'ravine[images]'`).
    """

    acts: ClassVar[Effect] = Effect("kornia", "mean |change| of pixel values (0 to 1)")
    augmentation: str = "RandomBoxBlur"
    settings: dict[str, Any] = field(default_factory=dict)

    def check_shape(self, image: ImageShape) -> None:
        """Raise `InputError` where kornia cannot do this to such images, or is missing."""
        shape = (1, 2, image.channels, image.height, image.width)
        self._make()
        what = f"{self.augmentation} cannot be done to images of {' x '.join(map(str, shape[2:]))}"
        with wrap_errors(RecipeError, what, "use another transform, or other settings"):
            self(Batch(torch.zeros(shape)), ForwardContext(training=True, seeds=(0,)))

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        made = self._make()
        found = []
        for images, seed in zip(batch.numbers, context.seeds, strict=True):
            with isolated_rng(stream_seed(seed, f"augment/{self.augmentation}", context.step)):
                found.append(made(images))
        return with_pixels(batch, torch.stack(found).view(batch.numbers.shape), context, "kornia")

    def _make(self) -> Any:
        if importlib.util.find_spec("kornia") is None:
            why, do = "kornia is not installed", "install it: pip install 'ravine[images]'"
            raise InputError(f"{self.augmentation} of kornia cannot be used", why=why, do=do)
        kornia = importlib.import_module("kornia.augmentation")
        base = kornia.IntensityAugmentationBase2D, kornia.GeometricAugmentationBase2D
        classes = {n: c for n, c in vars(kornia).items() if isinstance(c, type)}
        known = {n: c for n, c in classes.items() if issubclass(c, base) and c not in base}
        if self.augmentation not in known:
            what = f"kornia has no augmentation {self.augmentation!r}"
            raise RecipeError(what, why=nearest(self.augmentation, known))
        settings = {n: tuple(v) if isinstance(v, list) else v for n, v in self.settings.items()}
        what = f"KorniaAugmentation.settings are {value_text(self.settings)}"
        with wrap_errors(RecipeError, what):
            return known[self.augmentation](**settings)
