"""Where trials are kept: an Optuna study in memory, in a SQLite file, or in a database by URL.

Trials are asked for in batches. A batch that was begun by a process that is no more is taken over;
processes that share a database say so at intervals that they are still at work.
"""

import contextlib
import datetime
import math
import os
import secrets
import socket
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url

from ravine.errors import InputError, RunError, first_line
from ravine.files import write_atomically
from ravine.record import RECORD_SCHEMA, check_contents, json_with_digest, read_json
from ravine.studies.spaces import Space

STUDY_FILE = "study.db"
STORAGE_FILE = "storage.json"  # in the folder of a study whose trials are elsewhere
HIDDEN_PASSWORD = "..."
SQLITE_URL = f"sqlite:///{STUDY_FILE}"
FACTS_ATTRIBUTE = "ravine"  # of a study: what it tunes
BUDGET_ATTRIBUTE = "budget"  # of a study: how many trials or minutes, and how many are confirmed
BATCH_ATTRIBUTE = "batch"  # of a trial: in which one it trains, and who trains that
RESULT_ATTRIBUTE = "result"
FAILED_OUTCOMES = ("diverged", "impossible")  # outcomes of trials
ALIVE_PREFIX = "alive/"  # of a study: when a process was last at work
SECONDS_BETWEEN_SIGNS = 15.0
MAX_REDRAWS = 100
CREATION_ATTEMPTS, SECONDS_BETWEEN_ATTEMPTS = 3, 0.5
SECONDS_ALONE = 5.0  # that a locked file is waited for which no other process should use
SECONDS_OF_PATIENCE = 90.0  # after which a process is taken to be dead


class OpenTrial(NamedTuple):
    """A trial that is to be trained: its number, its key in the storage, its values by path."""

    number: int
    key: int
    values: Mapping[str, Any]


class TrialBatch(NamedTuple):
    """Trials that train together, and the name that they have in common, also after a kill."""

    name: str
    trials: tuple[OpenTrial, ...]


class TrialBook:
    """The trials of one study: those asked for, told, and left behind by others.

    `is_shared` says whether other processes may work on the study at the same time. What Optuna
    does for one trial after another (each time reading them all) is done here for a batch, by the
    methods of its storages.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, *, is_shared: bool):
        self.study = study
        self.storage = storage
        self.study_id = storage.get_study_id_from_name(study.study_name)
        self.is_shared = is_shared
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"

    @property
    def count(self) -> int:
        """How many trials have been asked for, by all processes, and were not dropped."""
        return sum(trial.state != TrialState.FAIL for trial in self.all_trials())

    def ask(self, space: Space, count: int, sampler: optuna.samplers.BaseSampler) -> TrialBatch:
        """New trials, to be trained as one batch."""
        claim = self._claim(secrets.token_hex(4), count)
        if not isinstance(sampler, optuna.samplers.RandomSampler):
            self.study.sampler = sampler
            numbers = [self.study.ask(space).number for _ in range(count)]
            find = self.storage.get_trial_id_from_study_id_trial_number
            keys = [find(self.study_id, number) for number in numbers]
            for key in keys:
                self.storage.set_trial_user_attr(key, BATCH_ATTRIBUTE, claim)
            return self._batch(claim["name"], keys)
        drawn = optuna.create_study(sampler=sampler)  # these do not depend on other trials
        keys, taken = [], [trial.params for trial in self.all_trials()]
        for _ in range(count):
            params = drawn.ask(space).params
            for _ in range(MAX_REDRAWS):  # in lists the same values come again
                if params not in taken:
                    break
                params = drawn.ask(space).params
            taken.append(params)
            new = optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=space,
                user_attrs={BATCH_ATTRIBUTE: claim},
            )
            keys.append(self.storage.create_new_trial(self.study_id, template_trial=new))
        return self._batch(claim["name"], keys)

    def take_over(self) -> TrialBatch | None:
        """A batch that a dead process has left, with those of its trials that were told already:
        all of them trained together. Often none. What was drawn in part is dropped.
        """
        batches: dict[str, list[int]] = {}
        left: dict[str, int] = {}  # names and sizes
        for trial in self.all_trials():
            unclaimed = {"name": f"trial-{trial.number}", "owner": "", "size": math.inf}
            batch = trial.user_attrs.get(BATCH_ATTRIBUTE, unclaimed)
            batches.setdefault(batch["name"], []).append(trial.number)
            if trial.state == TrialState.RUNNING and not self._is_alive(batch["owner"], trial):
                left[batch["name"]] = batch["size"]
        find = self.storage.get_trial_id_from_study_id_trial_number
        for name, size in left.items():
            keys = [find(self.study_id, number) for number in batches[name]]
            if len(keys) < size:
                self.drop(keys)
                continue
            keys = [key for key in keys if self.storage.get_trial(key).state != TrialState.FAIL]
            for key in keys:
                with contextlib.suppress(UpdateFinishedTrialError):
                    claim = self._claim(name, int(size))
                    self.storage.set_trial_user_attr(key, BATCH_ATTRIBUTE, claim)
            return self._batch(name, keys)
        return None

    def drop(self, keys: Sequence[int]) -> None:
        """Let trials count for nothing."""
        for key in keys:
            with contextlib.suppress(UpdateFinishedTrialError):
                self.storage.set_trial_state_values(key, TrialState.FAIL)

    def tell(self, trial: OpenTrial, result: Mapping[str, Any]) -> None:
        """Keep a trial's result. What another process has told meanwhile stands."""
        is_finished = result["outcome"] == "finished"
        state = TrialState.COMPLETE if is_finished else TrialState.PRUNED
        with contextlib.suppress(UpdateFinishedTrialError):
            for share, score in result["rungs"]:
                step = round(share * result["budget"])
                self.storage.set_trial_intermediate_value(trial.key, step, score)
            if result["outcome"] in FAILED_OUTCOMES:  # samplers take it for the worst there is
                self.storage.set_trial_intermediate_value(trial.key, result["budget"], math.nan)
            self.storage.set_trial_user_attr(trial.key, RESULT_ATTRIBUTE, dict(result))
            values = [result["score"]] if is_finished else None
            self.storage.set_trial_state_values(trial.key, state, values)

    def close(self) -> None:
        """Let go of the database."""
        _close_connections(self.storage)

    def all_trials(self) -> list[FrozenTrial]:
        """All trials of the study."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def _claim(self, name: str, size: int) -> dict[str, Any]:
        return {"name": name, "owner": self.owner, "size": size}

    def _batch(self, name: str, keys: Sequence[int]) -> TrialBatch:
        known = {t._trial_id: t for t in self.all_trials()}  # all at once, in a few queries
        trials = tuple(OpenTrial(known[key].number, key, known[key].params) for key in keys)
        return TrialBatch(name, trials)

    def _is_alive(self, owner: str, trial: FrozenTrial) -> bool:
        if owner == self.owner:
            return True
        if not self.is_shared:
            return False  # the folder is ours alone
        if not owner:  # asked for, and not yet said by whom
            assert trial.datetime_start is not None
            age = datetime.datetime.now() - trial.datetime_start
            return age.total_seconds() < SECONDS_OF_PATIENCE
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
    file = folder / STUDY_FILE if storage is None and folder is not None else None
    url = SQLITE_URL if file is not None else storage
    for attempt in range(CREATION_ATTEMPTS):
        try:
            kept = optuna.storages.InMemoryStorage() if url is None else _storage_at(url, file)
            study = optuna.create_study(
                storage=kept,
                study_name=name,
                direction="maximize" if facts["higher_is_better"] else "minimize",
                load_if_exists=True,
            )
            break
        except Exception as error:  # of the driver of some database
            if attempt + 1 < CREATION_ATTEMPTS:  # another process may be creating the tables
                time.sleep(SECONDS_BETWEEN_ATTEMPTS)
                continue
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
    return TrialBook(study, kept, is_shared=storage is not None)


def _storage_at(url: str, file: Path | None = None) -> optuna.storages.RDBStorage:
    """The storage of a URL, or in a SQLite file. Of such a file writes go to a log first, and who
    finds it locked waits: a killed process loses nothing.
    """
    if file is None and not url.startswith("sqlite:///"):
        return optuna.storages.RDBStorage(url)
    place = make_url(url).database if file is None else file  # a path may hold what a URL may not
    patience = SECONDS_OF_PATIENCE if file is None else SECONDS_ALONE

    def connect() -> sqlite3.Connection:
        opened = sqlite3.connect(str(place), timeout=patience, check_same_thread=False)
        opened.execute("PRAGMA journal_mode=WAL")
        opened.execute("PRAGMA synchronous=NORMAL")
        return opened

    return optuna.storages.RDBStorage(url, engine_kwargs={"creator": connect})


def note_storage(folder: Path, storage: str, name: str) -> None:
    """Write into a study's folder where its trials are, without a password."""
    known = {"storage": _without_password(storage), "name": name}
    data = json_with_digest({"schema": RECORD_SCHEMA, **known})
    write_atomically(folder / STORAGE_FILE, data)


