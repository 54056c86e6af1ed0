"""Write `ravine/__init__.pyi`, which tells type checkers what `import ravine` offers.

The only source is the table in `ravine/__init__.py`: run `python scripts/public_stub.py` after
changing it. `tests/test_public_names.py` fails until then.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

STUB_PATH = Path(__file__).resolve().parents[1] / "ravine" / "__init__.pyi"


def stub_text(home_modules: Mapping[str, str]) -> str:
    """The stub of a package whose public names are imported from these modules.

    >>> print(stub_text({"b": "p.x", "a": "p.x"}))
    # Written by scripts/public_stub.py from the table in __init__.py.
    from p.x import a, b
    <BLANKLINE>
    __version__: str
    __all__ = [
        "a",
        "b",
    ]
    <BLANKLINE>
    """
    by_module: dict[str, list[str]] = {}
    for name in sorted(home_modules):
        by_module.setdefault(home_modules[name], []).append(name)
    imports = [f"from {m} import {', '.join(names)}" for m, names in sorted(by_module.items())]
    exported = [f'    "{name}",' for name in sorted(home_modules)]
    lines = [
        "# Written by scripts/public_stub.py from the table in __init__.py.",
        *imports,
        "",
        "__version__: str",
        "__all__ = [",
        *exported,
        "]",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    ravine = importlib.import_module("ravine")
    STUB_PATH.write_text(stub_text(ravine.HOME_MODULES), encoding="utf-8")
