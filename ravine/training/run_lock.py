"""The lock of a run's folder: one process at a time trains there; who it is stands in `LOCK_FILE`.

The system holds the lock and lets go of it when the process ends, however it ends: what a dead
process left is taken over.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ravine.errors import RunError
from ravine.files import CREATE_FLAGS, TEMPORARY_PREFIX

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_FILE = ".ravine.lock"
STOP_FILE = "stop"  # the run is saved and left once it exists
OWN_STOP_PREFIX = ".stop-"  # of such a file that one process alone knows


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder alone. Raises `RunError` with the process that holds it already.

    Clears what a dead process left: a request to stop, and files that were not complete. On a file
    system that knows no locks (and on Windows) nothing is held.
    """
    try:
        handle = _acquire_lock(folder / LOCK_FILE)
    except BlockingIOError:
        holder = _read_holder(folder / LOCK_FILE)
        do = "wait until it ends, or name another folder"
        raise RunError(f"{folder} is in use", why=f"{holder} trains there", do=do) from None
    except OSError as error:
        do = "name another folder"
        why = error.strerror or str(error)
        raise RunError(f"{folder} cannot be written to", why=why, do=do) from None
    try:
        with contextlib.suppress(OSError):  # a full disk: who holds it is then not said
            os.truncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        for left in (folder / STOP_FILE, *folder.glob(f"{TEMPORARY_PREFIX}*")):
            with contextlib.suppress(OSError):
                left.unlink()
        yield
    finally:
        # the name goes first: who opens it meanwhile sees that it is no longer the folder's lock
        left = [folder / STOP_FILE, *folder.glob(f"{OWN_STOP_PREFIX}*"), folder / LOCK_FILE]
        for path in left:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(handle)


def new_stop_file(folder: Path) -> Path:
    """A path in a run's folder that no other process knows, for a request to stop."""
    return folder / f"{OWN_STOP_PREFIX}{secrets.token_hex(4)}"


def request_stop(path: Path) -> bool:
    """Create the file that stops a run; whether it could be created."""
    try:
        os.close(os.open(path, CREATE_FLAGS, 0o666))
    except OSError:
        return path.exists()
    return True


def is_left_over(path: Path) -> bool:
    """Whether a file may have been left by a process that was killed before a run had begun."""
    return path.name == LOCK_FILE or path.name.startswith((TEMPORARY_PREFIX, OWN_STOP_PREFIX))


def _acquire_lock(path: Path) -> int:
    """The handle of a locked file. Raises `BlockingIOError` where another process has the lock."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    while True:
        handle = os.open(path, flags, 0o666)
        try:
            if fcntl is None:
                return handle
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                return handle
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether a file still has its name; who held it before may have taken it away."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _read_holder(path: Path) -> str:
    try:
        text = path.read_text("ascii", "replace")[:20].strip()
    except OSError:
        text = ""
    return f"process {text}" if text.isdecimal() else "another process"
