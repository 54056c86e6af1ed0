"""Augmentation against Pillow, SciPy, kornia and closed forms; every part against what all of them
promise.
"""

import colorsys
import dataclasses
import math

import kornia
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage, stats

from ravine import augment, catalog, recipe_files
from ravine.augment import colors, geometry, mixing, randaugment, sampling
from ravine.effects import Meter
from ravine.errors import InputError, RecipeError
from ravine.losses import SoftmaxCrossEntropy
from ravine.part import field_types, is_number, rows_of, stack
from ravine.protocols import Batch, ForwardContext, ImageShape
from ravine.training.train import train

SEEDS = (3, 8, 21)
OFF = {
    augment.Flip: {"horizontal": 0.0},
    augment.Crop: {"pixels": 0.0},
    augment.Zoom: {"area": 1.0, "ratio": 1.0},
    augment.Rotate: {"degrees": 0.0},
    augment.Stretch: {"factor": 1.0},
    augment.Shear: {"degrees": 0.0},
    augment.ColorJitter: {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
    augment.Noise: {"sd": 0.0},
    augment.Erase: {"probability": 0.0},
    augment.Mixup: {"alpha": 0.0},
    augment.CutMix: {"alpha": 0.0},
    augment.RandAugment: {"magnitude": 0.0},
    augment.KorniaAugmentation: {"settings": {"p": 0.0}},
}
STRONGER = {
    "vertical": 0.4,
    "pixels": 2.0,
    "area": 0.6,
    "degrees": 30.0,
    "factor": 1.4,
    "hue": 0.2,
    "sd": 0.1,
    "alpha": 0.7,
    "magnitude": 20.0,
    "probability": 0.9,
    "horizontal": 0.7,
    "brightness": 0.5,
    "contrast": 0.4,
    "ratio": 2.0,
    "saturation": 0.6,
}
every = pytest.mark.parametrize("cls", augment.ALL, ids=lambda c: c.__name__)


def now(seeds=SEEDS, step=5, meter=None):
    return ForwardContext(training=True, seeds=list(seeds), step=step, batch=6, meter=meter)


def batch(networks=3, examples=6, shape=(3, 9, 11), seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (networks, examples, *shape), generator=generator).to(dtype) / 255
    return Batch(x, targets=torch.randint(0, 4, (networks, examples), generator=generator))


def of(given, i):
    """The batch of one network."""
    return Batch(*(None if t is None else t[i : i + 1] for t in dataclasses.astuple(given)))


def smooth(height=40, width=48):
    """A smooth picture: what interpolation there can be is nearly exact."""
    y, x = np.mgrid[:height, :width]
    return torch.tensor(
        0.5 + 0.25 * np.sin(x / 5) + 0.25 * np.cos(y / 6 + x / 9), dtype=torch.float64
    )


# Every part


@every
def test_alone_equals_in_a_cohort_with_other_strengths(cls):
    spread = [
        {
            n: STRONGER[n] if i == 1 else getattr(cls(), n)
            for n, hint in field_types(cls).items()
            if is_number(hint)
        }
        for i in range(3)
    ]
    each = [cls(**s) for s in spread]
    given, meter = batch(), Meter(3)
    together = stack(each)(given, now(meter=meter))
    for i, alone in enumerate(each):
        own = Meter(1)
        found = alone(of(given, i), now(SEEDS[i : i + 1], meter=own))
        for name in ("numbers", "targets", "mixed_targets", "mixed_share"):
            mine, theirs = getattr(found, name), getattr(together, name)
            assert (mine is None and theirs is None) or torch.equal(mine[0], theirs[i]), name
        assert own.means()[cls.acts.name][0] == pytest.approx(
            meter.means()[cls.acts.name][i].item(), rel=1e-12
        )
    left = rows_of(stack(each), torch.tensor([2]))(of(given, 2), now(SEEDS[2:]))
    assert torch.equal(left.numbers[0], together.numbers[2])


@every
def test_off_it_changes_nothing_and_says_so(cls):
    given, meter = batch(), Meter(3)
    found = cls(**OFF[cls])(given, now(meter=meter))
    assert torch.equal(found.numbers, given.numbers)
    assert meter.means()[cls.acts.name].tolist() == [0.0] * 3
    assert found.mixed_share is None or not found.mixed_share.any()


@every
def test_on_it_changes_pictures_keeps_labels_and_says_so(cls):
    given, meter = batch(examples=40), Meter(3)
    before = given.numbers.clone()
    found = cls()(given, now(meter=meter))
    assert found.numbers.shape == before.shape and found.numbers.dtype == before.dtype
    assert not torch.equal(found.numbers, before) and torch.equal(given.numbers, before)
    assert found.numbers.min() >= 0 and found.numbers.max() <= 1
    assert torch.equal(found.targets, given.targets)
    assert (meter.means()[cls.acts.name] > 0).all()


@every
def test_each_step_and_each_network_draws_anew_and_a_step_can_be_done_again(cls):
    given = batch(1, 20)
    given = Batch(
        given.numbers.expand(3, *given.numbers.shape[1:]), targets=given.targets.expand(3, -1)
    )
    first, again, later = (cls()(given, now(step=step)).numbers for step in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, later) and not torch.equal(first[0], first[1])


@every
def test_a_nan_network_leaves_the_others_alone(cls):
    given = batch()
    sick = dataclasses.replace(given, numbers=given.numbers.clone())
    sick.numbers[1] = math.nan
    well, found = cls()(given, now()).numbers, cls()(sick, now()).numbers
    assert torch.equal(found[0], well[0]) and torch.equal(found[2], well[2])


@every
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 1), (3, 5, 2), (2, 4, 7)])
def test_grey_small_and_odd_pictures_in_both_precisions(cls, shape):
    if cls is augment.KorniaAugmentation and shape == (1, 1, 1):
        with pytest.raises(RecipeError, match="cannot filter an image this small"):
            augment.check_augmentation((cls(),), ImageShape(*shape, (0.5,), (0.2,)))
        return
    for dtype in (torch.float32, torch.float64):
        given = batch(shape=shape, dtype=dtype, examples=12)
        found = cls()(given, now()).numbers
        assert (
            found.shape == given.numbers.shape and found.dtype == dtype and found.isfinite().all()
        )


