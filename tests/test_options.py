"""The command line's options: the same in every command, explained, and wrong ones answered in one message."""

import io
import re

import pytest
from rich.console import Console

from ravine import catalog
from ravine.catalog import with_settings
from ravine.cli import app
from ravine.data import Grouped, Random
from ravine.errors import RecipeError
from ravine.optimizers import AdamW


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


def test_a_parts_name_and_its_settings_are_taken_together():
    plain = catalog.named("plain")
    assert with_settings(plain, ["split=ByTime", "epochs=3", "split.column=sold"]) == catalog.changed(
        plain, {"epochs": 3, "split": {"name": "ByTime", "column": "sold"}})  # fmt: skip
    told = with_settings(plain, ["schedule=WarmUp", "schedule.then=StepDecay", "schedule.then.gamma=0.5"])
    assert told == catalog.changed(plain, {"schedule": {"name": "WarmUp", "then": {"name": "StepDecay",
                                                                                   "gamma": 0.5}}})  # fmt: skip
    own = catalog.named("default").vary("optimizer", AdamW(beta1=0.5))
    told = with_settings(own, ["optimizer=AdamW", "optimizer.lr=0.1"]).optimizer
    assert told == AdamW(lr=0.1)  # a name alone starts from the part's defaults, whichever part the recipe has
    assert with_settings(plain, ["split=ByTime", "split.column=a", "split=Random"]).split == Random()
    assert with_settings(plain, ["split=Random", "split=Grouped", "split.column=a"]).split == Grouped(column="a")


def test_an_entry_of_a_list_can_be_set_at_any_depth():
    default = catalog.named("default")
    assert with_settings(default, ["network.hidden.0=64"]).network.hidden == (64, 256)
    told = with_settings(default, ["penalties=[{name='L2', strength=0.1}, 'L1']", "penalties.0.strength=0.2"])
    assert [type(p).__name__ for p in told.penalties] == ["L2", "L1"] and told.penalties[0].strength == 0.2


@pytest.mark.parametrize(("given", "said"), [
    (["split=ByTime"], "--set split=ByTime: ByTime needs column. To mend it: set split.column, too."),
    (["network.hidden.5=64"], "no setting 'network.hidden.5': its places are 0 to 1"),
    (["penalties.0.strength=1"], "there is nothing in it. To mend it: set penalties as a whole."),
    (["split=ByTime", "split.colum=x"], "--set split=ByTime --set split.colum=x: ByTime has no setting 'colum'"),
])  # fmt: skip
def test_a_setting_that_cannot_be_made_says_what_to_write(given, said):
    with pytest.raises(RecipeError) as caught:
        with_settings(catalog.named("default"), given)
    assert said in str(caught.value)
