"""Which remedies are tried: what facts speak for, nothing more on a plain subject, and general ones
at the end; the same of a recipe and of a torch program.
"""

import functools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine import catalog
from ravine.causes import CAUSES
from ravine.data import Encoding
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.examination import remedies
from ravine.examination.recipe_changes import SetSetting, apply_changes
from ravine.examination.recipe_subject import subject_of
from ravine.examination.remedies import Remedy, remedies_of
from ravine.examination.subject import Facts, SubjectProfile, stay_silent
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_change import apply_treatments
from ravine.examination.torch_settings import STRENGTHS_BY_CAUSE
from ravine.examination.torch_subject import TorchSubject
from ravine.finding import TRIABLE_CHANGES, Change, Checks, Evidence, Finding
from ravine.networks.initializers import Normal
from ravine.networks.layer_parts import Dropout
from ravine.optimizers import Adam, Lookahead
from ravine.penalties import L2

RNG = torch.Generator().manual_seed(0)
X = torch.randn(28, 4, generator=RNG)  # so few that no quick learner learns: it saves time
Y = (X[:, 0] * X[:, 1] > 0).long()
NUMBER = X[:, :1] - X[:, 1:2]


def network(*, act=nn.ReLU, outputs=2, tail=(), depth=2):
    torch.manual_seed(1)
    hidden = [m for _ in range(depth - 1) for m in (nn.Linear(16, 16), act())]
    return nn.Sequential(nn.Linear(4, 16), act(), *hidden, nn.Linear(16, outputs), *tail)


def remedies_for(model=None, *, loss=F.cross_entropy, train=(X, Y), **more):
    """The remedies that are tried on a program, and the program."""
    batch = None if isinstance(train, DataLoader) else 7
    given = {"optimizer": lambda p: torch.optim.Adam(p, lr=0.01), "batch_size": batch, "epochs": 2}
    program = read_program(network() if model is None else model, loss, train, **given | more)
    subject = TorchSubject(program)
    return remedies_of(subject, subject.profile(trials=True, say=stay_silent)), program


@functools.cache
def of_sick(cause):
    return remedies_for(**SICK[cause])


def specific(found):
    return [r.cause for r in found if r.evidence and r.cause != "learning-rate-high"]


def test_nothing_speaks_for_a_remedy_of_a_plain_program_and_the_general_ones_come_last():
    found, _ = remedies_for()
    assert specific(found) == ["too-few-steps"]  # of 14 updates, as the last ones show
    assert specific(remedies_for(epochs=6)[0]) == []
    assert [r.cause for r in found] == [
        "initialization",
        "learning-rate-low",
        "learning-rate-high",
        "too-few-steps",
    ]
    assert [r.cause for r in found if r.ordered] == ["learning-rate-low", "learning-rate-high"]


def normal(sd):
    model = network()
    with torch.no_grad():
        for p in model.parameters():
            nn.init.normal_(p, std=sd, generator=torch.Generator().manual_seed(0))
    return model


def normalized(**norm):
    model = network()
    model.insert(1, nn.BatchNorm1d(16, **norm))
    return model


def frozen():
    model = network()
    model[2].requires_grad_(False)
    return model


RARE = (X, (torch.arange(28) % 10 == 0).long())
SICK = {
    "input-scale": {"train": (X * 1000, Y)},
    "target-scale": {
        "model": network(outputs=1),
        "loss": F.mse_loss,
        "train": (X, 100 * NUMBER + 5000),
    },
    "loss-reduction": {"loss": nn.CrossEntropyLoss(reduction="sum")},
    "imbalance": {"train": RARE, "validation": RARE},
    "frozen-parameters": {"model": frozen()},
    "initialization": {"model": normal(5.0)},
    "dropout": {"model": network(tail=(nn.Dropout(0.9),))},
    "over-regularized": {"optimizer": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.5)},
    "optimizer-numerics": {"optimizer": lambda p: torch.optim.Adam(p, lr=0.01, eps=0.1)},
    "normalization": {"model": normalized(momentum=1e-4), "batch_size": 14},
    "batch-size": {"model": normalized()},
    "output-activation": {
        "model": network(outputs=1, tail=(nn.Sigmoid(),)),
        "loss": F.mse_loss,
        "train": (X, NUMBER),
    },
    "hidden-activation": {"model": network(act=nn.Identity)},
    "shuffling": {"train": DataLoader(TensorDataset(X, Y), batch_size=7)},
}


