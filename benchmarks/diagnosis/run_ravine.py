"""Ravine as the doctor: `ravine.watch` in loops, `ravine.examine` on setups.

    python -m benchmarks.diagnosis.run_ravine NAME [--seed 0]

prints what it finds in the scripts whose name contains NAME.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

import ravine
from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.training_script import TrainingScript, TrainingSetup
from ravine.examination.api import examine
from ravine.finding import Finding, Report, arrange
from ravine.reporting.findings_text import finding_text
from ravine.watching.watcher import Watcher


def doctor(script: TrainingScript, seed: int) -> list[dict[str, Any]]:
    """The findings on one script, as `--json` writes them, most important first."""
    if script.kind == "loop":
        return watch_loop(script, seed)
    return examine_setup(script.build(seed), seed).to_json()["findings"]


def examine_setup(setup: TrainingSetup, seed: int) -> Report:
    return examine(
        setup.model,
        setup.loss,
        setup.train,
        optimizer=setup.optimizer,
        validation=setup.validation,
        batch_size=setup.batch_size,
        epochs=setup.epochs,
        seed=seed,
    )


def watch_loop(script: TrainingScript, seed: int) -> list[dict[str, Any]]:
    """What is found while a loop runs; a script that watches several models or optimizers has one
    list.
    """
    watchers: list[Watcher] = []

    def watch(*args: Any) -> Watcher:
        watchers.append(ravine.watch(*args, quiet=True))
        return watchers[-1]

    script.run(seed, watch)
    broken = [message for w in watchers for message in w.report().checks.failed]
    if broken:
        raise RuntimeError(f"watching failed: {', '.join(broken)}")
    return [f.to_json() for f in arrange(f for w in watchers for f in w.findings())]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", help="scripts whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for script in ALL:
        if options.name in script.name:
            print(f"\n{script.name}: {', '.join(sorted(script.causes)) or 'healthy'}")
            for finding in doctor(script, options.seed):
                print(finding_text(Finding.from_json(finding)))


if __name__ == "__main__":
    main()
