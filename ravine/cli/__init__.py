"""The command line: `ravine train`, `ravine doctor`, and the others.

Nothing heavy is imported before a command needs it.
"""

from typing import Any

from ravine.cli.process import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    # late, so that signals are handled while the rest is imported
    if name != "run_command":
        raise AttributeError(name)
    from ravine.cli import app

    return app.run_command
