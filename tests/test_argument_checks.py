"""Arguments and settings of the wrong kind end in one message of ours, however they are given."""

import math

import numpy as np
import pytest
from torch import nn

import ravine
from ravine.argument_checks import Count, check_arguments
from ravine.cli import run_command
from ravine.cli.app import COMMAND_FUNCTIONS
from ravine.errors import InputError, RecipeError
from ravine.losses import Huber
from ravine.networks.activations import ReLU
from ravine.optimizers import Lookahead
from ravine.recipe_files import with_settings
from ravine.schedules import WarmUp
from ravine.studies.ensemble import compare_ensembles, soup
from ravine.studies.lr_range_test import range_test
from ravine_gallery import find_experiment

PLAIN = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ravine.named_recipe(None), "name is None: it must be a string"),
        (lambda: ravine.open_run(None), "folder is None: it must be a string or a Path"),
        (lambda: ravine.open_run("x" * 300), "File name too long"),
        (lambda: ravine.read_recipe("a\0b"), "path cannot be"),
        (lambda: ravine.doctor(None), "what is None"),
        (lambda: ravine.train(PLAIN, report=3), "report is 3: it must be a function or None"),
        (
            lambda: ravine.examine("network", print, (1, 2), optimizer=print, epochs=1),
            "model is 'network': it must be a torch.nn.Module",
        ),
        (lambda: ravine.train(PLAIN, out=3), "out is 3: it must be a string or a Path or None"),
        (lambda: ravine.train(PLAIN, 3), "Give a pandas DataFrame"),
        (lambda: ravine.train(PLAIN, checkpoint_seconds=math.nan), "it must be a finite number"),
        (lambda: ravine.train(PLAIN, workers=10**5_000), "workers is an int"),
        (lambda: ravine.train_all([PLAIN, "x"]), "the recipe is 'x'"),
        (lambda: ravine.train_all({"a": PLAIN}), "takes a list of recipes"),
        (lambda: PLAIN.vary(None, 3), "path is None"),
        (lambda: ravine.findings_text("report"), "report is 'report': it must be a Report"),
        (lambda: ravine.watch(nn.Linear(1, 1), every="100"), "every is '100'"),
        (lambda: ravine.watch(nn.Linear(1, 1), quiet="no"), "it must be True or False"),
        (lambda: range_test(PLAIN, seeds=2**62), "it must be at most 100000"),
        (lambda: compare_ensembles(PLAIN, repeats=2.5), "it must be an integer"),
        (lambda: soup(PLAIN, PLAIN), "it must be a Model"),
        (lambda: find_experiment(7), "name is 7"),
    ],
)
def test_arguments_are_refused_in_words(call, words):
    with pytest.raises(InputError) as caught:
        call()
    assert words in str(caught.value) and len(str(caught.value)) < 600


def test_numbers_of_numpy_are_numbers_and_booleans_are_none():
    def repeat(times: Count, rate: float = 1.0) -> None:
        check_arguments(repeat, locals())

    repeat(np.int64(3), np.float32(0.5))
    repeat(3, 2)
    for wrong in ((True,), (np.float64(3.0),), (0,), (3, "1"), (3, math.inf), (3, False)):
        with pytest.raises(InputError, match="^(times|rate) is"):
            repeat(*wrong)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("epochs", 2**63 - 1, "at most 1000000000"),
        ("seed", 2**63, "64 bits"),
        ("seeds", 10**5_000, "Recipe.seeds is an int"),
        ("network.hidden", [10**9], "at most 1000000"),
        ("network.scale_lr", math.inf, "a finite number"),
        ("optimizer.lr", 1e300, "the largest number in float32"),
        ("optimizer", ReLU(), "ReLU is no Optimizer: it has no lr, start, update"),
        ("optimizer", Huber(), "Huber is no Optimizer"),
        ("loss", Lookahead(), "Lookahead is no Loss"),
        ("average", Lookahead(), "that is an optimizer"),
        ("batch", [[[]]], "Recipe.batch is [[[]]]"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_settings_are_refused_in_words(path, value, words):
    with pytest.raises(RecipeError) as caught:
        PLAIN.vary(path, value)
    assert words in str(caught.value) and len(str(caught.value)) < 600


def test_parts_in_parts_end_somewhere():
    schedule = WarmUp()
    with pytest.raises(RecipeError, match="nested more than 32 deep"):
        for _ in range(100):
            schedule = WarmUp(then=schedule)


def test_lookahead_around_lookahead_is_refused():
    with pytest.raises(RecipeError, match="Keep one of them"):
        Lookahead(inner=Lookahead())


@pytest.mark.parametrize("settings", ["{fused = true}", "{capturable = true}", "{x = 1}", "3"])
def test_settings_that_torch_refuses_are_refused_before_training(settings):
    given = f'optimizer={{name = "TorchOptimizer", optimizer = "Adam", settings = {settings}}}'
    if settings == "{fused = true}":  # torch can on the CPU, and it is the same rule
        assert ravine.train(with_settings(PLAIN, given)).score is not None
        return
    with pytest.raises(RecipeError, match="TorchOptimizer.settings"):
        with_settings(PLAIN, given)


@pytest.mark.parametrize(
    "given",
    [
        "epochs=" + "9" * 5_000,
        "network.hidden=" + "[" * 2_000 + "]" * 2_000,
        ".".join("a" * 2_000) + "=1",
        "optimizer=" + "x" * 5_000,
        "network.hidden=[1000000000]",
        "seeds=9223372036854775807",
        "optimizer=" + '{name = "Lookahead", inner = ' * 200 + '"Adam"' + "}" * 200,
    ],
    ids=lambda given: given[:20],
)
def test_a_setting_on_the_command_line_is_refused_in_words(given, capsys):
    assert run_command(["train", "iris", "--set", given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said and len(said) < 600


@pytest.mark.parametrize("text", ["epochs = " + "[" * 2_000, "seeds = 9223372036854775807"])
def test_a_recipe_file_is_refused_in_words(text, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        ravine.read_recipe(path)
    assert "r.toml" in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a\udcffb", ""], ids=ascii)
@pytest.mark.parametrize("command", sorted(set(COMMAND_FUNCTIONS) - {"gallery", "augment"}))
def test_names_that_no_file_can_have_are_refused_by_every_command(command, name, capsys):
    if name == "" and command == "explain":
        return
    rest = {"predict": ["t.csv"], "search": ["--space", "seed=[1]"]}.get(command, [])
    assert run_command([command, name, *rest]) == 2
    said = capsys.readouterr()
    assert said.err.count("error: ") == 1 and "Traceback" not in said.err + said.out


def test_a_number_that_would_be_rounded_is_no_integer(capsys):
    for option in ("--seeds", "--seed"):
        assert run_command(["train", "iris", option, "2.7"]) == 2
        assert "it must be an integer, not '2.7'" in capsys.readouterr().err
