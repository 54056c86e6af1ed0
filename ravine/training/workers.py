"""Worker processes: each trains jobs one after another, and none outlives the process it works for.

A worker reads jobs from its standard input and ends where that ends: however its parent dies, the
system closes the pipe. It takes no signals (Ctrl-C reaches all processes of a terminal): its parent
asks it to stop.
"""

import contextlib
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import cloudpickle

from ravine.errors import RavineError, RunError
from ravine.training.cohort import Cohort
from ravine.training.job_control import JobControl

START_SECONDS = 3.0  # of a core: a process starts and imports torch
MEASURED_SECONDS = 0.25  # of training, from which it is known how long the rest will take

WORKER_PROGRAM = "from ravine.training.workers import work; work()"
IGNORED_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Pace:
    """How long jobs will still take: estimated times, scaled by those of the steps made here."""

    def __init__(self, seconds: Sequence[float], clock: Callable[[], float] = time.monotonic):
        self.seconds, self.clock = seconds, clock
        self.job, self.share, self.time = -1, 0.0, math.nan  # at the step before
        self.spent = self.done = 0.0

    def shareable(self, job: int, share: float, waiting: Sequence[int]) -> float:
        """Seconds of work for two processes when a share of a job is done; 0 until it is known."""
        now = self.clock()
        self.spent += now - self.time if self.job >= 0 else 0.0
        self.done += (share - self.share) * self.seconds[job] if self.job == job else 0.0
        self.job, self.share, self.time = job, share, now
        if self.done <= 0 or self.spent < MEASURED_SECONDS:
            return 0.0
        others = sum(self.seconds[i] for i in waiting)
        rest = (1 - share) * self.seconds[job]
        return (others + min(rest, others)) * self.spent / self.done


class Crew:
    """Jobs that wait for this process, or for one of others, which are started once they pay.

    `calls` train the jobs elsewhere. When one has failed, all `controls` are asked to stop.
    """

    def __init__(
        self,
        calls: Sequence[Callable[[], Any]],
        controls: Sequence[JobControl],
        seconds: Sequence[float],
        workers: int,
    ):
        self.calls, self.controls, self.workers = calls, controls, workers
        self.pace = Pace(seconds)
        self.waiting = sorted(range(len(calls)), key=lambda i: (seconds[i], -i))  # the next is last
        self.found: dict[int, Any] = {}
        self.error: BaseException | None = None
        self.processes: list[subprocess.Popen] = []
        self.ready: list[subprocess.Popen] = []  # those that have started
        self.threads: list[threading.Thread] = []

    def take(self) -> int | None:
        """The next job, for whoever asks first; None where none is left."""
        with contextlib.suppress(IndexError):
            return self.waiting.pop()

    def pause(self, job: int, control: JobControl, cohort: Cohort) -> bool:
        """The control of a job that is trained here; starts processes for the others that wait."""
        waiting = self.waiting.copy()
        if waiting and len(self.threads) < self.workers:
            share = (
                cohort.step / cohort.job.plan.steps / control.until
            )  # of what it is to train now
            seconds = self.pace.shareable(job, min(share, 1.0), waiting)
            # each has START_SECONDS of work, too, and a job that waits for it
            paid = min(int(seconds / 2 // START_SECONDS), len(self.ready) + len(waiting))
            while len(self.threads) < min(paid, self.workers):
                self.threads.append(threading.Thread(target=self._run_worker, daemon=True))
                self.threads[-1].start()
        return control(cohort)

    def results(self) -> dict[int, Any]:
        """What the calls returned, by job. Raises what the first of them raised that failed."""
        while any(thread.is_alive() for thread in self.threads):
            for process in set(self.processes).difference(self.ready):
                process.kill()  # nothing is left for it
            self.threads[0].join(0.1)  # so that a signal is seen to
        if self.error is not None:
            raise self.error
        return self.found

    def close(self) -> None:
        """End all processes now."""
        self.waiting.clear()
        for process in self.processes:
            process.kill()

    def _run_worker(self) -> None:
        """Start a process and have it make calls until none is waiting."""
        if hasattr(signal, "pthread_sigmask"):  # the process inherits what its thread blocks
            signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED_SIGNALS)
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", WORKER_PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            self.processes.append(process)
            with process:
                self._make_calls(process)
        except Exception as error:
            self._fail(error)

    def _make_calls(self, process: subprocess.Popen) -> None:
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(sys.path, process.stdin)
            process.stdin.flush()
            pickle.load(process.stdout)  # it has started
            self.ready.append(process)
            while self.error is None and (place := self.take()) is not None:
                process.stdin.write(cloudpickle.dumps(cloudpickle.dumps(self.calls[place])))
                process.stdin.flush()
                result, error = pickle.load(process.stdout)
                if error is not None:
                    return self._fail(error)
                self.found[place] = result
        except (EOFError, OSError, pickle.UnpicklingError):
            process.kill()
            if process in self.ready or self.waiting:  # else it was not needed any more
                self._fail(_death_of(process.wait(), self.controls))
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()  # which ends it

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            for control in self.controls:
                control.request_stop()


def _death_of(code: int, controls: Sequence[JobControl]) -> RunError:
    """What to say of a worker that ended without a result."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    why = "perhaps the system ran out of memory" if code == -9 else "its own message is above"
    saved = next((control.checkpoint for control in controls if control.checkpoint), None)
    resume = f"continue with `ravine train --resume {saved.parent} --workers 1`" if saved else ""
    return RunError(f"a worker process {how}", why=why, do=resume or "train with workers=1")


def work() -> None:
    """What a worker process does: make the calls that come by standard input, one after another."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a call prints is no result
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    sys.path[:] = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_read_calls, args=(sys.stdin.buffer, calls), daemon=True).start()
    call = pickle.dumps(int)  # its result says that this process has started
    while True:
        results.write(cloudpickle.dumps(_make_call(call)))
        results.flush()
        call = calls.get()


def _read_calls(source: BinaryIO, calls: queue.SimpleQueue) -> None:
    with contextlib.suppress(EOFError):
        while True:
            calls.put(pickle.load(source))
    os._exit(0)  # the parent has ended, or needs nothing more


def _make_call(call: bytes) -> tuple[Any, BaseException | None]:
    """The result of a call and None, or None and its error."""
    try:
        return pickle.loads(call)(), None
    except RavineError as error:
        return None, error
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return None, RuntimeError(f"a worker process failed:\n{text}")
