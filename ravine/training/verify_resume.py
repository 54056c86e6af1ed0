"""Proof that a recipe resumes: kill it at random, go on, compare with a run never stopped."""

import dataclasses
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine.argument_checks import Count, check_arguments
from ravine.errors import RunError
from ravine.files import run_state
from ravine.recipe import Recipe
from ravine.recipe_files import plain_recipe
from ravine.training.defaults import prepare

CHILD_SCRIPT = """
import json, sys
from pathlib import Path
from ravine.recipe_files import recipe_from
from ravine.training.train import resume, train
folder, recipe = Path(sys.argv[1]), recipe_from(json.loads(sys.argv[2]))
if (folder / "plan.json").exists():
    resume(folder, workers=1, checkpoint_seconds=0.0)
else:
    train(recipe, out=folder, workers=1, checkpoint_seconds=0.0)
"""
COMPARED_FILES = ("weights.safetensors", "series.csv")


@dataclass(frozen=True)
class ResumeProof:
    """What differs between a run that was killed and resumed and one never stopped."""

    kills: int
    wanted: int  # kills that were asked for; the run may end before
    different: tuple[str, ...]

    def summary(self) -> str:
        """The result in a sentence."""
        after = f"after {self.kills} {'kill' if self.kills == 1 else 'kills'}"
        if self.kills < self.wanted:
            after += f" of {self.wanted} (the run ended before the next)"
        if self.different:
            return f"different {after}: {', '.join(self.different)}"
        return f"the same bit for bit {after}: weights, series and score"

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        return {"same": not self.different, **dataclasses.asdict(self)}


def prove_resume(recipe: Recipe, *, kills: Count, say: Callable[[str], None]) -> ResumeProof:
    """Compare a run that is killed and resumed `kills` times with one never stopped.

    Works in a temporary folder. Raises `InputError` where the recipe cannot be trained, and
    `RunError` where it fails on the way or trains so fast that it was never killed.
    """
    check_arguments(prove_resume, locals())
    prepare(recipe)  # raises here, before a process is started
    with tempfile.TemporaryDirectory() as name:
        whole, pieces = Path(name) / "whole", Path(name) / "pieces"
        began = time.monotonic()
        _train(whole, recipe)
        seconds = time.monotonic() - began
        say(f"trained without a stop in {seconds:.1f} s")
        killed = 0
        for _ in range(kills):
            if run_state(pieces) == "finished":
                break
            if _train(pieces, recipe, kill_after=random.uniform(0.0, 0.5 * seconds)):
                killed += 1
                say(f"killed {killed} of {kills} times")
            else:
                say(f"the run ended before kill {killed + 1} of {kills}")
        if run_state(pieces) != "finished":
            _train(pieces, recipe)
        if not killed:
            what, why = "the run ended before it could be killed", "so nothing was proved"
            raise RunError(what, why=why, do="train for longer, such as --set epochs=100")
        different = [f for f in COMPARED_FILES if _bytes_of(whole / f) != _bytes_of(pieces / f)]
        records = [json.loads((run / "record.json").read_text("utf-8")) for run in (whole, pieces)]
        if records[0]["score"] != records[1]["score"]:
            different.append("score")
    return ResumeProof(killed, kills, tuple(different))


def _train(folder: Path, recipe: Recipe, kill_after: float = math.inf) -> bool:
    """Train in a process, or go on; whether it was killed, so long after its first checkpoint."""
    given = json.dumps(plain_recipe(recipe))
    command = [sys.executable, "-c", CHILD_SCRIPT, str(folder), given]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            if kill_after < math.inf and _is_alive_after(process, folder, kill_after):
                return True
            _, complaint = process.communicate()
        finally:
            process.kill()  # also where a signal ends the proof
    if process.returncode:
        lines = complaint.strip().splitlines() or [f"exit code {process.returncode}"]
        why = re.sub(r"^ravine\.errors\.\w+: ", "", lines[-1])  # what was raised on purpose
        raise RunError("the recipe cannot be trained", why=why, do="fix the recipe first")
    return False


def _is_alive_after(process: subprocess.Popen, folder: Path, seconds: float) -> bool:
    """Wait so long after a run's first checkpoint; whether it still trains."""
    while process.poll() is None and not list(folder.glob("checkpoint-*.safetensors")):
        time.sleep(0.01)
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process.poll() is None


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
