"""How long it takes to start: `import ravine` and `ravine --help`, beside Python alone; and whether
torch was imported.

python -m benchmarks.startup [--repeats 15]
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 0.3  # seconds for `ravine --help`
IMPORT = "import sys, ravine; sys.exit(3 if 'torch' in sys.modules else 0)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    command = shutil.which("ravine", path=str(Path(sys.executable).parent)) or shutil.which(
        "ravine"
    )
    ways = {
        "python": [sys.executable, "-c", "pass"],
        "import ravine": [sys.executable, "-c", IMPORT],
        "ravine --help": [command, "--help"]
        if command
        else [sys.executable, "-m", "ravine", "--help"],
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name in random.Random(repeat).sample(list(ways), len(ways)):
            begun = time.perf_counter()
            done = subprocess.run(ways[name], capture_output=True, text=True)
            if repeat:  # the first fills the disk's cache
                took[name].append(time.perf_counter() - begun)
            if done.returncode == 3 and name == "import ravine":
                sys.exit("`import ravine` imports torch")
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
    for name, seconds in took.items():
        print(
            f"{name:15} {statistics.median(seconds):6.3f} s  [{min(seconds):.3f} .. "
            f"{max(seconds):.3f}]"
        )
    slow = statistics.median(took["ravine --help"]) > LIMIT
    print(
        f"ravine --help {'misses' if slow else 'keeps'} its limit of {LIMIT} s; import ravine "
        f"imports no torch"
    )


if __name__ == "__main__":
    main()
