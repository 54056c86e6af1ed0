"""A command in a copy of this process: bounded memory and time, its files and programs watched."""

import io
import os
import pty
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 120  # with other work beside
SPARE_BYTES = 4 * 2**30  # of address space, beside what this process has
# all but line feeds, returns, tabs and what sets colors or clears to the end of a line
CONTROLS = re.compile(
    "\x1b(?!\\[[0-9;]*[mK])|"
    "[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "socket.connect")


@dataclass(frozen=True)
class Ended:
    """How a command ended. `out` has both streams where it had a terminal."""

    code: int
    out: str
    err: str
    seconds: float
    bytes: int  # of memory, beside what the copied process had
    written: tuple[str, ...]  # paths
    started: tuple[str, ...]  # programs and connections

    @property
    def said(self) -> str:
        """All that was printed."""
        return self.out + self.err


def run_forked(
    arguments: Sequence[str | Path],
    *,
    streams: Mapping[int, str] = {},
    terminal: bool = False,
    seconds: int = SECONDS,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> Ended:
    """Run `ravine` in a copy of this process, in its folder.

    `streams` are what standard streams are in place of pipes: a path, or "closed". `before` and
    `after` are called in the copy. Of a command that takes too long the code is that of SIGKILL.
    """
    from ravine.cli import main  # imported here: the copy has it

    if terminal:
        readers = [pty.openpty()]
        ends = {1: readers[0][1], 2: readers[0][1]}
    else:
        readers = [os.pipe(), os.pipe()]
        ends = {1: readers[0][1], 2: readers[1][1]}
    seen, seeing = os.pipe()
    used = resident_bytes()
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            set_streams(ends, streams)
            watch(seeing)
            limit_memory()
            before()
            main(list(map(str, arguments)))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        else:
            code = 0
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 120
        after()
        os._exit(code)
    for handle in {seeing, *(end for _, end in readers)}:
        os.close(handle)
    said, events, status, usage, lasted = collect(child, [r for r, _ in readers], seen, seconds)
    lines = [line.partition(" ") for line in events.splitlines()]
    return Ended(
        code=os.waitstatus_to_exitcode(status),
        out=said[0],
        err="".join(said[1:]),
        seconds=lasted,
        bytes=max(0, usage.ru_maxrss * 1024 - used),
        written=tuple(path for kind, _, path in lines if kind == "open"),
        started=tuple(f"{kind} {what}" for kind, _, what in lines if kind != "open"),
    )


def collect(child, readers, seen, seconds):
    """What a child says and does until it ends; it is killed where it takes too long."""
    found = {handle: b"" for handle in [*readers, seen]}
    open_handles, began = set(found), time.monotonic()
    while open_handles:
        if time.monotonic() - began > seconds:
            os.kill(child, signal.SIGKILL)
        for handle in select.select(list(open_handles), [], [], 0.5)[0]:
            try:
                data = os.read(handle, 2**16)
            except OSError:  # a terminal that nobody has open
                data = b""
            found[handle] += data
            if not data:
                open_handles.remove(handle)
    _, status, usage = os.wait4(child, 0)
    for handle in found:
        os.close(handle)
    texts = [found[handle].decode("utf-8", "surrogateescape") for handle in readers]
    return texts, found[seen].decode("utf-8", "replace"), status, usage, time.monotonic() - began


def set_streams(ends, streams):
    """Have the standard streams of this process be the ends, or what `streams` names."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (1, 2):
        os.dup2(ends[number], number)
    for number, what in streams.items():
        if what == "closed":
            os.close(number)
        elif what == "a broken pipe":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, number)
        else:
            os.dup2(os.open(what, os.O_RDWR), number)
    sys.stdin = open(os.devnull)
    for number, name in ((1, "stdout"), (2, "stderr")):
        closed = streams.get(number) == "closed"
        raw = None if closed else io.FileIO(number, "w", closefd=False)
        stream = raw and io.TextIOWrapper(
            io.BufferedWriter(raw), "utf-8", line_buffering=number == 2
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def watch(handle):
    """Tell of each file that is opened for writing, and each program and connection begun."""

    def tell(event, args):
        if event == "open" and isinstance(args[0], (str, bytes)) and (args[2] or 0) & WRITING:
            followed = not args[2] & os.O_NOFOLLOW
            path = (os.path.realpath if followed else os.path.abspath)(os.fsdecode(args[0]))
            os.write(handle, f"open {path!a}\n".encode())
        elif event in ("os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir"):
            path = args[1] if event in ("os.rename", "os.link", "os.symlink") else args[0]
            named = os.path.abspath(os.fsdecode(path))
            os.write(handle, f"open {named!a}\n".encode())
        elif event in STARTS:
            os.write(handle, f"{event} {args!a:.200}\n".encode())

    sys.addaudithook(tell)


def resident_bytes():
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def limit_memory():
    """Let this process ask for so much more, no more."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + SPARE_BYTES, has + SPARE_BYTES))


def complaint(ended: Ended, *, inside: Sequence[Path], codes: Sequence[int] = (0, 1, 2, 3)) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    if "Traceback" in ended.said:
        return "a traceback: " + ended.said[-600:]
    if ended.code not in codes:
        return f"exit code {ended.code}: {ended.said[-300:]}"
    if ended.code == 2 and ended.said.count("error: ") != 1:
        return "not one message: " + ended.said[-600:]
    if found := CONTROLS.search(ended.said):
        around = ended.said[max(0, found.start() - 60) : found.end() + 20]
        return f"a control character: {around!a}"
    allowed = ("/dev/", *(str(path.resolve()) for path in inside))
    strange = [path for path in ended.written if not path.strip("'\"").startswith(allowed)]
    if strange:
        return f"written outside: {strange[:3]}"
    return f"started {ended.started[:3]}" if ended.started else ""
