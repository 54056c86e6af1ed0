"""The command line: `ravine train`, `ravine doctor`, and the others.

Nothing heavy is imported before a command needs it.
"""

from ravine.cli.process import main

__all__ = ["main", "run_command"]


def run_command(arguments: list[str]) -> int:
    """Run a command; return its exit code."""
    from ravine.cli import app

    return app.run_command(arguments)
