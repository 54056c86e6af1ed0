"""Wrong arguments from Python and the command line end in one message that says what to write."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

import ravine
from ravine.cli import run_command
from ravine.data import Encoder
from ravine.errors import InputError
from ravine.training.arguments import require_device, require_workers

RECIPE = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: ravine.train("penguins"),
            r"the recipe is 'penguins'.*_recipe.*vary\(\"data.source\", \"penguins\"\)",
        ),
        (
            lambda: ravine.train(Path("r.toml")),
            r"the recipe is .r.toml.: .*Give ravine.read_recipe\(\"r.toml\"\)",
        ),
        (lambda: ravine.train(None), "the recipe is None: it must be a ravine.Recipe"),
        (
            lambda: ravine.train_all(RECIPE),
            r"train_all got one recipe: .*Write train_all\(\[recipe\]\)",
        ),
        (lambda: ravine.train_all("penguins"), "train_all got 'penguins'"),
        (lambda: ravine.train_all(None), "train_all got None"),
        (lambda: ravine.train_all([RECIPE, {"epochs": 3}]), "the recipe is {.epochs.: 3}"),
        (lambda: ravine.train(RECIPE, device="gpu"), "device is 'gpu': this machine has cpu"),
        (lambda: ravine.train(RECIPE, device="cuda:9"), "device is 'cuda:9': this machine has cpu"),
        (lambda: ravine.train_all([RECIPE], device=None), "device is 'None'"),
        (
            lambda: ravine.train(RECIPE, workers=0),
            "workers is 0: it is a number of processes, at least 1",
        ),
        (lambda: ravine.train_all([RECIPE], workers=-3), "workers is -3"),
        (lambda: ravine.train(RECIPE, workers="2"), "workers is '2'"),
    ],
)
def test_a_wrong_argument_is_one_message(call, said):
    with pytest.raises(InputError, match=said):
        call()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("train iris --workers 0", "workers is 0"),
        ("train iris --workers -3", "workers is -3"),
        ("train iris --device cuda:9", "device is 'cuda:9'"),
        ("verify-resume iris --kills 0", "kills is 0: it must be at least 1"),
    ],
)
def test_a_wrong_option_is_one_message(asked, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(asked.split()) == 2
    assert f"error: {said}" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_what_is_right_is_taken():
    assert (
        require_device(torch.device("cpu")) == "cpu"
        and require_workers(3) == 3
        and require_workers(None) >= 1
    )
    assert ravine.train_all([]) == []


def irises(encoder: Encoder) -> pd.DataFrame:
    return pd.DataFrame(load_iris(return_X_y=True)[0], columns=[*encoder.columns])


def test_a_file_of_new_rows_is_predicted_as_its_table_is(tmp_path):
    run = ravine.train(RECIPE)
    assert isinstance(run.model.encoder, Encoder)
    table = irises(run.model.encoder).head(3)
    table.to_csv(tmp_path / "new.csv", index=False)
    assert run.predict(str(tmp_path / "new.csv")).equals(run.predict(table))
    with pytest.raises(InputError, match="nowhere.csv does not exist"):
        run.predict("nowhere.csv")


def test_a_file_in_another_unit_is_predicted_with_a_warning(tmp_path):
    run = ravine.train(RECIPE)
    assert isinstance(run.model.encoder, Encoder)
    table = irises(run.model.encoder)
    (25.4 * table).to_csv(tmp_path / "inches.csv", index=False)
    with pytest.warns(UserWarning, match="outside the training rows: sepal length.* 150 of 150"):
        assert len(run.predict(tmp_path / "inches.csv")) == len(table)
