"""How much memory there is."""

import os
import re
from pathlib import Path


def available_memory() -> int:
    """Bytes that can be had without swapping: of the system, its container, under `ulimit -v`."""
    if not hasattr(os, "sysconf"):
        return 2**62  # unknown: Windows has no such call
    import resource  # Windows has none

    page = os.sysconf("SC_PAGE_SIZE")
    sizes = [page * os.sysconf("SC_PHYS_PAGES")]
    found = re.search(r"MemAvailable:\s*(\d+)", _text_in("/proc/meminfo"))
    sizes += [1024 * int(found[1])] if found else []
    sizes += _left_in_container(Path("/sys/fs/cgroup"))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and (used := _text_in("/proc/self/statm")):
        sizes.append(limit - page * int(used.split()[0]))
    return max(0, min(sizes))


def _left_in_container(group: Path) -> list[int]:
    """What a control group may still use; none where it has no limit. Cached files make room."""
    limit, used = (_text_in(group / f"memory.{name}").strip() for name in ("max", "current"))
    if not limit.isdecimal() or not used.isdecimal():
        return []
    cached = re.findall(r"^(?:in)?active_file (\d+)$", _text_in(group / "memory.stat"), re.M)
    return [int(limit) - int(used) + sum(map(int, cached))]


def _text_in(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
