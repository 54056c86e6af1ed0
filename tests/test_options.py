"""The command line's options: the same in every command, explained, and wrong ones answered in one message."""

import io
import re

from rich.console import Console

from ravine.cli import app


def helps_of(command):
    """What the help says of each option of a command, without its default."""
    text = io.StringIO()
    app.help_print([command], console=Console(file=text, width=500))
    rows = re.findall(r"^│ \*?\s*(--[\w-]+)( -\w)?( [A-Z]+(?:\.\.\.)?)?(.*)│$", text.getvalue(), re.M)
    return {name: said.split("[default")[0].strip() for name, _, _, said in rows}


def test_every_option_is_explained_and_means_the_same_in_every_command():
    said = {}
    for command in (name for name in app if not name.startswith("-")):
        for name, text in helps_of(command).items():
            assert len(text) > 5, f"{command} {name} has no help"
            if name in ("--target", "--set", "--recipe", "--json", "--force", "--quiet"):
                said.setdefault(name, set()).add(text)
    assert len(said) == 6 and all(len(texts) == 1 for texts in said.values()), said
