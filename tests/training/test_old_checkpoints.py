"""Runs that an earlier version began and left: `tests/old_formats/interrupted*`, resumed by today's
code, end as that version ended them (`finished*`).
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import ravine

OLD_FORMATS = Path(__file__).parents[1] / "old_formats"
RUNS = ("", "-snapshots", "-images")


def two_kinds_of_images():
    """The 60 images of 6 x 6 that the runs named -images learned: bright above, or not."""
    generator, classes = np.random.default_rng(0), np.arange(60) % 2
    images = generator.integers(0, 120, (60, 6, 6)).astype(np.uint8)
    images[classes == 1, :3] += 100
    return images, classes


@pytest.mark.parametrize("name", RUNS)
def test_a_run_begun_by_an_earlier_version_goes_on(tmp_path, name):
    folder = shutil.copytree(OLD_FORMATS / f"interrupted{name}", tmp_path / "run")
    frame = two_kinds_of_images() if name == "-images" else None
    run = ravine.resume(folder, frame, workers=1)
    old = ravine.open_run(OLD_FORMATS / f"finished{name}")
    assert [(m.outcome, m.steps, m.best_step) for m in run.record.members] == [
        (m.outcome, m.steps, m.best_step) for m in old.record.members
    ]
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    expected = safetensors.torch.load_file(OLD_FORMATS / f"finished{name}" / "weights.safetensors")
    assert weights.keys() == expected.keys()
    for slot, value in expected.items():  # to 1e-4: other CPUs add in another order
        torch.testing.assert_close(weights[slot], value, rtol=1e-4, atol=1e-5)
    assert run.record.series.keys() == old.record.series.keys()
    for series, points in old.record.series.items():
        found = run.record.series[series]
        assert found.steps.tolist() == points.steps.tolist()
        np.testing.assert_allclose(found.values, points.values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_an_earlier_version_opens_and_predicts(name):
    run = ravine.open_run(OLD_FORMATS / f"finished{name}")
    assert run.score is not None and run.score.value > 0.8
    if name == "-images":
        images, classes = two_kinds_of_images()
        assert (run.predict(images)["target"] == classes).mean() > 0.9
