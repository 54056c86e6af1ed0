"""Ravine and its peers side by side: time for a network-step, and time to the same validation loss.

    python -m benchmarks.speed [--quick] [--peers ravine,loop] [--nets 64-100-10] [--json FILE]

Each peer has a process of its own with one thread, all on the same core. A repeat measures every
peer once, in an order drawn anew, so what disturbs the machine for a while disturbs all of them:
ratios are taken within a repeat, and their median and range over the repeats are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cases import CASES, MOMENTUM, RATES, Case
from benchmarks.peers import PEERS, THREADS

ROOT = Path(__file__).parents[1]
NETWORKS = (1, 8, 32, 128)
LOSS_NET, LOSS_EPOCHS, LOSS_NETWORKS = "64-100-10", 10, (1, 32)
ONE_THREAD = {
    **{f"{name}_NUM_THREADS": str(THREADS) for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")},
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "KERAS_BACKEND": "torch",
}


class Target(NamedTuple):
    """At least this many times as fast as a peer, with so many networks of a net (any net where
    None).
    """

    net: str | None
    networks: int
    peer: str
    ratio: float


TARGETS = (
    Target("20-64-64-2", 32, "loop", 15),
    Target("64-100-10", 32, "loop", 8),
    Target("64-100-10", 32, "sklearn", 8),
    Target("784-256-256-10", 32, "hand", 1.5),
    Target(None, 1, "loop", 1.3),
    Target(None, 1, "sklearn", 1.2),
    Target(None, 1, "lightning", 3),
    Target("2-16-16-2", 32, "jax", 1 / 3),
    Target("20-64-64-2", 32, "jax", 1 / 1.5),
    Target("64-100-10", 32, "jax", 1 / 1.5),
    Target("784-256-256-10", 32, "jax", 1 / 1.5),
)


class Entry(NamedTuple):
    """A measurement: so many networks of a net with an optimizer, by a peer (networks: 1 where it
    cannot batch).
    """

    net: str
    optimizer: str
    peer: str
    networks: int


def main() -> None:
    args = arguments()
    workers = {name: Worker(name, core=args.core) for name in args.peers}
    missing = {name: w.hello["missing"] for name, w in workers.items() if "missing" in w.hello}
    workers = {name: w for name, w in workers.items() if name not in missing}
    before = os.getloadavg()
    result: dict[str, Any] = {
        "machine": machine(),
        "missing": missing,
        "threads": THREADS,
        "flush_denormals": True,
        "repeats": args.repeats,
        "versions": {k: v for w in workers.values() for k, v in w.hello["versions"].items()},
        "data": {net: CASES[net].data().source for net in args.nets},
    }
    describe(result, sys.stdout)
    result["steps"] = []
    for net in args.nets:
        for optimizer in args.optimizers:
            table = measure(workers, CASES[net], optimizer, args)
            result["steps"] += table
            print_steps(table, net, optimizer)
    if LOSS_NET in args.nets and not args.no_loss:
        result["to_loss"] = [to_loss(workers, CASES[LOSS_NET], o, args) for o in args.optimizers]
        for found in result["to_loss"]:
            print_to_loss(found)
    if "ravine" in workers:
        result["targets"] = print_targets(result["steps"])
    result["load"] = {"before": before, "after": os.getloadavg()}
    print(
        f"\nload of the machine before {before[0]:.1f}, after {result['load']['after'][0]:.1f} (of "
        f"which we make 1)"
    )
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))
    for worker in workers.values():
        worker.end()


# Measuring


class Worker:
    """The process of a peer."""

    def __init__(self, peer: str, *, core: int):
        command = [sys.executable, "-m", "benchmarks.worker", peer, str(core)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
        )
        self.peer, self.hello = peer, self._read()

    def ask(self, **what: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps(what), file=self.process.stdin, flush=True)
        return self._read()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"the process of {self.peer} ended with {self.process.wait()}; its error is above"
            )
        return json.loads(line)


def measure(
    workers: dict[str, Worker], case: Case, optimizer: str, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Microseconds a network-step for each entry, all repeats."""
    entries = [
        Entry(case.name, optimizer, name, n)
        for name, w in workers.items()
        for n in (args.networks if w.hello["batched"] else (1,))
    ]
    first = {
        e: _ask(workers, case, e, epochs=1) for e in entries
    }  # warms up; for JAX this compiles
    times: dict[Entry, list[dict[str, float]]] = {e: [] for e in entries}
    for repeat in range(args.repeats):
        for entry in random.Random(repeat).sample(entries, len(entries)):
            epochs = case.quick if args.quick else case.epochs
            fewer = max(1, entry.networks // 16)  # of many networks, as many network-steps as of 16
            times[entry].append(_ask(workers, case, entry, epochs=max(1, epochs // fewer)))
    rows = []
    for e in entries:
        cpu, wall = ([t[what] * 1e6 for t in times[e]] for what in ("cpu", "wall"))
        prepared = first[e]["prepared"] - statistics.median(t["prepared"] for t in times[e])
        rows.append({**e._asdict(), "cpu": cpu, "wall": wall, "first_prepared": prepared})
    return rows


def _ask(workers: dict[str, Worker], case: Case, e: Entry, *, epochs: int) -> dict[str, float]:
    return workers[e.peer].ask(
        watched=False, case=case.name, optimizer=e.optimizer, networks=e.networks, epochs=epochs
    )


def to_loss(
    workers: dict[str, Worker], case: Case, optimizer: str, args: argparse.Namespace
) -> dict[str, Any]:
    """CPU milliseconds a network until the validation loss that the plain loop has after some
    epochs.

    Peers that cannot batch train one network, another one in each repeat; cohorts are paid for
    until the last of their networks is there.
    """
    asked = {"watched": True, "case": case.name, "optimizer": optimizer, "epochs": LOSS_EPOCHS}
    curve = workers[next(n for n in ("loop", "hand", *workers) if n in workers)].ask(
        **asked, networks=1, first=0
    )
    threshold = min(loss for (loss, *_) in curve["losses"])
    rows = []
    repeats = 3
    for name, worker in workers.items():
        for networks in LOSS_NETWORKS if worker.hello["batched"] else (1,):
            longer = {**asked, "epochs": 3 * LOSS_EPOCHS, "networks": networks}
            found = [worker.ask(**longer, first=r) for r in range(repeats)]
            reached = [_first(f, threshold) for f in found]
            rows.append(
                {
                    "peer": name,
                    "networks": networks,
                    "epochs": [r and r[0] for r in reached],
                    "milliseconds": [r and 1e3 * r[1] / networks for r in reached],
                    "least": [min(loss[0] for loss in f["losses"]) for f in found],
                }
            )
    return {"net": case.name, "optimizer": optimizer, "threshold": threshold, "rows": rows}


def _first(found: dict[str, Any], threshold: float) -> tuple[int, float] | None:
    """Epoch and seconds at which every network has once been at the threshold."""
    there = [False] * len(found["losses"][0])
    for epoch, (cpu, losses) in enumerate(zip(found["cpu"], found["losses"], strict=True)):
        there = [t or loss <= threshold for t, loss in zip(there, losses, strict=True)]
        if all(there):
            return epoch + 1, cpu
    return None


# Telling


def machine() -> dict[str, Any]:
    """The processor and the versions; no names."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    named = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    family = ", ".join(f"{k} {named[k]}" for k in ("cpu family", "model") if k in named)
    return {
        "processor": f"{named.get('model name', platform.processor())} ({family})",
        "cores": os.cpu_count(),
        "cache": named.get("cache size", "unknown"),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def describe(result: dict[str, Any], out: Any) -> None:
    m = result["machine"]
    print(
        f"{m['processor']}, {m['cores']} cores, cache {m['cache']}; Python {m['python']}, "
        f"{m['system']}",
        file=out,
    )
    print(", ".join(f"{k} {v}" for k, v in sorted(result["versions"].items())), file=out)
    print(
        f"{THREADS} thread each, denormals flushed, {result['repeats']} paired repeats; "
        f"lr {RATES}, momentum {MOMENTUM}",
        file=out,
    )
    for net, source in result["data"].items():
        print(
            f"  {net}: batch {CASES[net].batch}, {CASES[net].examples} examples, {source}", file=out
        )
    for peer, why in result["missing"].items():
        print(f"  left out: {peer} ({why})", file=out)


def print_steps(table: Sequence[dict[str, Any]], net: str, optimizer: str) -> None:
    ravine = {row["networks"]: row for row in table if row["peer"] == "ravine"}
    base = ravine or {1: next((row for row in table if row["peer"] == "loop"), table[0])}
    name = next(iter(base.values()))["peer"]
    print(
        f"\n{net}, {optimizer}: microseconds a network-step (CPU; wall), and times as slow as "
        f"{name} [range]"
    )
    for row in table:
        cpu, wall = statistics.median(row["cpu"]), statistics.median(row["wall"])
        told = "  ".join(f"{n}: {_ratio(row, other)}" for n, other in _beside(row, base))
        first = f"   compiled in {row['first_prepared']:.1f} s" if row["peer"] == "jax" else ""
        print(
            f"  {PEERS[row['peer']]:34}{row['networks']:4} networks {cpu:9.1f} {wall:9.1f}   "
            f"{told}{first}"
        )


def _beside(
    row: dict[str, Any], base: dict[int, dict[str, Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """What a row is compared with: the same number of networks; any number where the peer trains
    one after another.
    """
    for networks, other in base.items():
        if row["peer"] != other["peer"] and (
            row["peer"] != "jax" or row["networks"] == networks or len(base) == 1
        ):
            yield networks, other


def ratios(row: dict[str, Any], other: dict[str, Any]) -> list[float]:
    """Times as slow, repeat by repeat."""
    return [a / b for a, b in zip(row["cpu"], other["cpu"], strict=True)]


def _ratio(row: dict[str, Any], other: dict[str, Any]) -> str:
    found = sorted(ratios(row, other))
    return f"{statistics.median(found):.2f} [{found[0]:.2f}-{found[-1]:.2f}]"


def print_to_loss(found: dict[str, Any]) -> None:
    print(
        f"\n{found['net']}, {found['optimizer']}: CPU milliseconds a network to validation loss "
        f"{found['threshold']:.4f}"
    )
    for row in found["rows"]:
        known = [
            (ms, e)
            for ms, e in zip(row["milliseconds"], row["epochs"], strict=True)
            if ms is not None
        ]
        text = (
            "not reached"
            if not known
            else (
                f"{statistics.median(ms for ms, _ in known):9.1f}   epochs "
                f"{statistics.median(e for _, e in known):.0f}"
            )
        )
        text += (
            f" ({len(known)} of {len(row['epochs'])} repeats)"
            if len(known) < len(row["epochs"])
            else ""
        )
        print(f"  {PEERS[row['peer']]:34}{row['networks']:4} networks {text}")


def print_targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was to be reached, and what was: peer's time over ravine's."""
    print("\nto reach: times as fast as a peer")
    told = []
    for target in TARGETS:
        for ours in rows:
            fits = (ours["peer"], ours["networks"]) == (
                "ravine",
                target.networks,
            ) and target.net in (None, ours["net"])
            theirs = next(
                (
                    r
                    for r in rows
                    if fits
                    and r["peer"] == target.peer
                    and r["net"] == ours["net"]
                    and r["optimizer"] == ours["optimizer"]
                    and r["networks"] in (1, target.networks)
                    and (target.peer != "jax" or r["networks"] == target.networks)
                ),
                None,
            )
            if theirs is None:
                continue
            value = statistics.median(ratios(theirs, ours))
            met = value >= target.ratio
            where = {"net": ours["net"], "optimizer": ours["optimizer"]}
            told.append({**target._asdict(), **where, "value": value, "met": met})
            print(
                f"  {'reached' if met else 'MISSED ':8} {target.networks:4} x {ours['net']:15} "
                f"{ours['optimizer']:5} "
                f"against {target.peer:10} {value:7.2f}  (to reach {target.ratio:.2f})"
            )
    return told


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])

    def names(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument("--peers", type=names, default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--nets", type=names, help=", ".join(CASES))
    parser.add_argument("--optimizers", type=names, default=list(RATES), help=", ".join(RATES))
    parser.add_argument(
        "--networks", type=lambda text: [int(n) for n in text.split(",")], help="1,8,32,128"
    )
    parser.add_argument("--repeats", type=int)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="about two minutes: without the largest net, 1 and 32 networks, 3 short repeats",
    )
    parser.add_argument("--no-loss", action="store_true", help="only the times of steps")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
    parser.add_argument(
        "--core", type=int, default=max(cores), help="the core that all processes share"
    )
    args = parser.parse_args()
    args.nets = args.nets or (list(CASES)[:3] if args.quick else list(CASES))
    lists = (
        ("peer", args.peers, PEERS),
        ("net", args.nets, CASES),
        ("optimizer", args.optimizers, RATES),
    )
    for kind, given, known in lists:
        for name in given:
            if name not in known:
                parser.error(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    args.networks = args.networks or ((1, 32) if args.quick else NETWORKS)
    args.repeats = args.repeats or (3 if args.quick else 7)
    return args


if __name__ == "__main__":
    main()
