"""`ravine.examine` where inputs are several tensors, where numbers are at the ends of their format,
and where only some examples make a number that is not finite.
"""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine

RNG = torch.Generator().manual_seed(0)
X = torch.randn(100, 4, generator=RNG)
TOKENS = torch.randint(0, 20, (100, 6), generator=RNG)
Y = (X[:, 0] + TOKENS[:, 0] / 10 > 1).long()


def examine(model, loss, train, *, epochs=2, trials=False):
    """With warnings as errors, as everywhere in the tests."""
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.01)  # noqa: E731
    return ravine.examine(
        model, loss, train, optimizer=adam, batch_size=20, epochs=epochs, trials=trials
    )


def first_cause(report):
    alarms = [f for f in report.findings if f.severity != "note"]
    return alarms[0].cause if alarms else ""


class Mixed(nn.Module):
    def __init__(self, words=True):
        super().__init__()
        self.table, self.head = nn.Embedding(20, 4), nn.Linear(28 if words else 8, 2)

    def forward(self, num, words):
        rest = self.table(words).flatten(1) if words.dtype == torch.long else words
        return self.head(torch.cat([num, rest], 1))


def test_a_dict_of_numbers_and_tokens_is_examined_like_any_other_program():
    batch = {"num": X, "words": TOKENS, "labels": Y}
    report = examine(nn.Sequential(Named(), nn.Softmax(1)), F.cross_entropy, batch)
    assert report.checks.failed == () and first_cause(report) == "output-activation"
    assert report.findings[0].where == "1"
    broken = {**batch, "num": X.where(X < 1, torch.nan)}
    assert first_cause(examine(Mixed(), F.cross_entropy, broken)) == "data-degenerate"


class Named(Mixed):
    """Takes the dict as one argument, as `nn.Sequential` gives it."""

    def forward(self, batch):
        return super().forward(batch["num"], batch["words"])


def test_numbers_of_several_tensors_are_the_columns_of_the_table_that_is_profiled():
    report = examine(Mixed(words=False), F.cross_entropy, (X, X * torch.nan, Y))
    codes = {f.where for f in report.findings if f.code == "RVN-D01"}
    assert codes == {f"column {i}" for i in range(4, 8)}
    tokens = nn.Sequential(Tokens(), nn.Linear(8, 2))
    checks = examine(tokens, F.cross_entropy, ((TOKENS, TOKENS), Y)).checks
    assert "RVN-D01" in checks.not_measured and checks.failed == ()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 4)

    def forward(self, pair):
        return torch.cat([self.table(p).mean(1) for p in pair], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-310, 1e-40, 1e30, 1e300])
@pytest.mark.parametrize("of", ["inputs", "targets"])
def test_numbers_at_the_ends_of_their_format_break_no_check(scale, dtype, of):
    x, y = X.double(), X.double().sum(1, keepdim=True)
    x, y = (x * scale, y) if of == "inputs" else (x, y * scale)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = examine(model, F.mse_loss, (x.to(dtype), y.to(dtype)))
    assert report.checks.failed == ()
    if scale > 1:
        scales = "input-scale" if of == "inputs" else "target-scale"
        finite = bool(torch.isfinite(x.to(dtype)).all() & torch.isfinite(y.to(dtype)).all())
        if not finite:
            scales = "data-degenerate"
        elif dtype == torch.float64 and scale < 1e100:  # the loss is finite: trials tell
            scales = ""
        assert first_cause(report) == scales


def test_outputs_of_some_examples_alone_that_are_not_finite_are_the_data():
    class Standardized(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 2)

        def forward(self, x):
            return self.net((x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True))

    x = X.clone()
    x[30] = 1.0
    report = examine(Standardized(), F.cross_entropy, (x, Y))
    assert first_cause(report) == "data-degenerate"
    whole = nn.Linear(4, 2)
    nn.init.constant_(whole.weight, torch.inf)
    assert first_cause(examine(whole, F.cross_entropy, (X, Y))) == "initialization"


class Coded(nn.Module):
    """A code of four numbers for each token alone, or read in order."""

    def __init__(self, in_order):
        super().__init__()
        self.embed, self.narrow = nn.Embedding(20, 16), nn.Linear(16, 4)
        self.gru = nn.GRU(4, 4, batch_first=True) if in_order else None
        self.head = nn.Linear(4, 20)

    def forward(self, x):
        code = self.narrow(self.embed(x))
        return self.head(code if self.gru is None else self.gru(code)[0])


@pytest.mark.parametrize("in_order", [False, True])
def test_a_code_of_each_token_alone_is_no_model_of_sequences(in_order):
    by_token = lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten())  # noqa: E731
    report = examine(Coded(in_order), by_token, (TOKENS, TOKENS))
    levels = {f.severity for f in report.findings if f.code == "RVN-D09"}
    assert levels == ({"error", "warning"} if in_order else set())
