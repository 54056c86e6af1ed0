"""Jobs on a cluster of Ray or Dask: each is one of the cluster's own tasks.

Data are put on the cluster once and named by the tasks that need them. A task whose worker dies is
begun anew elsewhere by the cluster; a job gives the same numbers wherever it trains.
"""

import functools
import importlib
import logging
import math
import os
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ravine.data import Task
from ravine.errors import InputError, Interrupted, RavineError, RunError, first_line
from ravine.files import write_atomically
from ravine.training.job_control import JobControl
from ravine.training.jobs import JobAssignment
from ravine.training.results import JobResult

RAY_SCHEMES, DASK_SCHEMES = ("ray", "ray://"), ("dask", "tcp://", "tls://", "ucx://")
CONNECT_SECONDS = 20.0
POLL_SECONDS = 0.05
DATA_KEPT = 4  # tasks whose data stay on the cluster

# trains one job: assignment without its data, its control, the data, the bytes of its checkpoint
# (empty: it has none yet; None: none is kept)
TrainJob: TypeAlias = Callable[
    [JobAssignment, JobControl, Task, bytes | None], tuple[JobResult, bytes | None]
]


class Cluster(ABC):
    """Where tasks run. `count` is how many run at once."""

    count: int

    def __init__(self) -> None:
        self.sent: dict[int, tuple[Task, Any]] = {}  # the data that are there, and their names

    def name_of(self, task: Task) -> Any:
        """What names some data on the cluster; they are sent there where they are not yet."""
        if id(task) not in self.sent:
            while len(self.sent) >= DATA_KEPT:
                del self.sent[next(iter(self.sent))]
            self.sent[id(task)] = (task, self.send(task))
        return self.sent[id(task)][1]

    @abstractmethod
    def send(self, task: Task) -> Any:
        """Send data to the cluster; what is returned names them."""

    @abstractmethod
    def submit(self, call: TrainJob, *arguments: Any) -> Any:
        """Begin a task; among the arguments may be what `send` returned."""

    @abstractmethod
    def is_done(self, future: Any) -> bool:
        """Whether a task has ended, well or not."""

    @abstractmethod
    def result(self, future: Any) -> Any:
        """What a task returned. Raises what it raised."""

    @abstractmethod
    def cancel(self, futures: Sequence[Any]) -> None:
        """Give up tasks."""


def is_cluster_address(given: str) -> bool:
    """Whether a text names a cluster: ray, ray://HOST:PORT, dask, tcp://HOST:PORT."""
    return any(
        given == s or ("://" in s and given.startswith(s)) for s in RAY_SCHEMES + DASK_SCHEMES
    )


def worker_count(workers: int | str) -> int:
    """How many jobs train at once: of so many processes, or on the cluster at an address."""
    return connect(workers).count if isinstance(workers, str) else workers


@functools.cache
def connect(address: str) -> Cluster:
    """The cluster at an address; `ray` and `dask` alone start one on this machine, a worker per
    core. Raises `InputError` where it cannot be reached, or its package is missing.
    """
    kind = "ray" if address.startswith("ray") else "dask"
    try:
        return _RayCluster(address) if kind == "ray" else _DaskCluster(address)
    except ImportError as error:
        what, do = (
            f"workers={address!r} needs the package {kind}",
            f"run pip install ravine[{kind}]",
        )
        raise InputError(what, why=first_line(error), do=do) from None
    except Exception as error:  # of another library: no connection, no such host, a version
        what, do = f"the cluster {address} cannot be reached", "see that it runs, and its address"
        raise InputError(what, why=first_line(error), do=do) from None


