"""What the rules say of examples with a planted fault, and that they say nothing of those
without.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import datasets

from ravine.diagnosis.data import leaking_columns, measure
from ravine.diagnosis.data.data_kinds import count_classes, find_task_kind
from ravine.diagnosis.data.measure import measure_numbers, profile_data
from ravine.diagnosis.data.profile import (
    BaselineResult,
    ClassCounts,
    DataProfile,
    Duplicates,
    ExampleOrder,
    NumberStats,
    SpreadRange,
    Steepness,
    ValidationProfile,
    ValidationShift,
    class_evenness,
)
from ravine.diagnosis.registry import DATA_RULES
from ravine.diagnosis.rule import run_rules

SEED = 20
bare = pytest.mark.usefixtures("no_baseline")
NAMES = ("age", "height", "weight", "pulse", "visits", "refund")


@pytest.fixture
def no_baseline(monkeypatch):
    """Without the quick learner: it takes most of the time, and these tests do not ask it."""
    for module in (leaking_columns, measure):
        monkeypatch.setattr(module, "fit_baseline", lambda *given, **more: None)


def patients(rows=240, noise=0.6):
    """A table whose columns each tell a little about one number."""
    draw = torch.Generator().manual_seed(SEED)
    hidden = torch.randn(rows, 1, generator=draw)
    x = hidden + 1.5 * torch.randn(rows, 6, generator=draw)
    return x, hidden + noise * torch.randn(rows, 1, generator=draw)


def ill(rows=240):
    x, y = patients(rows)
    return x, (y[:, 0] > 0.3).long()


def found(x, y, **more):
    """Codes by severity."""
    findings, checks = run_rules(DATA_RULES, profile_data(x, y, **more))
    assert checks.failed == ()
    return {f.code: f for f in findings}


def alarms(x, y, **more):
    return sorted(code for code, f in found(x, y, **more).items() if f.severity != "note")


def halves(x, y, at=160):
    return x[:at], y[:at], (x[at:], y[at:])


def test_a_table_without_faults_is_passed():
    for x, y in (patients(), ill()):
        a, b, held = halves(x, y)
        assert found(a, b, validation=held, names=NAMES, shuffled=False, batch=16) == {}


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_real_tables_raise_no_alarm(name):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(x))[:300]
    x, y = torch.from_numpy(x[order]).float(), torch.from_numpy(y[order])
    y = y.float() if name == "diabetes" else y
    a, b, held = halves(x, y, int(0.7 * len(x)))
    assert alarms(a, b, validation=held) == []


def test_toys_raise_no_alarm():
    corners = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]).repeat(30, 1)
    assert (
        alarms(
            corners[:80],
            (corners.sum(1) % 2).long()[:80],
            validation=(corners[80:], corners[80:, 0].long()),
        )
        == []
    )
    draw = torch.Generator().manual_seed(SEED)
    x = torch.randn(200, 5, generator=draw)
    assert alarms(x, (x[:, 2] > 0).long()) == []  # one column tells all, the others nothing: a toy
    assert alarms(x, 3 * x[:, :1] - 1) == []
    tokens = torch.randint(0, 9, (150, 7), generator=draw)
    assert (
        alarms(
            tokens[:110, :-1], tokens[:110, 1:], validation=(tokens[110:, :-1], tokens[110:, 1:])
        )
        == []
    )
    walk = torch.randn(300, generator=draw).cumsum(0).unfold(0, 9, 1)
    assert (
        alarms(
            *halves(walk[:, :8], walk[:, 8:], 200)[:2], validation=(walk[200:, :8], walk[200:, 8:])
        )
        == []
    )


@bare
def test_numbers_that_are_not_finite_are_named_by_column():
    x, y = patients()
    x[3, 2], x[7, 2], x[9, 4] = float("nan"), float("inf"), float("nan")
    findings = [
        f for f in run_rules(DATA_RULES, profile_data(x, y, names=NAMES))[0] if f.code == "RVN-D01"
    ]
    assert [(f.where, f.evidence[0].value, f.severity) for f in findings] == [
        ("weight", 2.0, "error"),
        ("visits", 1.0, "error"),
    ]
    images = torch.rand(40, 1, 6, 6)
    images[5, 0, 2, 2] = float("nan")
    assert found(images, torch.arange(40) % 4)["RVN-D01"].where == "inputs"
    y[11] = float("nan")
    assert [f.where for f in run_rules(DATA_RULES, profile_data(patients()[0], y))[0]] == ["target"]


@bare
def test_inputs_targets_and_columns_with_one_value():
    x, y = ill()
    x[:, 1] = 4.0
    assert found(x, y, names=NAMES)["RVN-D03"].where == "height"
    sources = ("age", "kind", "kind", "pulse", "visits", "visits")  # a level that no row has
    assert "RVN-D03" not in found(x, y, names=NAMES, sources=sources)
    x[:, 2] = 0.0
    constant = found(x, y, names=NAMES, sources=sources)["RVN-D03"]
    assert (constant.where, constant.evidence[0].value, constant.evidence[0].text) == (
        "kind",
        1,
        "of 4",
    )
    many, answers = patients(9000)
    many[:, 1] = 0.0
    many[5003, 1] = 1.0  # in no sample
    assert "RVN-D03" not in found(many, answers, names=NAMES)
    assert alarms(torch.zeros_like(x), y) == ["RVN-D02"]
    assert alarms(x, torch.full_like(y, 2)) == ["RVN-D04"]
    assert alarms(x, torch.full((len(x), 1), 0.7)) == ["RVN-D04"]
    known = torch.full((len(x), 1), 0.7)
    known[::3] = math.nan  # which a loss may leave out, as an equation has its own
    assert "RVN-D04" not in alarms(x, known)


@bare
def test_scales_are_told_in_figures():
    x, y = patients()
    assert found(1e-4 * x, y)["RVN-D05"].severity == "note"
    assert "RVN-D05" in found(x * torch.tensor([1.0, 1, 1, 1, 1, 1000]), y)
    assert "RVN-D05" in found(x + 400, y)
    assert "RVN-D05" in found(torch.randint(0, 256, (60, 3, 8, 8)).float(), torch.arange(60) % 3)
    assert "RVN-D05" not in found(x / 2 + 1, y)
    assert {"RVN-D06"} == set(found(x, 200 * y + 3000)) and "RVN-D06" not in found(x, 2 * y + 1)


def test_eigenvalues_are_those_of_the_second_moment():
    x = np.random.default_rng(SEED).normal(3, (1, 20), (400, 2))
    figures = measure_numbers(x)
    assert figures.steepness.raw == pytest.approx(np.linalg.eigvalsh(x.T @ x / 400)[-1])
    assert figures.steepness.standardized == pytest.approx(np.linalg.eigvalsh(np.corrcoef(x.T))[-1])
    assert (figures.spreads.largest_name, figures.spreads.smallest_name) == ("column 1", "column 0")


@bare
def test_validation_rows_that_are_training_rows():
    x, y = patients()
    a, b, _ = halves(x, y)
    mixed = (torch.cat([x[160:], a[:12]]), torch.cat([y[160:], b[:12]]))
    seen = found(a, b, validation=mixed)["RVN-D07"]
    assert (seen.severity, seen.where, seen.evidence[0].value) == ("warning", "validation", 12)
    few = (torch.cat([x[160:], a[:3]]), torch.cat([y[160:], b[:3]]))
    assert found(a, b, validation=few)["RVN-D07"].severity == "note"


@bare
def test_repeats_that_are_natural_are_no_leak():
    draw = torch.Generator().manual_seed(SEED)
    x = torch.randint(0, 3, (400, 4), generator=draw).float()
    y = (x.sum(1) > 4).long()
    copies = profile_data(x[:300], y[:300], validation=(x[300:], y[300:])).duplicates
    assert copies.natural and copies.overlap > 80 and copies.expected_overlap > 80
    assert alarms(x[:300], y[:300], validation=(x[300:], y[300:])) == []
    x, y = patients()
    assert alarms(x[:160].repeat(3, 1), y[:160].repeat(3, 1), validation=(x[160:], y[160:])) == []


def test_a_column_that_gives_the_target_away():
    x, y = patients()
    x[:, 5] = 12 * y[:, 0] + 30
    leak = found(x, y, names=NAMES)["RVN-D08"]
    assert (leak.severity, leak.where, leak.cause) == ("warning", "refund", "leakage")
    x[:, 5] = y[:, 0].exp()  # but for a bend
    assert found(x, y, names=NAMES)["RVN-D08"].where == "refund"
    x, y = ill()
    x[:, 0] = y + 0.01 * torch.randn(len(y), generator=torch.Generator().manual_seed(SEED))
    assert [found(x, y)["RVN-D08"].where, alarms(x, y)] == ["column 0", ["RVN-D08"]]
    x[:, 0] = y + 0.3 * torch.randn(len(y), generator=torch.Generator().manual_seed(SEED))
    assert alarms(x, y) == []


@bare
def test_targets_that_are_the_inputs_again():
    tokens = torch.randint(0, 9, (60, 8), generator=torch.Generator().manual_seed(SEED))
    assert alarms(tokens, tokens) == ["RVN-D09"]
    assert profile_data(tokens[:, :-1], tokens[:, 1:]).kind == "next"
    hidden = torch.where(
        torch.rand(60, 8, generator=torch.Generator().manual_seed(1)) < 0.2, tokens, -100
    )
    assert (
        alarms(tokens.masked_fill(hidden >= 0, 0), hidden, outputs=(8, 9)) == []
    )  # fill in the blanks


@bare
def test_validation_inputs_on_another_scale():
    x, y = patients()
    x = 40 * x + 100
    mean, std = x[:160].mean(0), x[:160].std(0)
    for other in (x[160:], ((x[160:] - mean) / std - mean) / std):  # not at all, and twice
        seen = found((x[:160] - mean) / std, y[:160], validation=(other, y[160:]))["RVN-D10"]
        assert (seen.severity, seen.where, seen.cause) == ("warning", "validation", "input-scale")
    images = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(SEED))
    assert alarms(
        images[:50], torch.arange(50) % 2, validation=(255 * images[50:], torch.arange(30) % 2)
    ) == ["RVN-D10"]


@bare
def test_the_spread_of_a_rare_flag_says_nothing_with_few_validation_examples():
    generator = torch.Generator().manual_seed(SEED)
    for rare in (0.02, 0.03, 0.05):
        x = (torch.rand(200, 1, generator=generator) < rare).float()
        y = torch.arange(200) % 2
        assert "RVN-D10" not in found(x[:160], y[:160], validation=(x[160:], y[160:]))


@bare
def test_one_column_that_moved_is_a_note():
    x, y = patients()
    x[160:, 3] += 6
    seen = found(x[:160], y[:160], validation=(x[160:], y[160:]), names=NAMES)["RVN-D10"]
    assert (seen.severity, seen.cause) == ("note", "split") and "pulse" in seen.title


@bare
def test_validation_targets_that_training_lacks():
    x, _ = patients(300)
    y = (x.sum(1).argsort().argsort() // 60).long()
    order = y.argsort()
    a, b, held = halves(x[order], y[order], 220)
    assert "RVN-D11" in alarms(a, b, validation=held)
    assert (
        found(x, y, validation=(x[y == 2], y[y == 2]))["RVN-D11"].title
        == "validation examples are all of one class"
    )
    x, y = patients()
    assert alarms(x[:160], y[:160], validation=(x[160:], 75 * y[160:] + 150)) == ["RVN-D11"]


@bare
def test_the_largest_of_a_few_validation_targets_may_be_the_largest_of_all():
    alike = 0
    for seed in range(40):
        draw = torch.Generator().manual_seed(seed)
        x, y = torch.randn(48, 3, generator=draw), torch.randn(48, 1, generator=draw).exp()
        alike += "RVN-D11" in found(x[:40], y[:40], validation=(x[40:], y[40:]))
    assert alike == 0  # 5 of 40 have 10 % outside


@bare
def test_rare_classes_are_a_note():
    x, _ = patients(300)
    y = (torch.arange(300) % 25 == 0).long()
    rare = found(x, y)["RVN-D12"]
    assert (rare.severity, rare.where) == ("note", "class 1")
    assert found(x, y, target_names=("kept", "fraud"))["RVN-D12"].where == "class 'fraud'"
    labels = torch.stack([y, 1 - y, torch.arange(300) % 2], 1).float()
    named = found(x, labels, outputs=(3,), target_names=("odd", "even", "half"))["RVN-D12"]
    assert named.where == "label 'odd'"
    one = found(x, torch.ones(300).long(), target_names=("kept", "fraud"))["RVN-D04"]
    assert one.evidence[0].text == "all targets are 'fraud'"
    lacking = found(x[y == 0], y[y == 0], validation=(x, y), target_names=("kept", "fraud"))
    assert "class 'fraud'" in lacking["RVN-D11"].evidence[0].text
    share = np.array([0.96, 0.04])
    assert class_evenness(count_classes(y.numpy(), "classes")) == pytest.approx(
        np.exp(-(share * np.log(share)).sum()) - 1
    )


@bare
def test_sorted_classes_matter_where_nothing_shuffles():
    x, y = ill()
    order = y.argsort()
    assert alarms(x[order], y[order], shuffled=False, batch=16) == ["RVN-D13"]
    assert alarms(x[order], y[order], shuffled=True, batch=16) == []
    assert alarms(x[order], y[order], shuffled=False, batch=240) == []  # all at once
    x, y = patients()
    order = y[:, 0].argsort()
    assert alarms(x[order], y[order], shuffled=False, batch=16) == ["RVN-D13"]


def test_targets_without_information():
    x, y = ill()
    apart = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(SEED + 1))]
    assert {code: f.severity for code, f in found(x, apart).items()} == {"RVN-D14": "note"}
    assert "RVN-D14" not in found(x[:90], apart[:90])  # too few to say so
    clear = (x.sum(1) > 0).long()
    assert alarms(x[:150], apart[:150], validation=(x[150:], clear[150:])) == ["RVN-D18"]
    assert alarms(x[:150], apart[:150], validation=(x[150:], apart[150:])) == []


@pytest.mark.parametrize(
    ("examples", "move", "words"),
    [
        (ill, lambda y: y.roll(1, 0), "1 row on"),
        (patients, lambda y: y.roll(-1, 0), "1 row back"),
        (ill, lambda y: y.flip(0), "opposite"),
    ],
)
def test_targets_of_other_rows(examples, move, words):
    x, y = examples()
    seen = found(x, move(y))
    assert (
        set(seen) == {"RVN-D15"}
        and words in seen["RVN-D15"].title
        and seen["RVN-D15"].severity == "error"
    )


@bare
def test_labels_without_an_output():
    x, y = ill()
    assert alarms(x, y + 1, outputs=(2,)) == ["RVN-D16"]
    assert "less 1" in found(x, y + 1, outputs=(2,))["RVN-D16"].changes[0].value
    assert (
        found(x, y + 1, outputs=(3,)) == {}
        and found(x, y.masked_fill(x[:, 0] > 2, -100), outputs=(2,)) == {}
    )
    assert found(x, y - 1, outputs=(2,))["RVN-D16"].severity == "note"


@bare
def test_images_that_were_not_read():
    images = torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(SEED))
    images[20:] = 0
    assert found(images, torch.arange(60) % 3)["RVN-D17"].evidence[0].value == 40


@pytest.mark.parametrize(
    ("x", "y", "kind"),
    [
        (torch.rand(9, 4), torch.arange(9) % 3, "classes"),
        (torch.rand(9, 4), torch.rand(9), "number"),
        (torch.rand(9, 4), (torch.arange(9.0) % 2)[:, None], "binary"),
        (torch.rand(9, 4), torch.rand(9, 3), "numbers"),
        (torch.rand(9, 4), torch.eye(3).repeat(3, 1), "classes"),
        (torch.rand(9, 1, 4, 4), torch.rand(9, 2), "numbers"),
        (torch.rand(9, 4), torch.tensor([[1.0, 1], [0, 1], [0, 0]]).repeat(3, 1), "labels"),
        (torch.arange(36).reshape(9, 4), torch.arange(36).reshape(9, 4) + 1, "next"),
        (torch.arange(36).reshape(9, 4), torch.arange(36).reshape(9, 4) % 2, "tokens"),
        (torch.arange(36.0).reshape(9, 4), torch.arange(36.0).reshape(9, 4), "inputs"),
        (torch.arange(9.0)[:, None], torch.arange(9.0)[:, None] * 2, "number"),
        (torch.rand(9, 4), torch.tensor([-1.0, 1, 1]).repeat(3), "binary"),
    ],
)
def test_the_kind_of_targets_is_read_from_them(x, y, kind):
    assert find_task_kind(x.numpy(), y.numpy()) == kind


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(3, 2),
        torch.rand(40, 2).bfloat16(),
        torch.rand(40),
        torch.rand(40, 2) > 0.5,
        torch.rand(40, 5, 2),
        torch.randint(0, 255, (40, 3, 9, 9), dtype=torch.uint8),
        torch.full((40, 2), float("nan")),
        torch.rand(40, 2, 3, 3, 3),
    ],
)
def test_all_sorts_of_inputs_are_measured(x):
    for y in (torch.arange(len(x)) % 2, torch.rand(len(x), 1), torch.rand(len(x), 3)):
        findings, checks = run_rules(DATA_RULES, profile_data(x, y, validation=(x, y)))
        assert checks.failed == () and not {f.code for f in findings} - {
            rule.code for rule in DATA_RULES
        }


def test_nothing_is_drawn_from_torch_and_nothing_is_changed():
    x, y = patients()
    before, state = x.clone(), torch.random.get_rng_state()
    profile_data(x, y, shuffled=False)
    assert torch.equal(x, before) and torch.equal(torch.random.get_rng_state(), state)


def test_another_number_of_targets_is_an_error():
    with pytest.raises(ValueError, match="4 inputs and 3 targets"):
        profile_data(torch.rand(4, 2), torch.rand(3))


# Just on either side of each threshold


def profile(kind="classes", layout="table", **known):
    return DataProfile(rows=100, shape=(4,), layout=layout, kind=kind, **known)


def numbers(**known):
    return NumberStats(columns=4, low=-3.0, high=3.0, mean=0.0, std=1.0, **known)


def spreads(largest, smallest=1.0):
    """Numbers whose columns have the largest spread, and all others the smallest."""
    stds = (smallest,) * 9 + (largest,)
    return numbers(column_stds=stds, spreads=SpreadRange(largest=largest, smallest=smallest))


def wide(**known):
    return numbers(column_stds=(1.0,), spreads=SpreadRange(largest=1.0, smallest=1.0), **known)


def duplicates(compared=100, distinct=90, **known):
    known = {"most_frequent": 1, "natural": False, "contradicted": 0, **known}
    return profile(duplicates=Duplicates(compared=compared, distinct=distinct, **known))


def shift(**known):
    figures = {
        "median_shift": 0.0,
        "median_stretch": 1.0,
        "largest_shift": 0.0,
        "largest_shift_name": "pulse",
        "largest_z": 99.0,
        "median_z": 99.0,
        "median_stretch_z": 99.0,
        "rows": 100,
        "effective_columns": 4.0,
    }
    return profile(validation=ValidationProfile(rows=100, shift=ValidationShift(**figures | known)))


def classes(train, validation=None):
    return profile(
        classes=ClassCounts(train=train, validation=validation or {}),
        validation=ValidationProfile(rows=100),
    )


def outside(fraction):
    found = ValidationProfile(rows=100, targets=numbers(), outside_fraction=fraction)
    return profile(kind="number", targets=numbers(), validation=found)


def order(purity, shuffled):
    found = ExampleOrder(purity=purity, shuffled_purity=shuffled, is_sorted=False)
    return profile(order=found)


def learned(**known):
    figures = {
        "kind": "classes",
        "learner": "linear",
        "examples": 200,
        "constant_loss": 1.0,
        "loss": 0.5,
        "constant_score": 0.5,
        "score": 0.9,
        "gain": 0.5,
        "gain_error": 0.01,
        "signal": 9.0,
    }
    return BaselineResult(**figures | known)


def validation_alone(**known):
    """Training examples tell nothing, validation examples do."""
    beside = ValidationProfile(rows=100, baseline=learned(**known))
    return profile(baseline=learned(signal=0.0), validation=beside)


@pytest.mark.parametrize(
    ("code", "severity", "beyond", "short"),
    [
        ("RVN-D02", "error", duplicates(10, 1), duplicates(9, 1)),
        (
            "RVN-D05",
            "note",
            profile(inputs=wide(steepness=Steepness(raw=30.5, standardized=1.0))),
            profile(inputs=wide(steepness=Steepness(raw=29.5, standardized=1.0))),
        ),
        (
            "RVN-D05",
            "note",
            profile(inputs=wide(steepness=Steepness(raw=1.0, standardized=30.5))),
            profile(inputs=wide(steepness=Steepness(raw=1.0, standardized=29.5))),
        ),
        ("RVN-D05", "note", profile(inputs=spreads(30.5)), profile(inputs=spreads(29.5))),
        (
            "RVN-D05",
            "note",
            profile(inputs=wide(median_offset=5.1)),
            profile(inputs=wide(median_offset=4.9)),
        ),
        (
            "RVN-D06",
            "note",
            profile("number", targets=spreads(10.1)),
            profile("number", targets=spreads(9.9)),
        ),
        (
            "RVN-D06",
            "note",
            profile("number", targets=spreads(0.0299, 0.0299)),
            profile("number", targets=spreads(0.0301, 0.0301)),
        ),
        (
            "RVN-D06",
            "note",
            profile("number", targets=wide(largest_offset=5.1)),
            profile("number", targets=wide(largest_offset=4.9)),
        ),
        ("RVN-D10", "warning", shift(median_shift=1.01), shift(median_shift=0.99)),
        (
            "RVN-D10",
            "warning",
            shift(median_shift=1.1, median_z=4.1),
            shift(median_shift=1.1, median_z=3.9),
        ),
        ("RVN-D10", "warning", shift(median_stretch=2.51), shift(median_stretch=2.49)),
        (
            "RVN-D10",
            "warning",
            shift(median_stretch=2.6, rows=30),
            shift(median_stretch=2.6, rows=29),
        ),
        (
            "RVN-D10",
            "warning",
            shift(median_stretch=2.6, median_stretch_z=4.1),
            shift(median_stretch=2.6, median_stretch_z=3.9),
        ),
        (
            "RVN-D10",
            "warning",
            shift(median_shift=1.1, effective_columns=3.1),
            shift(median_shift=1.1, effective_columns=2.9),
        ),
        (
            "RVN-D10",
            "warning",
            shift(median_shift=10.1, effective_columns=1.0),
            shift(median_shift=9.9, effective_columns=1.0),
        ),
        ("RVN-D10", "note", shift(largest_shift=1.51), shift(largest_shift=1.49)),
        (
            "RVN-D10",
            "note",
            shift(largest_shift=2.0, largest_z=8.1),
            shift(largest_shift=2.0, largest_z=7.9),
        ),
        ("RVN-D11", "warning", classes({0: 40}, {1: 5}), classes({0: 40}, {1: 4})),
        (
            "RVN-D11",
            "warning",
            classes({0: 40}, {0: 950, 1: 50}),
            classes({0: 40}, {0: 951, 1: 49}),
        ),
        ("RVN-D11", "warning", classes({0: 50, 1: 50}, {0: 20}), classes({0: 52, 1: 48}, {0: 20})),
        ("RVN-D11", "warning", outside(0.5), outside(0.49)),
        ("RVN-D11", "note", outside(0.1), outside(0.09)),
        ("RVN-D12", "note", classes({0: 87, 1: 13}), classes({0: 85, 1: 15})),
        (
            "RVN-D12",
            "note",
            profile("labels", classes=ClassCounts(train={0: 50, 1: 4})),
            profile("labels", classes=ClassCounts(train={0: 50, 1: 5})),
        ),
        ("RVN-D13", "warning", order(0.9, 0.5), order(0.89, 0.5)),
        ("RVN-D13", "warning", order(0.95, 0.74), order(0.95, 0.76)),
        (
            "RVN-D09",
            "warning",
            profile("tokens", "tokens", same_tokens=0.99, classes=ClassCounts(train={0: 5, 1: 5})),
            profile("tokens", "tokens", same_tokens=0.989, classes=ClassCounts(train={0: 5, 1: 5})),
        ),
        ("RVN-D17", "note", duplicates(most_frequent=51), duplicates(most_frequent=50)),
        ("RVN-D17", "note", duplicates(20, contradicted=4), duplicates(20, contradicted=3)),
        ("RVN-D17", "note", duplicates(1000, contradicted=51), duplicates(1000, contradicted=50)),
        (
            "RVN-D17",
            "note",
            duplicates(contradicted=9, expected_copies=4.9),
            duplicates(contradicted=9, expected_copies=5.1),
        ),
        ("RVN-D18", "warning", validation_alone(gain=0.101), validation_alone(gain=0.099)),
        (
            "RVN-D18",
            "warning",
            validation_alone(gain_error=0.12),
            validation_alone(gain_error=0.13),
        ),
        ("RVN-D18", "warning", validation_alone(signal=8.1), validation_alone(signal=7.9)),
        (
            "RVN-D14",
            "note",
            profile(baseline=learned(signal=2.9)),
            profile(baseline=learned(signal=3.1)),
        ),
    ],
)
def test_thresholds(code, severity, beyond, short):
    found, short_of = (
        {f.code: f.severity for f in run_rules(DATA_RULES, data)[0]} for data in (beyond, short)
    )
    assert found.get(code) == severity and short_of.get(code) != severity


def leaked(overlap, *, of=1000, expected=0.0):
    return duplicates(validation_compared=of, overlap=overlap, expected_overlap=expected)


@pytest.mark.parametrize(
    ("severity", "beyond", "short"),
    [
        ("note", leaked(3), leaked(2)),
        ("warning", leaked(50), leaked(49)),
        ("warning", leaked(341, expected=100.0), leaked(340, expected=100.0)),
    ],
)
def test_thresholds_of_leaked_examples(severity, beyond, short):
    beyond, short = (
        replace(data, validation=ValidationProfile(rows=1000)) for data in (beyond, short)
    )
    test_thresholds("RVN-D07", severity, beyond, short)
