"""Files: written completely or not at all, checked for permission, and named by lasting paths."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ravine.errors import DataError, InputError, RunError, shorten

TEMPORARY_PREFIX = ".ravine-"  # of a file until it is complete
CREATE_FLAGS = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
CREATE_FLAGS |= getattr(os, "O_BINARY", 0)  # Windows


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that readers see either all of the old content or all of the new.

    The data, which may come in blocks, go to a new file of the same folder first, under a name that
    nothing has; an error while they are made leaves no file behind. Raises `RunError` when the disk
    is full or the folder read-only; the old file is then unchanged.
    """
    part = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        # created by this call or refused: never a file that is there, nor one that a link names
        handle = os.open(part, CREATE_FLAGS, 0o666)
        try:
            with open(handle, "wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(handle)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable_file(path, error) from None


def unwritable_file(path: Path, error: OSError) -> RunError:
    """What to say of a file that cannot be written; in a run that has begun, how to go on."""
    begun = run_state(path.parent) == "begun"
    resume = f"continue with `ravine train --resume {path.parent}`" if begun else "try again"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    elsewhere = f"change its folder's permissions, then {resume}" if begun else "name another place"
    why = error.strerror or str(error)
    do = f"free disk space, then {resume}" if full else elsewhere
    return RunError(f"{path} cannot be written", why=why, do=do)


def run_state(folder: Path) -> Literal["no run", "begun", "finished"]:
    """How far the run or study in a folder is, by its files: nothing of it, begun, or a result."""
    if any((folder / name).exists() for name in ("record.json", "tuning.json")):
        return "finished"
    begun = any((folder / name).exists() for name in ("plan.json", "study.db"))
    return "begun" if begun else "no run"


def sync_folder(folder: Path) -> None:
    """Sync a folder's names to disk, so that a rename outlasts a power cut."""
    with contextlib.suppress(OSError):  # a system or file system that syncs no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_readable(path: str | Path, error: type[InputError] = DataError) -> None:
    """Raise `error` where a file exists but may not be read, so that it is not taken for damaged.

    Readers in other languages (Arrow, safetensors) tell the two apart only in their messages. A
    pipe or a device is refused, too: what reads it may wait or go on for ever.
    """
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            what, why = f"{path} is not a file", "it is a pipe or a device"
            raise error(what, why=why, do="save what it gives as a file first")
        with open(path, "rb"):
            pass
    except PermissionError:
        what, do = f"{path} may not be read", f"ask its owner, or write chmod u+r {path}"
        raise error(what, why="its permissions, or its folder's, forbid it", do=do) from None
    except OSError:
        pass  # missing, a folder, ...: its reader knows what to say of that


def require_path(given: object, what: str) -> Path:
    """A path that was given for `what`. Raises `InputError` unless a system could have it."""
    if not isinstance(given, (str, os.PathLike)) or isinstance(given, bytes):
        raise InputError(f"{what} is {given!r}"[:80], why="it must be a path", do="give its name")
    path = Path(given)
    try:
        str(path).encode()  # other libraries open its files, by names in UTF-8
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # its reader or writer knows whether that is wrong
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, links in a circle
        why = getattr(error, "strerror", None) or str(error)
        named = shorten(ascii(str(path)))
        raise InputError(f"{what} cannot be {named}", why=why, do="name another path") from None
    return path


def lasting_path(file: str | Path, folder: str | Path | None = None) -> str:
    """The path of a file from `folder`, so that both can be moved together; else an absolute one.

    Relative are the paths of files in the folder, beside it, and beside the folder that it is in.

    >>> lasting_path("/data/houses/train.csv", "/data/houses"), lasting_path("/data/a.csv", "/runs")
    ('train.csv', '/data/a.csv')
    >>> lasting_path("/data/houses.csv", "/data/runs/houses-1a2b")
    '../../houses.csv'
    """
    if folder is None:
        return os.path.abspath(file)
    # a path with .. in it starts at where the folder is, not at a link to it
    base = Path(os.path.realpath(folder))
    path = Path(os.path.realpath(os.path.dirname(os.path.abspath(file))), Path(file).name)
    near = (base, *base.parents[:2])
    inside = any(place in path.parents for place in near if place != place.parent)
    return os.path.relpath(path, base) if inside else os.path.abspath(file)
