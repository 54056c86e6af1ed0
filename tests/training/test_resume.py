"""A run that was killed and resumed ends with the numbers of one that was never stopped, bit for
bit.
"""

import dataclasses
import os
import random
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest

from ravine import catalog, optimizers, schedules
from ravine.data import Data
from ravine.early_stopping import EarlyStopping
from ravine.effects import Meter
from ravine.errors import RunError
from ravine.networks import layer_parts, mlp
from ravine.part import stack
from ravine.training.cohort_state import TrainingLog
from ravine.training.job_control import STEPS_BETWEEN_CONTROLS, JobControl
from ravine.training.train import resume, train
from ravine.training.verify_resume import CHILD_SCRIPT

EVERYTHING = dict(
    data=Data(source="iris"),
    network=mlp.Mlp(
        hidden=(13, 7), norm=layer_parts.BatchNorm(), dropout=layer_parts.Dropout(rate=0.3)
    ),
    optimizer=optimizers.AdamW(lr=0.01),
    schedule=schedules.SGDR(),
    average=optimizers.Ema(),
    stop=EarlyStopping(patience=4),
    epochs=15,
    seeds=3,
)


def everything(**changes):
    return dataclasses.replace(catalog.plain(), **{**EVERYTHING, **changes})


class Killed(Exception):
    pass


def killed_at(evaluation):
    """A report that ends the process's training at its n-th evaluation, as a kill would: nothing is
    tidied up.
    """
    seen = []

    def report(progress):
        seen.append(progress)
        if len(seen) == evaluation:
            raise Killed

    return report


def files(folder):
    return {
        p.name: p.read_bytes()
        for p in folder.iterdir()
        if p.name in ("weights.safetensors", "series.csv")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return train(everything(), out=folder, workers=1), files(folder)


@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_a_killed_run_ends_as_if_never_stopped(tmp_path, whole, evaluation):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(
            everything(),
            out=folder,
            workers=1,
            checkpoint_seconds=0.0,
            report=killed_at(evaluation),
        )
    assert not (folder / "record.json").exists()
    # the first kill comes before there is one: the run begins anew
    assert (folder / "checkpoint-0.safetensors").exists() is (evaluation > 1)
    run = resume(folder, workers=1, checkpoint_seconds=0.0)
    assert files(folder) == whole[1]
    assert run.record.score == whole[0].record.score
    assert run.record.effects == whole[0].record.effects
    assert not list(folder.glob("checkpoint-*"))


def test_many_kills_in_a_row(tmp_path, whole):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(everything(), out=folder, workers=1, checkpoint_seconds=0.0, report=killed_at(2))
    checkpoints = set()
    for _ in range(2):
        checkpoints.add((folder / "checkpoint-0.safetensors").read_bytes())
        with pytest.raises(Killed):
            resume(folder, workers=1, checkpoint_seconds=0.0, report=killed_at(2))
    assert len(checkpoints) == 2  # the second resume began further on
    resume(folder, workers=1)
    assert files(folder) == whole[1]


# whole Hessians take their time: Newton's methods resume, on smaller networks, in
# tests/optimizers/test_second_order.py
RULES = [c for c in optimizers.ALL if c not in (optimizers.Newton, optimizers.SaddleFreeNewton)]


@pytest.mark.parametrize("cls", RULES, ids=lambda c: c.__name__)
def test_every_optimizer_resumes(tmp_path, cls):
    recipe = everything(optimizer=cls(), average=None, epochs=3, seeds=2, stop=None)
    train(recipe, out=tmp_path / "whole", workers=1, baseline=False)
    with pytest.raises(Killed):
        train(recipe, out=tmp_path / "run", workers=1, checkpoint_seconds=0.0, report=killed_at(2))
    assert list((tmp_path / "run").glob("checkpoint-*"))
    resume(tmp_path / "run", workers=1, baseline=False)
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_kill_dash_nine_at_a_random_moment(tmp_path):
    recipe = catalog.plain().vary("data.source", "digits").vary("epochs", 8).vary("seeds", 2)
    train(recipe, out=tmp_path / "whole", workers=1, checkpoint_seconds=0.0, baseline=False)
    run, program = tmp_path / "run", tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        from ravine import catalog
        from ravine.training.train import train
        recipe = catalog.plain().vary("data.source", "digits").vary("epochs", 8).vary("seeds", 2)
        train(recipe, out={str(run)!r}, workers=1, checkpoint_seconds=0.0, baseline=False)
    """)
    )
    moment = random.Random(time.time_ns())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, program], env=environment)
    deadline = time.monotonic() + 60
    while process.poll() is None and not list(run.glob("checkpoint-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(moment.uniform(0.0, 0.2))
    process.kill()
    process.wait()
    if not (run / "record.json").exists():  # it may have finished before the kill
        resume(run, workers=1, baseline=False)
    assert files(run) == files(tmp_path / "whole")


def test_networks_that_have_all_left_are_saved_once_their_weights_are_final(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    control = JobControl(
        checkpoint=path, stop=tmp_path, seconds=0.0
    )  # a stop is asked for, and a checkpoint due
    log = TrainingLog(Meter(1))
    gone = SimpleNamespace(ids=[], step=STEPS_BETWEEN_CONTROLS, log=log)
    assert not control(gone) and not control.interrupted and not path.exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        train(everything(), out=folder, workers=1, checkpoint_seconds=0.0, report=killed_at(2))
    checkpoint = folder / "checkpoint-0.safetensors"
    data = bytearray(checkpoint.read_bytes())
    data[-5] ^= 1
    checkpoint.write_bytes(data)
    with pytest.raises(RunError, match="is damaged"):
        resume(folder, workers=1)
    checkpoint.write_bytes(data[:100])
    with pytest.raises(RunError, match="is damaged"):
        resume(folder, workers=1)


def test_a_finished_run_and_a_folder_that_is_none_are_refused(tmp_path):
    with pytest.raises(RunError, match="is not a run"):
        resume(tmp_path)
    train(everything(epochs=1), out=tmp_path / "run", workers=1)
    with pytest.raises(RunError, match="is finished"):
        resume(tmp_path / "run")


def test_stacking_does_not_change_what_a_recipe_says():
    network = stack([everything()] * 2).network
    assert isinstance(network, mlp.Mlp) and network.hidden == (13, 7)


def test_what_the_proof_of_resuming_imports_exists():
    lines = [line for line in CHILD_SCRIPT.splitlines() if line.startswith(("import ", "from "))]
    assert len(lines) == 4
    exec("\n".join(lines), {})
