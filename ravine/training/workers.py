"""Worker processes: each trains jobs one after another, and none outlives the process it works for.

A worker reads jobs from its standard input and ends where that ends: however its parent dies, the
system closes the pipe. It takes no signals (Ctrl-C reaches all processes of a terminal): its parent
asks it to stop.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import cloudpickle

from ravine.errors import RavineError, RunError
from ravine.training.job_control import JobControl

WORKER_PROGRAM = "from ravine.training.workers import work; work()"
IGNORED_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Crew:
    """Processes that call functions; `results` gives what they return, in the order of the calls.

    `controls` are those of all jobs: when a call has failed, they are asked to stop.
    """

    def __init__(self, calls: Sequence[Callable[[], Any]], controls: Sequence[JobControl]):
        self.calls = calls
        self.controls = controls
        self.waiting = list(enumerate(calls))[::-1]  # the next is the last
        self.found: dict[int, Any] = {}
        self.error: BaseException | None = None
        self.processes: list[subprocess.Popen] = []
        self.threads: list[threading.Thread] = []

    def start(self, workers: int) -> None:
        """Start this many processes, or one for each call where there are fewer calls."""
        for _ in range(min(workers, len(self.calls))):
            thread = threading.Thread(target=self._run_worker, daemon=True)
            self.threads.append(thread)
            thread.start()

    def results(self) -> list[Any]:
        """Wait for all calls. Raises what the first of them raised that failed."""
        for thread in self.threads:
            while thread.is_alive():
                thread.join(0.1)  # so that a signal is seen to
        if self.error is not None:
            raise self.error
        return [self.found[place] for place in range(len(self.calls))]

    def kill(self) -> None:
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
            while self.waiting and self.error is None:
                try:
                    place, call = self.waiting.pop()
                except IndexError:  # another worker took the last one
                    break
                process.stdin.write(cloudpickle.dumps(cloudpickle.dumps(call)))
                process.stdin.flush()
                result, error = pickle.load(process.stdout)
                if error is not None:
                    return self._fail(error)
                self.found[place] = result
        except (EOFError, OSError, pickle.UnpicklingError):
            process.kill()
            self._fail(_death_of(process.wait(), self.controls))
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()  # which ends it

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            for control in self.controls:
                control.request_stop()


@contextlib.contextmanager
def start_crew(
    calls: Sequence[Callable[[], Any]], *, workers: int, controls: Sequence[JobControl]
) -> Iterator[Crew]:
    """A crew at work on calls; what is still running when the block is left is killed."""
    crew = Crew(calls, controls)
    try:
        crew.start(workers)
        yield crew
    finally:
        crew.kill()


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
    calls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    sys.path[:] = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_read_calls, args=(sys.stdin.buffer, calls), daemon=True).start()
    while (call := calls.get()) is not None:
        results.write(cloudpickle.dumps(_make_call(call)))
        results.flush()


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