def train_on_cluster(
    assignments: Sequence[JobAssignment],
    controls: Sequence[JobControl],
    cluster: Cluster,
    train_job: TrainJob,
) -> list[JobResult]:
    """Every job's result from a cluster. Raises `Interrupted` once a stop is asked for."""
    futures: dict[int, Any] = {}
    for i, (assignment, control) in enumerate(zip(assignments, controls, strict=True)):
        saved = control.checkpoint
        state = None if saved is None else saved.read_bytes() if saved.exists() else b""
        bare: Any = replace(assignment, task=None)
        own = replace(control, report=None, board=None, stop=None, checkpoint=None)
        futures[i] = cluster.submit(train_job, bare, own, cluster.name_of(assignment.task), state)
    found: dict[int, JobResult] = {}
    try:
        while len(found) < len(futures):
            if any(control.is_stop_requested for control in controls):
                raise Interrupted("stopped")
            ready = [i for i in futures if i not in found and cluster.is_done(futures[i])]
            for i in ready:
                found[i] = _receive(cluster, futures[i], controls[i])
                job = assignments[i].job
                step = math.ceil(min(controls[i].until, 1.0) * job.plan.steps)
                training = sum(not outcome for outcome in found[i].ended.outcomes)
                controls[i].tell(found[i].log, job, step, training=training)
            if not ready:
                time.sleep(POLL_SECONDS)
    finally:
        cluster.cancel([futures[i] for i in futures if i not in found])
    return [found[i] for i in range(len(assignments))]


def _receive(cluster: Cluster, future: Any, control: JobControl) -> JobResult:
    try:
        result, state = cluster.result(future)
    except RavineError:
        raise
    except Exception as error:  # of the cluster, or of code of a module in the recipe
        why, do = first_line(error), "see the logs of its workers, which need the same ravine"
        raise RunError("a job failed on the cluster", why=why, do=do) from error
    control.interrupted = result.interrupted
    if state is not None and control.checkpoint is not None:
        write_atomically(control.checkpoint, state)
    return result


def train_one(
    assignment: JobAssignment,
    control: JobControl,
    task: Task,
    state: bytes | None,
    *,
    train: Callable[..., list[JobResult]],
) -> tuple[JobResult, bytes | None]:
    """What a worker does: train a job from the bytes of its checkpoint; its result and new ones."""
    assignment = replace(assignment, task=task)
    if state is None:
        return train([assignment], [control], workers=1)[0], None
    with tempfile.TemporaryDirectory() as place:
        saved = Path(place) / "checkpoint.safetensors"
        if state:
            saved.write_bytes(state)
        control = replace(control, checkpoint=saved, seconds=math.inf)
        (result,) = train([assignment], [control], workers=1)
        return result, saved.read_bytes()


class _RayCluster(Cluster):
    def __init__(self, address: str):
        ray: Any = importlib.import_module("ray")

        super().__init__()
        self.ray = ray
        self.remote: dict[TrainJob, Any] = {}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to others
        if not ray.is_initialized():
            given: dict[str, Any] = {"address": address} if "://" in address else {}
            if not given and not os.environ.get("RAY_ADDRESS"):
                given = {"num_cpus": os.cpu_count(), "include_dashboard": False}
            ray.init(**given, log_to_driver=False, logging_level="error")
        self.count = max(1, int(ray.cluster_resources().get("CPU", 1)))

    def send(self, task: Task) -> Any:
        return self.ray.put(task)

    def submit(self, call: TrainJob, *arguments: Any) -> Any:
        if call not in self.remote:
            self.remote[call] = self.ray.remote(call).options(num_cpus=1)
        return self.remote[call].remote(*arguments)

    def is_done(self, future: Any) -> bool:
        return bool(self.ray.wait([future], timeout=0)[0])

    def result(self, future: Any) -> Any:
        try:
            return self.ray.get(future)
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None

    def cancel(self, futures: Sequence[Any]) -> None:
        for future in futures:
            self.ray.cancel(future, force=True)


class _DaskCluster(Cluster):
    def __init__(self, address: str):
        distributed: Any = importlib.import_module("distributed")

        super().__init__()
        if "://" not in address:
            workers: dict[str, Any] = {"n_workers": os.cpu_count(), "threads_per_worker": 1}
            place = distributed.LocalCluster(
                **workers, dashboard_address=None, silence_logs=logging.CRITICAL
            )
            self.client = distributed.Client(place)
        else:
            self.client = distributed.Client(address, timeout=CONNECT_SECONDS)
        self.count = max(1, sum(self.client.nthreads().values()))

    def send(self, task: Task) -> Any:
        return self.client.scatter(task, broadcast=True, hash=False)

    def submit(self, call: TrainJob, *arguments: Any) -> Any:
        return self.client.submit(call, *arguments, pure=False)

    def is_done(self, future: Any) -> bool:
        return future.done()

    def result(self, future: Any) -> Any:
        return future.result()

    def cancel(self, futures: Sequence[Any]) -> None:
        self.client.cancel(list(futures))