@every
def test_strengths_that_make_no_sense_are_refused(cls):
    for name, hint in field_types(cls).items():
        if is_number(hint):
            with pytest.raises(RecipeError, match=f"{cls.__name__}.{name} is -1"):
                cls(**{name: -1.0})


def test_every_part_can_be_written_in_a_recipe():
    for cls in augment.ALL:
        found = recipe_files.with_changes(
            catalog.named_recipe("image"), {"augment": [{"name": cls.__name__}]}
        )
        assert found.augment == (cls(),)


# Places


def test_flips_are_torchs():
    given = batch()
    both = augment.Flip(horizontal=1.0, vertical=1.0)(given, now()).numbers
    assert torch.equal(both, given.numbers.flip(-1, -2))
    assert torch.equal(augment.Flip(horizontal=1.0)(given, now()).numbers, given.numbers.flip(-1))


def test_as_many_are_flipped_as_asked_and_the_meter_counts_them():
    given, meter = batch(examples=4000, shape=(1, 2, 2)), Meter(3)
    found = augment.Flip(horizontal=0.3)(given, now(meter=meter)).numbers
    flipped = (found == given.numbers.flip(-1)).flatten(2).all(2).double().mean(1)
    assert flipped.tolist() == pytest.approx(
        meter.means()["flip"].tolist(), abs=1e-3
    )  # few are symmetric
    assert ((flipped - 0.3).abs() < 4 * math.sqrt(0.3 * 0.7 / 4000)).all()


@pytest.mark.parametrize(
    ("edges", "mode"), [("border", "edge"), ("zeros", "constant"), ("reflection", "symmetric")]
)
def test_shifts_are_cuts_of_numpys_padded_picture(edges, mode):
    x = batch(1, 1).numbers
    padded = np.pad(x[0, 0].numpy(), ((0, 0), (4, 4), (4, 4)), mode=mode)
    for down, right in ((0, 0), (3, -4), (-1, 2), (4, 4)):
        found = geometry.shift_images(x, torch.tensor([[[down, right]]]), edges)
        assert np.array_equal(
            found[0, 0].numpy(), padded[:, 4 - down : 13 - down, 4 - right : 15 - right]
        )


