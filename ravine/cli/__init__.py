"""The command line: `ravine train`, `ravine doctor`, and the others.

app.py        the list of commands, exit codes, messages for mistakes
options.py    options that several commands share, and the recipe that they describe
train.py      train, predict, show, recipes, verify-resume
diagnose.py   check, doctor, explain
study.py      range, search, ensemble, augment, gallery
output.py     results as text or JSON, files, live lines

Nothing heavy is imported before a command needs it.
"""

from ravine.cli.app import main, run_command

__all__ = ["main", "run_command"]