def noted_storage(folder: Path, storage: str | None = None) -> dict[str, str]:
    """The `storage` and the `name` of the study in a folder; {} where its trials are there, too.

    Raises `RunError` where the storage has a password, which a folder does not keep, and is not
    given.
    """
    if not (folder / STORAGE_FILE).exists():
        return {}
    known = read_json(folder / STORAGE_FILE)
    with check_contents(folder / STORAGE_FILE):
        found = {"storage": storage or str(known["storage"]), "name": str(known["name"])}
    if f":{HIDDEN_PASSWORD}@" in found["storage"]:
        what, why = f"the study of {folder} is in {found['storage']}", "its password is not kept"
        raise RunError(what, why=why, do="give the storage again: --storage URL")
    return found


def attributes_in(folder: Path, storage: str | None = None) -> dict[str, Any]:
    """What the study of a folder is about (`FACTS_ATTRIBUTE`), and its budget
    (`BUDGET_ATTRIBUTE`). Raises `RunError` where there is none, or it is damaged.
    """
    noted = noted_storage(folder, storage)
    file = None if noted else folder / STUDY_FILE
    if file is not None and not file.exists():
        what, why = f"{folder} holds no study", f"there is no {STUDY_FILE} in it"
        raise RunError(what, why=why, do="name the folder of one that ravine tune began")
    with quiet_optuna():
        try:
            kept = _storage_at(noted.get("storage", SQLITE_URL), file)
            try:
                known = optuna.get_all_study_summaries(storage=kept)
                (study,) = (s for s in known if s.study_name == noted.get("name", s.study_name))
                return study.user_attrs
            finally:
                _close_connections(kept)
        except Exception as error:
            what = f"{file} is damaged" if file else f"{noted['storage']} does not have the study"
            raise RunError(what, why=first_line(error), do="restore it, or begin another") from None


def _close_connections(storage: BaseStorage) -> None:
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.scoped_session.remove()
        storage.engine.dispose()


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
    user, colon, _ = login.partition(":")
    hidden = f":{HIDDEN_PASSWORD}" if colon else ""
    return f"{scheme}{slashes}{user}{hidden}@{rest}" if at else (url or "")
