"""Where trials are kept: an Optuna study in memory, in a SQLite file, or in a database by URL.

Trials are asked for in batches. A batch that was begun by a process that is no more is taken over;
processes that share a database say so at intervals that they are still at work.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from ravine.errors import InputError, RunError, first_line
from ravine.studies.spaces import Space

STUDY_FILE = "study.db"
FACTS_ATTRIBUTE = "ravine"  # of a study: what it tunes
BATCH_ATTRIBUTE = "batch"  # of a trial: with which others it trains, and who trains it
RESULT_ATTRIBUTE = "result"
ALIVE_PREFIX = "alive/"  # of a study: when a process was last at work
SECONDS_BETWEEN_SIGNS = 15.0
SECONDS_OF_PATIENCE = 90.0  # after which a process is taken to be dead


class TrialBook:
    """The trials of one study: those asked for, told, and left behind by others.

    `is_shared` says whether other processes may work on the study at the same time.
    """

    def __init__(self, study: optuna.Study, *, is_shared: bool):
        self.study = study
        self.is_shared = is_shared
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"

    @property
    def count(self) -> int:
        """How many trials have been asked for, by all processes."""
        return len(self.study.get_trials(deepcopy=False))

    def ask(self, space: Space, count: int, sampler: optuna.samplers.BaseSampler) -> list[Trial]:
        """New trials, to be trained as one batch."""
        self.study.sampler = sampler
        trials = [self.study.ask(space) for _ in range(count)]
        self._claim(trials)
        return trials

    def take_over(self) -> list[Trial]:
        """The trials of one batch that a dead process has left, in their order; often none."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        left: dict[int, list[Any]] = {}
        for trial in running:
            batch = trial.user_attrs.get(BATCH_ATTRIBUTE, {"first": -1, "owner": ""})
            if not self._is_alive(batch["owner"]):
                left.setdefault(batch["first"], []).append(trial)
        left.pop(-1, None) if len(left) > 1 else None  # one that was asked for a moment ago
        if not left:
            return []
        self.study.sampler = optuna.samplers.RandomSampler(seed=0)  # their values are drawn already
        chosen = left[min(left)]
        trials = [Trial(self.study, trial._trial_id) for trial in chosen]
        self._claim(trials)
        return trials

    def tell(self, trial: Trial, result: Mapping[str, Any], *, is_finished: bool) -> None:
        """Keep a trial's result. What another process has told meanwhile stands."""
        trial.set_user_attr(RESULT_ATTRIBUTE, dict(result))
        with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
            if is_finished:
                self.study.tell(trial, result["score"])
            else:
                self.study.tell(trial, state=TrialState.PRUNED)

    def _claim(self, trials: list[Trial]) -> None:
        for trial in trials:
            batch = {"first": trials[0].number, "owner": self.owner}
            trial.set_user_attr(BATCH_ATTRIBUTE, batch)

    def _is_alive(self, owner: str) -> bool:
        if owner == self.owner:
            return True
        if not self.is_shared:
            return False  # the folder is ours alone
        seen = self.study.user_attrs.get(f"{ALIVE_PREFIX}{owner}", 0.0)
        return time.time() - seen < SECONDS_OF_PATIENCE

    @contextlib.contextmanager
    def show_signs(self) -> Iterator[None]:
        """Say at intervals that this process is at work, where others may ask."""
        if not self.is_shared:
            yield
            return
        ended = threading.Event()

        def sign() -> None:
            while True:
                with contextlib.suppress(Exception):  # a database out of reach: the next time
                    self.study.set_user_attr(f"{ALIVE_PREFIX}{self.owner}", time.time())
                if ended.wait(SECONDS_BETWEEN_SIGNS):
                    return

        thread = threading.Thread(target=sign, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(Exception):
                self.study.set_user_attr(f"{ALIVE_PREFIX}{self.owner}", 0.0)


def open_book(
    folder: Path | None, storage: str | None, name: str, facts: Mapping[str, Any]
) -> TrialBook:
    """The trials of a study, new or begun before; without folder and storage they are in memory.

    `facts` are what the study is about. Raises `InputError` where the storage cannot be reached,
    and `RunError` where a study of that name is about something else.
    """
    url = storage if storage is not None or folder is None else f"sqlite:///{folder / STUDY_FILE}"
    direction = "maximize" if facts["higher_is_better"] else "minimize"
    with quiet_optuna():
        try:
            study = optuna.create_study(
                storage=url, study_name=name, direction=direction, load_if_exists=True
            )
        except Exception as error:  # of the driver of some database
            why = first_line(error)
            do = "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE, and see that "
            what = f"the storage {_without_password(url)} cannot be reached"
            raise InputError(what, why=why, do=f"{do}its driver is installed") from None
    known = study.user_attrs.get(FACTS_ATTRIBUTE)
    if known is None:
        study.set_user_attr(FACTS_ATTRIBUTE, dict(facts))
    elif known != facts:
        differ = ", ".join(key for key in facts if known.get(key) != facts[key])
        why = f"it has other values of {differ}"
        raise RunError(f"the study {name!r} is another one", why=why, do="give this one its own")
    return TrialBook(study, is_shared=storage is not None)


def facts_in(folder: Path) -> dict[str, Any]:
    """What the study in a folder is about. Raises `RunError` where there is none."""
    file = folder / STUDY_FILE
    if not file.exists():
        what, why = f"{folder} holds no study", f"there is no {STUDY_FILE} in it"
        raise RunError(what, why=why, do="name the folder of one that ravine tune began")
    with quiet_optuna():
        try:
            url = f"sqlite:///{file}"
            (study,) = optuna.get_all_study_summaries(storage=url)
            return study.user_attrs[FACTS_ATTRIBUTE]
        except Exception as error:
            raise RunError(f"{file} cannot be read", why=first_line(error)) from None


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's messages, which are about its own calls."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _without_password(url: str | None) -> str:
    """A URL as it may be shown.

    >>> _without_password("postgresql://me:secret@host/db")
    'postgresql://me:...@host/db'
    """
    head, at, rest = (url or "").rpartition("@")
    scheme, slashes, login = head.partition("://")
    return f"{scheme}{slashes}{login.partition(':')[0]}:...@{rest}" if at else (url or "")
