"""Loss functions of torch that get what they are not made for, in losses written by hand and by
modules; and programs that look like these and are healthy.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.initialization.probe import profile_start
from ravine.diagnosis.registry import START_RULES
from ravine.diagnosis.rule import run_rules

ROWS = 60
LENGTHS = torch.full((ROWS,), 4)
torch.manual_seed(7)  # of the tensors in the tables of cases
FLAGS = (torch.rand(ROWS) < 0.5).float()
SIGNS = 2 * FLAGS - 1
LABELS = (torch.rand(ROWS, 8) < 0.4).float()
COUNTS = torch.poisson(torch.full((ROWS,), 2.0))
SHARES = torch.randn(ROWS, 8).softmax(1)
CLASSES = torch.randint(0, 8, (ROWS,))
WORDS = torch.randint(1, 8, (ROWS, 4))
PADDED = torch.where(torch.arange(8) < 3, torch.arange(8), -1).expand(ROWS, 8)


def contracts(loss, y, last=None):
    """What RVN-I24 finds, by severity."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(5, 8), last or nn.Identity())
    start = profile_start(model, loss, torch.randn(ROWS, 5), y)
    assert start.broke.get("contracts") is None
    found, checks = run_rules(START_RULES, start)
    assert not checks.failed
    return {f.severity for f in found if f.code == "RVN-I24"}


def halves(function, **settings):
    return lambda o, y: function(o[:, :4], o[:, 4:], y, **settings)


def one(function, **settings):
    return lambda o, y: function(o[:, 0], y, **settings)


def sequences(o, y, blank=0, normal=True):
    """Sequences of 12 places, each of the example's outputs."""
    o = o.log_softmax(1) if normal else o
    return F.ctc_loss(o.expand(12, ROWS, 8), y, 3 * LENGTHS, LENGTHS, blank)


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (halves(F.cosine_embedding_loss, margin=0.2), FLAGS),
        (lambda o, y: 0.1 * o.square().mean() + halves(nn.CosineEmbeddingLoss())(o, y), FLAGS),
        (halves(F.cosine_embedding_loss), FLAGS + 1),
        (one(F.hinge_embedding_loss), FLAGS),
        (one(F.soft_margin_loss), FLAGS),
        (F.multilabel_soft_margin_loss, 2 * LABELS - 1),
        (F.multilabel_margin_loss, LABELS.long()),
        (one(F.poisson_nll_loss), (COUNTS - COUNTS.mean()) / COUNTS.std()),
        (one(F.poisson_nll_loss, log_input=False), COUNTS),
        (lambda o, y: F.nll_loss(3 * o + 0.1, y), CLASSES),
        (F.kl_div, SHARES),
        (lambda o, y: F.kl_div(o.log_softmax(1), y), SHARES.log()),
        (lambda o, y: F.kl_div(o.log_softmax(1), y, log_target=True), SHARES),
        (lambda o, y: F.kl_div(y, o.log_softmax(1)), SHARES),
        (sequences, WORDS - 1),
        (lambda o, y: sequences(o, y, normal=False), WORDS),
        (lambda o, y: sequences(o, y, blank=7), WORDS),
    ],
)
def test_what_a_loss_function_is_not_made_for_is_found(loss, y):
    assert contracts(loss, y) == {"error"}


