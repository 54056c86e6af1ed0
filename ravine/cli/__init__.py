"""The command line: `ravine train`, `ravine doctor`, and the others.

Nothing heavy is imported before a command needs it.
"""

from ravine.cli.app import main, run_command

__all__ = ["main", "run_command"]
