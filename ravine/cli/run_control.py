"""What a run in a terminal obeys: its progress is shown, and a signal saves and ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravine.cli.signals import Stopped, handle_signals, stop
from ravine.errors import Interrupted

if TYPE_CHECKING:
    from ravine.ranks import Ranks
    from ravine.reporting.progress import ProgressLine


@contextmanager
def control_run(
    folder: Path, quiet: bool, command: str = "train", ranks: Ranks | None = None
) -> Iterator[tuple[ProgressLine | None, Path]]:
    """Handle signals while a run trains; gives its progress line, and the file that stops it.

    Before the run has begun a signal ends the process; after that the run saves a checkpoint first,
    and a second Ctrl-C leaves at once. The exit code tells which signal it was. `command` is the
    one that goes on with it. Of several `ranks` all stop together, and the first alone speaks.
    """
    from ravine.files import run_state
    from ravine.reporting.progress import ProgressLine
    from ravine.training.run_lock import new_stop_file, request_stop

    progress, stop_file = ProgressLine(), new_stop_file(folder)
    numbers: list[int] = []

    def handle(number: int, frame: Any) -> None:
        numbers.append(number)
        if ranks is not None and ranks.rank > 0 and ranks.request_stop():
            return
        if len(numbers) > 1 and number != signal.SIGINT:
            return  # a closed terminal and its shell both send one
        if len(numbers) > 1 or run_state(folder) != "begun" or not request_stop(stop_file):
            stop(number, frame)
        progress.close()
        print("stopping: saving a checkpoint (again to leave at once)", file=sys.stderr)

    try:
        with handle_signals(handle):
            yield None if quiet else progress, stop_file
    except (KeyboardInterrupt, Stopped, Interrupted) as error:
        if run_state(folder) != "begun":
            raise
        saved = isinstance(error, Interrupted)
        how = "stopped" if saved else "left at once, at its last checkpoint"
        stopped = Interrupted(f"{how}; go on with: ravine {command} --resume {folder}")
        stopped.exit_code = 128 + (numbers[0] if numbers else signal.SIGINT)
        raise stopped from None
    finally:
        progress.close()
        with suppress(OSError):
            stop_file.unlink()