@pytest.mark.parametrize(
    ("loss", "y", "severity"),
    [
        (halves(F.margin_ranking_loss), FLAGS[:, None].expand(ROWS, 4), {"note"}),
        (lambda o, y: F.kl_div(o.softmax(1), y), SHARES, {"warning"}),
        (lambda o, y: F.gaussian_nll_loss(o[:, 0], y, o[:, 1].relu()), COUNTS, {"warning"}),
        (lambda o, y: F.cosine_embedding_loss(o, SHARES, y), FLAGS, {"note"}),  # a mask
    ],
)
def test_what_may_be_meant_or_does_less_harm_is_told_apart(loss, y, severity):
    assert contracts(loss, y) == severity


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (halves(F.cosine_embedding_loss, margin=0.2), SIGNS),
        (halves(F.cosine_embedding_loss), torch.ones(ROWS)),
        (
            halves(F.cosine_embedding_loss),
            SIGNS * (torch.arange(ROWS) > 9),
        ),  # the first are padding
        (lambda o, y: halves(F.cosine_embedding_loss)(o, 2 * y - 1), FLAGS),
        (one(F.hinge_embedding_loss), SIGNS),
        (one(F.soft_margin_loss), SIGNS),
        (halves(F.margin_ranking_loss), SIGNS[:, None].expand(ROWS, 4)),
        (lambda o, y: F.binary_cross_entropy(o[:, 0].sigmoid(), 0.1 + 0.8 * y), FLAGS),
        (F.multilabel_soft_margin_loss, LABELS),
        (F.multilabel_margin_loss, PADDED),
        (one(F.poisson_nll_loss), COUNTS),
        (lambda o, y: F.poisson_nll_loss(F.softplus(o[:, 0]), y, log_input=False), COUNTS),
        (lambda o, y: F.gaussian_nll_loss(o[:, 0], y, o[:, 1].exp()), COUNTS),
        (lambda o, y: F.nll_loss(o.log_softmax(1), y), CLASSES),
        (lambda o, y: F.nll_loss((o.softmax(1) + 1e-6).log(), y), CLASSES),
        # a cross entropy written out
        (lambda o, y: o.logsumexp(1).mean() + F.nll_loss(o, y), CLASSES),
        (lambda o, y: F.cross_entropy(o, y), CLASSES),
        (lambda o, y: F.kl_div(o.log_softmax(1), y), SHARES),
        (lambda o, y: F.kl_div((o / 4).log_softmax(1), y, log_target=True), SHARES.log()),
        # maps of heat whose sum over all places is 1
        (lambda o, y: F.kl_div(o.log_softmax(1).view(-1, 2, 4), y.view(-1, 2, 4)), SHARES),
        # of a distribution from outputs to targets, both of which learn
        (lambda o, y: F.kl_div((o + y).log_softmax(1), o.softmax(1)), SHARES),
        (sequences, WORDS),
        (lambda o, y: sequences(o, y - 1, blank=7), WORDS),
    ],
)
def test_what_loss_functions_are_made_for_is_left_alone(loss, y):
    assert contracts(loss, y) == set()


class Reader(nn.Module):
    """Attention over padded tokens [N, T], and what it is masked by."""

    def __init__(self, mask, layer=False):
        super().__init__()
        self.embed, self.mask, self.last = nn.Embedding(9, 8), mask, nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) if layer else None

    def forward(self, x):
        h, mask = self.embed(x), self.mask(x)
        if self.layer is not None:
            return self.last(self.layer(h, src_key_padding_mask=mask).mean(1))
        return self.last(self.attention(h, h, h, key_padding_mask=mask)[0].mean(1))


def padded(longest=10):
    """Words 1 to 8, behind them 0."""
    words, ends = torch.randint(1, 9, (ROWS, 12)), torch.randint(3, longest, (ROWS, 1))
    return torch.where(torch.arange(12) < ends, words, 0)


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (lambda x: x != 0, True),
        (lambda x: torch.where(x != 0, -torch.inf, 0.0), True),
        (lambda x: x == 0, False),
        (lambda x: torch.where(x == 0, -torch.inf, 0.0), False),
        (lambda x: (x == 0) | (x == 3), False),
        (lambda x: None, False),
        (lambda x: torch.arange(12).expand_as(x) >= 6, False),  # the first six
        (lambda x: torch.arange(12).expand_as(x) < 6, False),  # the last six, words among them
        (lambda x: torch.zeros_like(x, dtype=torch.bool), False),
    ],
)
@pytest.mark.parametrize("left", [False, True])
def test_a_mask_of_all_but_the_padding_is_found(mask, found, layer, left):
    torch.manual_seed(7)
    words = padded().flip(1) if left else padded()
    start = profile_start(Reader(mask, layer), F.cross_entropy, words, CLASSES)
    assert start.broke.get("contracts") is None
    codes = {f.code for f in run_rules(START_RULES, start)[0] if f.severity == "error"}
    assert ("RVN-I24" in codes) is found


@pytest.mark.parametrize("count", [1, 3])
def test_tokens_that_begin_every_row_may_be_all_that_is_looked_at(count):
    words = padded().roll(count, 1)
    words[:, :count] = 0
    hidden = torch.arange(12).expand_as(words) >= count
    start = profile_start(Reader(lambda x: hidden[: len(x)]), F.cross_entropy, words, CLASSES)
    assert start.broke.get("contracts") is None and start.contracts == ()


def test_a_single_token_to_look_at_may_be_meant():
    """The first token of a sentence sums it up for a small head; nothing is padded."""
    torch.manual_seed(7)
    x = torch.cat([torch.zeros(ROWS, 1).long(), torch.randint(1, 9, (ROWS, 11))], 1)
    start = profile_start(Reader(lambda x: x != 0), F.cross_entropy, x, CLASSES)
    assert not start.contracts
