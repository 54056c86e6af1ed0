"""Files: written completely or not at all, checked for permission, and named by lasting paths."""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ravine.errors import DataError, InputError, RunError


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that readers see either all of the old content or all of the new.

    `data` may come in blocks; what is raised while they are made leaves no file behind.
    Raises `RunError` when the disk is full or the folder read-only; the old file is then unchanged.
    """
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        do = "name another folder with --out"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            do = "free disk space and continue with `ravine train --resume`"
        why = error.strerror or str(error)
        raise RunError(f"{path} cannot be written", why=why, do=do) from None


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


def lasting_path(file: str | Path, folder: str | Path | None = None) -> str:
    """The absolute path of a file; relative to `folder` inside it, so that both can be moved.

    >>> lasting_path("/data/houses/train.csv", "/data/houses"), lasting_path("/data/a.csv", "/runs")
    ('train.csv', '/data/a.csv')
    """
    path = Path(os.path.abspath(file))
    base = None if folder is None else Path(os.path.abspath(folder))
    return str(path.relative_to(base) if base is not None and base in path.parents else path)
