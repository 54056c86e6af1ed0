"""The names that parts, keys and codes had in earlier versions: the only place that knows them.

Recipe files, run folders and JSON written by an earlier version are read under these names; they
are never written again. `tests/old_formats/` holds such files.
"""

from collections.abc import Mapping
from typing import Any

# names that recipe files had for a part; which part is meant, its place in the recipe decides
OLD_PART_NAMES: Mapping[str, tuple[str, ...]] = {
    "KorniaAugmentation": ("Guest",),
    "TorchModule": ("Module",),
    "TorchOptimizer": ("Guest",),
}
# keys of JSON files by the key of today
OLD_KEYS: Mapping[str, tuple[str, ...]] = {
    "columns": ("forms",),
    "encoder": ("form",),
    "image": ("picture",),
    "images": ("pictures",),
    "task_type": ("asked",),
    "transform": ("form",),
}
# metrics by the kind of task and the name that recipes had for them
OLD_METRICS: Mapping[tuple[str, str], str] = {("classes", "f1"): "macro_f1"}
# commands by the name that they have today
RENAMED_COMMANDS: Mapping[str, str] = {"search": "tune"}
# codes of findings by the code that says the same today
RETIRED_CODES: Mapping[str, str] = {
    "RVN-C01": "RVN-I13",
    "RVN-C05": "RVN-I01",
    "RVN-C06": "RVN-I14",
    "RVN-C07": "RVN-I15",
    "RVN-C08": "RVN-I16",
    "RVN-C09": "RVN-S02",
    "RVN-C10": "RVN-I07",
    "RVN-T01": "RVN-N01",
    "RVN-T21": "RVN-T03",
    "RVN-T22": "RVN-T02",
    "RVN-T23": "RVN-T09",
    "RVN-T24": "RVN-T04",
}


def part_names(cls: type) -> tuple[str, ...]:
    """The names by which a recipe may call a part, the one of today first."""
    return (cls.__name__, *OLD_PART_NAMES.get(cls.__name__, ()))


def get_key(plain: Mapping[str, Any], key: str) -> Any:
    """The value of a key in plain data, also where it has an earlier name.

    >>> get_key({"picture": None, "outputs": 3}, "outputs"), get_key({"picture": 5}, "image")
    (3, 5)
    """
    names = (key, *OLD_KEYS.get(key, ()))
    return next((plain[name] for name in names if name in plain), None)


def current_metric(kind: str, name: str) -> str:
    """The name of today for the metric that a recipe for a kind of task names.

    >>> current_metric("classes", "f1"), current_metric("binary", "f1")
    ('macro_f1', 'f1')
    """
    return OLD_METRICS.get((kind, name), name)


def current_code(code: str) -> str:
    """The code of today for one that a record or a report may hold.

    >>> current_code("RVN-T22"), current_code("RVN-L01")
    ('RVN-T02', 'RVN-L01')
    """
    return RETIRED_CODES.get(code, code)


def with_earlier_keys(plain: Any) -> Any:
    """The same plain data under the first names of its keys.

    Fingerprints are made from these, so that a run begun by an earlier version recognizes its data.

    >>> with_earlier_keys({"images": [{"task_type": 1}], "fit": "crop"})
    {'pictures': [{'asked': 1}], 'fit': 'crop'}
    """
    if isinstance(plain, Mapping):
        return {OLD_KEYS.get(k, (k,))[0]: with_earlier_keys(v) for k, v in plain.items()}
    return [with_earlier_keys(v) for v in plain] if isinstance(plain, list) else plain