def test_all_shifts_are_equally_likely():
    rows = torch.arange(15.0).view(1, 1, 1, 15, 1).expand(1, 7000, 1, 15, 1)
    found = augment.Crop(pixels=3.0)(Batch(rows), now((4,))).numbers[0, :, 0, 7, 0]
    counts = np.bincount((7 - found).long().numpy() + 3, minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts).pvalue > 0.001


# Warps


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_are_torchs(turns):
    x = batch(1, 2, shape=(3, 12, 12), dtype=torch.float64).numbers
    angle = torch.full((1, 2), turns * math.pi / 2, dtype=torch.float64)
    found = geometry.warp(x, geometry.rotation_maps(angle), "zeros")
    assert torch.allclose(found, x.rot90(turns, (-2, -1)), atol=1e-12)


MAPS = {
    "rotation": geometry.rotation_maps(torch.tensor([[0.3]], dtype=torch.float64)),
    "stretching": geometry.scaling_maps(*torch.tensor([[[0.8]], [[1.2]]], dtype=torch.float64)),
    "zoom": geometry.scaling_maps(
        *torch.tensor([[[0.7]], [[0.6]], [[2.0]], [[-3.0]]], dtype=torch.float64)
    ),
    "shear": geometry.shear_maps(*torch.tensor([[[0.25]], [[-0.1]]], dtype=torch.float64)),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_scipys(name):
    picture, maps = smooth(), MAPS[name]
    found = geometry.warp(picture[None, None, None], maps, "border")[0, 0, 0].numpy()
    matrix = maps[0, 0].numpy()[::-1][:, [1, 0, 2]]  # SciPy's places are (y, x), from the corner
    middle = (np.array(picture.shape) - 1) / 2
    offset = middle + matrix[:, 2] - matrix[:, :2] @ middle
    expected = ndimage.affine_transform(
        picture.numpy(), matrix[:, :2], offset, order=1, mode="nearest"
    )
    assert np.abs(found - expected).max() < 1e-10


def test_a_known_draw_gives_the_angle_factor_and_slant_that_it_says():
    given = Batch(smooth().float().expand(1, 5, 1, -1, -1))
    for name, one, maps in (
        (
            "rotate",
            augment.Rotate(degrees=40.0),
            lambda u: geometry.rotation_maps(torch.deg2rad(40 * u[..., 0])),
        ),
        (
            "stretch",
            augment.Stretch(factor=1.5),
            lambda u: geometry.scaling_maps(1.5 ** -u[..., 0], 1.5 ** -u[..., 1]),
        ),
        (
            "shear",
            augment.Shear(degrees=20.0, vertical=5.0),
            lambda u: geometry.shear_maps(
                torch.deg2rad(20 * u[..., 0]).tan(), torch.deg2rad(5 * u[..., 1]).tan()
            ),
        ),
    ):
        u = (
            2
            * sampling.draw_uniforms(
                sampling.step_generators(now((7,)), name),
                given.numbers,
                5,
                1 if name == "rotate" else 2,
            )
            - 1
        )
        expected = geometry.warp(given.numbers, maps(u), "border")
        assert torch.allclose(one(given, now((7,))).numbers, expected, atol=1e-5), name


def test_networks_with_one_seed_are_paired_whatever_their_strength():
    given = Batch(smooth().expand(2, 30, 1, -1, -1))
    seeds = (7, 7)
    both = stack([augment.Crop(pixels=1.0), augment.Crop(pixels=10.0)])(given, now(seeds)).numbers
    apart = (both - given.numbers).abs().mean((2, 3, 4))
    assert ((apart[1] > apart[0]) | (apart[0] == 0)).all()


def test_zoom_shows_parts_of_the_area_asked():
    """Of a picture that says where each pixel is, the crop's corners can be read."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    given = Batch(torch.stack([y, x]).expand(1, 500, 2, 64, 48))
    found = augment.Zoom(area=0.4, ratio=1.3)(given, now((5,))).numbers[0].double()
    tall = (
        found[:, 0, -2, 0] - found[:, 0, 1, 0]
    ) / 61  # of the height, 62 rows from the second to the last but one
    wide = (found[:, 1, 0, -2] - found[:, 1, 0, 1]) / 45
    assert found[:, 0].min() >= -1e-3 and found[:, 0].max() <= 63.001
    area = tall * wide
    assert area.min() > 0.39 and area.max() <= 1.01 and abs(area.mean() - 0.69) < 0.03


# Colors


PICTURE = batch(1, 1, shape=(3, 13, 10), seed=4).numbers[0]


def pillow(x):
    return Image.fromarray((x[0] * 255).round().permute(1, 2, 0).byte().numpy())


def pixels(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.7])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("brightness", "Brightness"),
        ("contrast", "Contrast"),
        ("saturation", "Color"),
        ("sharpness", "Sharpness"),
    ],
)
def test_strengths_are_pillows(ours, theirs, factor):
    found = getattr(colors, f"adjust_{ours}")(PICTURE, torch.tensor([factor]))
    expected = pixels(getattr(ImageEnhance, theirs)(pillow(PICTURE)).enhance(factor))
    assert (
        found - expected
    ).abs().max() < 2.1 / 255  # Pillow rounds to bytes, and the grey before it


def test_posterizing_solarizing_and_equalizing_are_pillows():
    image = pillow(PICTURE)
    assert torch.allclose(colors.equalize(PICTURE), pixels(ImageOps.equalize(image)), atol=1e-6)
    dull = (PICTURE * 0.3 + 0.2).mul(255).round() / 255
    assert torch.allclose(
        colors.equalize(dull.repeat(1, 1, 9, 9)),
        pixels(ImageOps.equalize(pillow(dull.repeat(1, 1, 9, 9)))),
        atol=1e-6,
    )
    assert (
        colors.autocontrast(dull) - pixels(ImageOps.autocontrast(pillow(dull)))
    ).abs().max() < 1.1 / 255
    for bits in (8, 6, 4, 1):
        found = colors.posterize(PICTURE, torch.tensor([float(bits)]))
        assert torch.allclose(found, pixels(ImageOps.posterize(image, bits)), atol=1e-6)
    for threshold in (1, 100, 200):
        found = colors.solarize(PICTURE, torch.tensor([(threshold - 0.5) / 255]))
        assert torch.allclose(found, pixels(ImageOps.solarize(image, threshold)), atol=1e-6)
    flat = torch.full((1, 3, 4, 4), 0.4)
    assert torch.equal(colors.equalize(flat), flat) and torch.equal(colors.autocontrast(flat), flat)


@pytest.mark.parametrize("turn", [0.0, 0.1, -0.3, 0.5])
def test_hues_are_those_of_colorsys_and_of_kornia(turn):
    found = colors.adjust_hue(PICTURE, torch.tensor([turn]))
    for y, x in ((0, 0), (3, 7), (12, 9)):
        h, s, v = colorsys.rgb_to_hsv(*PICTURE[0, :, y, x].tolist())
        assert found[0, :, y, x].tolist() == pytest.approx(
            colorsys.hsv_to_rgb((h + turn) % 1, s, v), abs=1e-5
        )
    assert torch.allclose(found, kornia.enhance.adjust_hue(PICTURE, 2 * math.pi * turn), atol=1e-4)


def test_noise_has_the_standard_deviation_asked():
    grey = Batch(torch.full((1, 50, 1, 20, 20), 0.5))
    noise = augment.Noise(sd=0.05)(grey, now((2,))).numbers - 0.5
    assert stats.kstest(noise.flatten().numpy() / 0.05, "norm").pvalue > 0.001


def test_randaugment_draws_its_operations_evenly():
    assert len(randaugment.OPERATION_NAMES) == 14
    counts = np.zeros(14)
    for place, name in enumerate(randaugment.OPERATION_NAMES):
        x = batch(1, 1, shape=(3, 16, 16)).numbers[0]
        strong = augment.RandAugment(operations=1)._apply(
            x, torch.tensor([place]), torch.tensor([0.7]).double()
        )
        assert torch.equal(strong, x) == (name == "nothing"), name
    drawn = sampling.draw_uniforms(
        sampling.step_generators(now((3,)), "rand augment"), x, 7000, 1, 2
    )[0, :, 0, 0]
    counts = np.bincount((drawn * 14).long().numpy(), minlength=14)
    assert stats.chisquare(counts).pvalue > 0.001


# Erased and mixed


def test_what_is_erased_is_one_rectangle_of_at_most_the_area_asked():
    x = Batch(torch.full((1, 300, 1, 20, 30), 2.0))
    found = augment.Erase(probability=0.6, area=0.25)(x, now((3,))).numbers[0, :, 0]
    gone = found != 2.0
    for one in gone:
        rows, columns = one.any(1).nonzero(), one.any(0).nonzero()
        if len(rows):
            assert one.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
    share = gone.double().mean((1, 2))
    assert share.max() < 0.27 and abs((share > 0).double().mean() - 0.6) < 0.1
    assert abs(share[share > 0].mean() - 0.125) < 0.02


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_have_the_beta_distribution(alpha):
    given = batch(2, 1500, shape=(1, 1, 1))
    share = augment.Mixup(alpha=alpha)(given, now((3, 9))).mixed_share.double()
    assert share.shape == (2, 1500)
    assert stats.kstest(share.flatten().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.001


@pytest.mark.parametrize("cls", [augment.Mixup, augment.CutMix])
def test_the_loss_of_a_mixture_is_that_of_mixed_targets(cls):
    given = batch(examples=8)
    mixed = cls(alpha=1.0)(given, now())
    outputs = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1))
    loss = SoftmaxCrossEntropy()
    ours = loss.per_example(outputs, mixed.targets)
    ours = ours + mixed.mixed_share * (loss.per_example(outputs, mixed.mixed_targets) - ours)
    one_hot = torch.eye(4)
    soft = (1 - mixed.mixed_share)[..., None] * one_hot[given.targets] + mixed.mixed_share[
        ..., None
    ] * one_hot[mixed.mixed_targets]
    expected = torch.nn.functional.cross_entropy(
        outputs.flatten(0, 1), soft.flatten(0, 1), reduction="none"
    )
    assert torch.allclose(ours.flatten(), expected, atol=1e-6)


def test_mixed_pictures_are_the_share_said_of_both():
    given = batch()
    labels = torch.arange(6).expand(3, -1)
    found = augment.Mixup(alpha=1.0)(dataclasses.replace(given, targets=labels), now())
    for p in range(3):
        assert sorted(found.mixed_targets[p].tolist()) == list(range(6))
        for b in range(6):
            m = found.mixed_share[p, b]
            expected = (1 - m) * given.numbers[p, b] + m * given.numbers[
                p, found.mixed_targets[p, b]
            ]
            assert torch.allclose(found.numbers[p, b], expected, atol=1e-6)


def test_cut_pictures_are_pixels_of_both_in_the_share_said():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 50, 1, 16, 24, generator=generator)
    given = Batch(x, targets=torch.arange(50)[None])
    found = augment.CutMix(alpha=1.0)(given, now((6,)))
    for b in range(50):
        own, other = (
            found.numbers[0, b] == x[0, b],
            found.numbers[0, b] == x[0, found.mixed_targets[0, b]],
        )
        assert (own | other).all()
        if found.mixed_targets[0, b] != b:
            assert other.double().mean().item() == pytest.approx(
                found.mixed_share[0, b].item(), abs=1e-6
            )


def test_weights_of_examples_go_with_them_into_the_mixture():
    """(1 − m) w L + m w' L', whatever L."""
    given = dataclasses.replace(
        batch(), weights=torch.rand(3, 6, generator=torch.Generator().manual_seed(2))
    )
    given.weights[0] = 0
    labels = torch.arange(6).expand(3, -1)
    found = augment.Mixup(alpha=1.0)(dataclasses.replace(given, targets=labels), now())
    m = mixing.beta_quantile(
        1.0, sampling.draw_uniforms(sampling.step_generators(now(), "mixup"), given.numbers, 6)
    ).float()
    of_others = torch.stack([given.weights[p, found.mixed_targets[p]] for p in range(3)])
    assert torch.allclose(found.weights * found.mixed_share, m * of_others, atol=1e-6)
    assert torch.allclose(
        found.weights * (1 - found.mixed_share), (1 - m) * given.weights, atol=1e-6
    )
    assert found.mixed_share.isfinite().all()


# Kornia's own


def test_a_kornia_augmentation_does_what_kornia_does():
    given = batch(1, 4)
    found = augment.KorniaAugmentation(augmentation="RandomInvert", settings={"p": 1.0})(
        given, now((3,))
    ).numbers
    assert torch.allclose(found, 1 - given.numbers, atol=1e-6)
    state = torch.get_rng_state()
    augment.KorniaAugmentation(augmentation="RandomRotation", settings={"degrees": [-20.0, 20.0]})(
        given, now((3,))
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_without_kornia_one_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'ravine\[images\]'"):
        augment.check_augmentation(
            (augment.KorniaAugmentation(),), ImageShape(1, 8, 8, (0.5,), (0.2,))
        )


@pytest.mark.parametrize(
    ("augmentation", "words"),
    [
        (augment.KorniaAugmentation(augmentation="RandomBoxBlurr"), "Did you mean 'RandomBoxBlur'"),
        (augment.KorniaAugmentation(augmentation="RandomMixUpV2"), "kornia has no augmentation"),
        (augment.KorniaAugmentation(settings={"strength": 3}), "unexpected keyword"),
    ],
)
def test_kornia_augmentations_that_do_not_exist_are_refused(augmentation, words):
    with pytest.raises(RecipeError, match=words):
        augment.check_augmentation((augmentation,), ImageShape(1, 8, 8, (0.5,), (0.2,)))


# In training


def pictures(count=60):
    """Bright and dark pictures, and an image recipe small enough to train in a moment."""
    generator = np.random.default_rng(0)
    y = np.arange(count) % 2
    x = (generator.integers(0, 120, (count, 8, 8)) + 120 * y[:, None, None]).astype(np.uint8)
    recipe = (
        catalog.named_recipe("image")
        .vary("network.channels", (4,))
        .vary("epochs", 2)
        .vary("batch", 16)
    )
    return recipe.vary("seeds", 2), (x, y)


def test_a_run_shows_what_each_part_did():
    recipe, frame = pictures()
    parts = tuple(cls() for cls in augment.ALL if cls is not augment.CutMix)
    run = train(recipe.vary("augment", parts), frame, workers=1)
    shown = {e.name: e.values for e in run.record.effects}
    for one in parts:
        assert all(value > 0 for value in shown[one.acts.name]), one


def test_networks_are_judged_on_pictures_as_they_are():
    recipe, frame = pictures()
    still = recipe.vary("optimizer.lr", 0.0).vary("network.norm", None)
    scores = [
        train(still.vary("augment", parts), frame, workers=1).record.score
        for parts in ((), (augment.Noise(sd=1.0), augment.Flip()))
    ]
    assert scores[0] == scores[1]


def test_a_table_cannot_be_augmented():
    recipe = (
        catalog.named_recipe("plain").vary("data.source", "iris").vary("augment", (augment.Flip(),))
    )
    with pytest.raises(RecipeError, match="rows of a table"):
        train(recipe)


@pytest.mark.parametrize(
    "parts",
    [
        (augment.Mixup(), augment.CutMix()),
        (augment.Crop(pixels=1.0), augment.Flip(), augment.Crop()),
    ],
)
def test_parts_that_cannot_stand_together_are_refused(parts):
    recipe, frame = pictures()
    with pytest.raises(RecipeError, match="Leave one of them out"):
        train(recipe.vary("augment", parts), frame)