@pytest.mark.parametrize("cause", SICK)
def test_a_fact_speaks_for_the_remedy_of_a_seeded_fault(cause):
    found, program = of_sick(cause)
    assert cause in specific(found)
    (remedy,) = (r for r in found if r.cause == cause)
    assert all(e.name and (e.value is None or math.isfinite(e.value)) for e in remedy.evidence)
    apply_treatments(program, remedy.strengths[0])  # it can be made


@pytest.mark.parametrize("cause", sorted(set(SICK) - {"initialization"}))
def test_and_for_no_other(cause):
    """Another start, too, is tried where unscaled numbers make the first loss far larger than that
    of a constant, and more steps, as these programs make a few updates only.
    """
    also = ("too-few-steps", *(("initialization",) if cause.endswith("-scale") else ()))
    assert set(specific(of_sick(cause)[0])) <= {cause, *also}


@pytest.mark.parametrize("cause", SICK)
def test_every_remedy_names_what_can_be_tried(cause):
    general = {"initialization", "too-few-steps", "batch-size", "optimizer", "over-regularized"}
    general |= {"learning-rate-low", "learning-rate-high"}
    for remedy in of_sick(cause)[0]:
        assert remedy.cause in CAUSES and set(remedy.suspects) <= set(CAUSES)
        assert remedy.evidence or remedy.cause in general
        changes = [made.change for strength in remedy.strengths for made in strength]
        assert {c.path for c in changes} <= set(TRIABLE_CHANGES)


# A catalogue with a subject that is made up


class Recorder:
    """A subject that knows a strength for some causes, and no facts."""

    def __init__(self, strengths, facts=()):
        self.known, self.told = strengths, dict(facts)

    def strengths(self, cause):
        return self.known.get(cause, ())

    def treatments_for(self, changes):
        return tuple(Made(c) for c in changes)

    def facts(self, cause, profile):
        return self.told.get(cause)


class Made:
    def __init__(self, change):
        self.change = change

    def __eq__(self, other):
        return self.change == other.change


def profile(*findings):
    return SubjectProfile(findings=list(findings), checks=Checks(), start=StartProfile())


def ladder(*values):
    return tuple((Made(Change("lr", value)),) for value in values)


def asking(cause, *changes, confidence="high"):
    return Finding(
        code="RVN-C03",
        title="",
        severity="warning",
        confidence=confidence,
        cause=cause,
        where="there",
        evidence=(Evidence("seen", 1.0), Evidence("and", 2.0)),
        changes=changes,
    )


def test_one_remedy_for_a_cause_has_the_strengths_of_all_and_what_is_asked_for_comes_last():
    subject = Recorder({"learning-rate-low": ladder(1, 2, 3)})
    asked = asking("learning-rate-low", Change("lr", 9))
    (remedy,) = remedies_of(subject, profile(asked))
    assert remedy.strengths == ladder(1, 2, 3, 9)
    assert remedy.evidence == (Evidence("seen", 1.0),) and remedy.where == "there"
    (remedy,) = remedies_of(subject, profile(asking("learning-rate-low", Change("lr", 2))))
    assert remedy.strengths == ladder(1, 2, 3)


def test_what_is_made_by_hand_or_has_no_strength_is_not_tried():
    subject = Recorder({})
    by_hand = asking("leakage", Change("data", "without x"))
    mixed = asking("causality", Change("model", "a mask"), Change("lr", 1))
    assert remedies_of(subject, profile(by_hand, mixed)) == []


def test_settings_speak_where_the_subject_knows_facts():
    facts = Facts((Evidence("dropout rate", 0.9),), "hidden", ("over-regularized",))
    subject = Recorder({"dropout": ladder(0)}, {"dropout": facts})
    (remedy,) = remedies_of(subject, profile())
    known = Remedy("dropout", ladder(0), facts.evidence, "hidden", ("over-regularized",))
    assert remedy == known


# Both subjects


def test_there_is_one_class_of_remedies_and_one_list():
    sources = [p.read_text("utf-8") for p in Path(ravine.__file__).parent.rglob("*.py")]
    assert sum(text.count("\nclass Remedy") for text in sources) == 1
    assert sum(text.count("\ndef remedies") for text in sources) == 1
    causes = {*remedies.GENERAL_CAUSES, *remedies.SETTING_CAUSES}
    scales = {"input-scale", "target-scale", "loss-reduction", "imbalance", "initialization"}
    assert causes | scales >= {*STRENGTHS_BY_CAUSE}


