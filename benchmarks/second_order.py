"""What second order costs as networks grow: a gradient, a product with the Hessian, the Hessian, a
Newton step.

    OMP_NUM_THREADS=1 python -m benchmarks.second_order [--widths 50,100,...] [--seconds 1] [--json
    FILE]

Networks with one hidden layer of tanh on 256 examples of 10 numbers, in float64, on one thread.
Medians of as many repeats as fit in the seconds, three at least; CPU time. Memory is the most that
torch's tensors took beyond what was there, as its profiler counts it. Exponents are slopes of the
logarithm over log N, fitted from 390 weights on. Then products beside gradients for whole
populations, in float32.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from ravine.losses import SoftmaxCrossEntropy, SquaredError
from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.mlp import Mlp
from ravine.probes.curvature import Objective, gaussian
from ravine.probes.noise import squared_gradient_norms
from ravine.protocols import Batch, Signature
from ravine.training.determinism import exact_arithmetic

WIDTHS = (50, 100, 200, 400, 800, 1200, 1600, 2000)
NUMBERS, EXAMPLES, FITTED = 10, 256, 390
POPULATIONS = (((2, 16, 16, 2), 128, 64), ((64, 100, 10), 256, 64), ((784, 128, 10), 256, 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--widths", type=lambda text: tuple(map(int, text.split(","))), default=WIDTHS
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of a measurement, about")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with exact_arithmetic():
        rows = [one_width(width, args.seconds) for width in args.widths]
        show(rows)
        populations = [population(*case, seconds=args.seconds) for case in POPULATIONS]
        show_populations(populations)
    if args.json:
        args.json.write_text(json.dumps({"widths": rows, "populations": populations}, indent=1))


# One network


def one_width(width: int, seconds: float) -> dict[str, Any]:
    """Milliseconds and megabytes of each operation for one network of about `width` weights."""
    hidden = max(1, round((width - 1) / (NUMBERS + 2)))
    program = BatchedNetwork(Mlp(hidden=(hidden,), activation=Tanh()), Signature(NUMBERS, (), 1))
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(1, EXAMPLES, n, generator=generator, dtype=torch.float64) for n in (NUMBERS, 1)
    )
    objective = Objective.of_program(program, SquaredError(), Batch(x, None, y))
    rows = program.start([0])[0].double()
    point, v, width = objective.at(rows), gaussian(rows, 0), rows.shape[1]
    hessian, grads = objective.hessian(rows), point.grads
    damped = hessian + torch.eye(width, dtype=torch.float64)
    operations: dict[str, Callable[[], Any]] = {
        "gradient": lambda: objective.value_and_grad(rows),
        "product": lambda: point.product(v),
        "Hessian": lambda: objective.hessian(rows),
        "Newton solve": lambda: torch.linalg.solve_ex(damped, grads[..., None]),
        "eigenvectors": lambda: torch.linalg.eigh(hessian),
    }
    return {
        "weights": width,
        "ms": {n: 1e3 * seconds_of(f, seconds) for n, f in operations.items()},
        "MB": {n: megabytes_of(f) for n, f in operations.items()},
    }


def seconds_of(call: Callable[[], Any], seconds: float) -> float:
    """The median CPU time of a call: other programs on the machine count less than in time on the
    clock.
    """
    call()
    took: list[float] = []
    while len(took) < 3 or (sum(took) < seconds and len(took) < 1000):
        begun = time.process_time()
        call()
        took.append(time.process_time() - begun)
    return statistics.median(took)


def megabytes_of(call: Callable[[], Any]) -> float:
    """The most memory that tensors took during a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = call()
    del kept
    events: list[Any] = seen.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [
        e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()) if e.name() == "[memory]"
    ]
    return max([0, *itertools.accumulate(changes)]) / 1e6


def exponent(rows: list[dict[str, Any]], unit: str, name: str) -> float:
    """The slope of log (time or memory) over log N."""
    fitted = [
        (r["weights"], r[unit][name]) for r in rows if r["weights"] >= FITTED and r[unit][name] > 0
    ]
    if len(fitted) < 2:
        return float("nan")
    x, y = np.log(np.array(fitted)).T
    return float(np.polyfit(x, y, 1)[0])


def show(rows: list[dict[str, Any]]) -> None:
    for unit in ("ms", "MB"):
        names = list(rows[0][unit])
        print(f"\n{unit:>8}" + "".join(f"{name:>14}" for name in names))
        for r in rows:
            print(f"{r['weights']:8}" + "".join(f"{r[unit][name]:14.3f}" for name in names))
        print("exponent" + "".join(f"{exponent(rows, unit, name):14.2f}" for name in names))


# Populations


def population(
    sizes: tuple[int, ...], batch: int, networks: int, *, seconds: float
) -> dict[str, Any]:
    """What products and per-example lengths cost beside a gradient of the same population."""
    program = BatchedNetwork(Mlp(hidden=sizes[1:-1]), Signature(sizes[0], (), sizes[-1]))
    generator, loss = torch.Generator().manual_seed(0), SoftmaxCrossEntropy()
    x = torch.randn(1, batch, sizes[0], generator=generator)
    examples = Batch(x, None, torch.randint(sizes[-1], (1, batch), generator=generator))
    objective = Objective.of_program(program, loss, examples)
    rows = program.start(range(networks))[0]
    point, v = objective.at(rows), gaussian(rows, 0)
    gradient = seconds_of(lambda: objective.value_and_grad(rows), seconds)
    ways: dict[str, Callable[[], Any]] = {
        "product": lambda: point.product(v),
        "with its graph": lambda: objective.at(rows).product(v),
        "example lengths": lambda: squared_gradient_norms(program, loss, rows, examples),
    }
    return {
        "net": "-".join(map(str, sizes)),
        "networks": networks,
        "gradient, ms": 1e3 * gradient / networks,
        "over a gradient": {
            name: seconds_of(call, seconds) / gradient for name, call in ways.items()
        },
    }


def show_populations(found: list[dict[str, Any]]) -> None:
    names = list(found[0]["over a gradient"])
    print(
        f"\n{'population':24}{'gradient, ms each':>18}" + "".join(f"{name:>17}" for name in names)
    )
    for f in found:
        costs = "".join(f"{f['over a gradient'][name]:17.2f}" for name in names)
        print(f"{f['networks']:4} x {f['net']:17}{f['gradient, ms']:18.3f}{costs}")


if __name__ == "__main__":
    main()