NOISE = np.random.default_rng(0)
TABLE = NOISE.normal(size=(300, 4))
SUM = TABLE[:, 0] - TABLE[:, 1] + 0.1 * NOISE.normal(size=300)
SIGN = (SUM > 0).astype(int)
RAW = Encoding(scale="none", smooth_clip=None, target="none")
WIDE = np.array([1.0, 1.0, 1.0, 4000.0])


def as_recipe(x, y, dropout):
    classes = y if y.dtype == float else np.array(["no", "yes"])[y]
    frame = pd.DataFrame(x, columns=list("abcd")).assign(y=classes)
    recipe = catalog.plain().vary("data.target", ("y",)).vary("encoding", RAW).vary("epochs", 3)
    recipe = recipe.vary("network.hidden", (32, 32))
    if dropout:
        recipe = recipe.vary("network.dropout", Dropout(rate=dropout))
    return subject_of(recipe, frame)


def as_program(x, y, dropout):
    torch.manual_seed(0)
    drop = (nn.Dropout(dropout),) if dropout else ()
    outputs = 1 if y.dtype == float else 2
    hidden = (nn.Linear(4, 32), nn.ReLU(), *drop, nn.Linear(32, 32), nn.ReLU(), *drop)
    inputs = torch.tensor(x).float()
    targets = torch.tensor(y).float()[:, None] if outputs == 1 else torch.tensor(y)
    program = read_program(
        nn.Sequential(*hidden, nn.Linear(32, outputs)),
        F.mse_loss if outputs == 1 else F.cross_entropy,
        (inputs, targets),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        batch_size=32,
        epochs=3,
    )
    return TorchSubject(program)


@pytest.mark.parametrize(
    ("causes", "x", "y", "dropout"),
    [
        ((), TABLE, SIGN, 0.0),
        (("target-scale",), TABLE, 100 * SUM + 5000, 0.0),
        (("input-scale",), TABLE * WIDE, SIGN, 0.0),
        (("input-scale", "target-scale"), TABLE * WIDE, 100 * SUM + 5000, 0.0),
        (("imbalance",), TABLE, (np.arange(300) % 20 == 0).astype(int), 0.0),
        (("dropout",), TABLE, SIGN, 0.9),
    ],
)
def test_both_subjects_get_the_same_causes_from_the_same_facts(causes, x, y, dropout):
    """Another start is the program's alone: that of the recipe is He's already."""
    for subject in (as_recipe(x, y, dropout), as_program(x, y, dropout)):
        found = remedies_of(subject, subject.profile(trials=False, say=stay_silent))
        assert all(type(r) is Remedy for r in found)
        spoken = {r.cause for r in found if r.evidence} - {"initialization"}
        assert spoken == set(causes)
        both = {r.cause: r for r in found if len(causes) == 2 and r.cause in causes}
        assert all(len(r.strengths) == 2 and len(r.strengths[1]) == 2 for r in both.values())


def test_every_remedy_of_a_recipe_changes_it():
    sick = catalog.plain().vary("data.source", "digits")
    for path, value in {
        "network.dropout": Dropout(rate=0.9),
        "penalties": (L2(strength=1.0),),
        "batch": "all",
        "optimizer": Lookahead(inner=Adam(lr=0.1)),
        "encoding": RAW,
        "epochs": 2,
        "network.hidden": (3,),
        "network.initializer": Normal(sd=1.0),
    }.items():
        sick = sick.vary(path, value)
    subject = subject_of(sick)
    found = remedies_of(subject, subject.profile(trials=False, say=stay_silent))
    causes = [r.cause for r in found]
    assert len(causes) == len(set(causes)) and {
        "dropout",
        "over-regularized",
        "batch-size",
        "input-scale",
        "too-few-steps",
        "architecture-too-small",
        "initialization",
        "learning-rate-high",
    } <= set(causes)
    for remedy in found:
        for strength in remedy.strengths:
            changed = subject.recipe
            for made in strength:
                assert isinstance(made, SetSetting)
                changed = apply_changes(changed, [made.change])
            assert changed != subject.recipe
    rates = next(r for r in found if r.cause == "learning-rate-high")
    assert rates.strengths[0][0].change == Change("optimizer.inner.lr", 0.01)
