"""Models of sequences that are trained to tell tokens they see, and their healthy neighbors."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine

KINDS, ROWS, TIME = 7, 6, 12


class Writer(nn.Module):
    """Attention with a causal mask, or without."""

    def __init__(self, masked=True, before=None):
        super().__init__()
        self.before = before or (lambda tokens: tokens)
        self.masked = masked
        self.tokens, self.places = nn.Embedding(KINDS, 16), nn.Embedding(TIME, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, KINDS)

    def forward(self, tokens):
        tokens = self.before(tokens)
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        mask = torch.ones(TIME, TIME).triu(1).bool() if self.masked else None
        return self.head(x + self.attention(x, x, x, attn_mask=mask)[0])


class Reader(nn.Module):
    """Recurrent, in time first; told again from its last state where `coded`."""

    def __init__(self, both=False, coded=False, batch_norm=False, flat=False):
        super().__init__()
        self.coded, self.flat = coded, flat
        self.norm = nn.BatchNorm1d(16) if batch_norm else None
        self.tokens = nn.Embedding(KINDS, 16)
        self.encoder = nn.GRU(16, 16)
        self.gru = nn.GRU(16, 16, bidirectional=both)
        self.head = nn.Linear(32 if both else 16, KINDS)

    def forward(self, tokens):
        x = self.tokens(tokens)
        if self.norm:
            x = self.norm(x.permute(1, 2, 0)).permute(2, 0, 1)
        code = self.encoder(x)[1] if self.coded else None
        h = self.gru(x, code)[0]
        return self.head(h.flatten(0, 1) if self.flat else h)


def shifted_right(tokens):
    return F.pad(tokens[:, :-1], (1, 0))


def codes(model, targets_of, *, time_first=False, late=False, extra=False, loss=F.cross_entropy):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for _ in range(8):
            text = torch.randint(0, KINDS, (ROWS, TIME + 1))
            text = text.T if time_first else text
            inputs = text[:-1] if time_first else text[:, :-1]
            targets = targets_of(inputs, text[1:] if time_first else text[:, 1:])
            out = model(inputs)
            value = loss(out.reshape(-1, KINDS), targets.reshape(-1))
            if extra:
                value = value + 1e-3 * out.square().mean()
            optimizer.zero_grad()
            if not late:
                watcher.loss(value)
            value.backward()
            optimizer.step()
            if late:
                watcher.loss(value)
    assert not watcher.report().checks.failed
    return {f.code for f in watcher.findings() if f.severity == "error"}


def own(inputs, following):
    return inputs


def following(inputs, following):
    return following


def some(inputs, following):
    """The first places are given, not told."""
    return following.masked_fill(torch.arange(inputs.shape[1]) < 4, -100)


def smooth(scores, targets):
    return F.cross_entropy(scores, targets, label_smoothing=0.1)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (lambda: Writer(), {}),
        (lambda: Writer(), {"late": True, "loss": smooth}),
        (lambda: Reader(), {"time_first": True}),
        (lambda: Reader(flat=True), {"time_first": True, "extra": True}),
    ],
)
def test_own_tokens_as_targets_are_found(model, settings):
    assert codes(model(), own, **settings) == {"RVN-D09"}
    assert not codes(model(), following, **settings)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (lambda: Writer(masked=False), {}),
        (lambda: Writer(masked=False), {"late": True, "loss": smooth}),
        (lambda: Reader(both=True), {"time_first": True}),
        (lambda: Reader(both=True, flat=True), {"time_first": True}),
    ],
)
def test_next_tokens_that_are_seen_are_found(model, settings):
    assert codes(model(), following, **settings) == {"RVN-I03"}
    # as an autoencoder, or a model of masked tokens with few of them, may see them all
    assert not codes(model(), own, **settings)


class Coded(nn.Module):
    """A code of two numbers for each token alone, or with the mean of the tokens before it."""

    def __init__(self, reads_before):
        super().__init__()
        self.reads_before = reads_before
        self.tokens = nn.Embedding(KINDS, 16)
        self.narrow, self.head = nn.Linear(16, 2), nn.Linear(2, KINDS)

    def forward(self, tokens):
        x = self.tokens(tokens)
        if self.reads_before:
            x = x + x.cumsum(1) / torch.arange(1, TIME + 1)[:, None]
        return self.head(self.narrow(x))


def test_a_code_of_each_token_alone_is_left_alone():
    assert codes(Coded(True), own) == {"RVN-D09"}
    assert not codes(Coded(False), own) and not codes(Coded(False), following)


def corrupted(tokens):
    return torch.where(torch.rand(tokens.shape) < 0.15, KINDS - 1, tokens)


@pytest.mark.parametrize(
    ("model", "targets_of", "settings"),
    [
        (lambda: Writer(before=shifted_right), own, {}),  # shifted in the model
        (lambda: Writer(), some, {}),
        (lambda: Writer(masked=False, before=corrupted), own, {}),
        (lambda: Writer(before=corrupted), own, {}),
        (lambda: Reader(coded=True), own, {"time_first": True}),
        (lambda: Reader(coded=True), following, {"time_first": True, "extra": True}),
        (lambda: Reader(batch_norm=True), following, {"time_first": True}),
        (lambda: Writer(masked=False), lambda x, y: x.flip(1), {}),
        (lambda: Writer(masked=False), lambda x, y: (x > 3).long(), {}),
    ],
)
def test_healthy_targets_are_left_alone(model, targets_of, settings):
    assert not codes(model(), targets_of, **settings)


def test_a_text_of_one_token_says_nothing():
    model = Writer(before=torch.zeros_like)
    assert codes(model, lambda x, y: torch.zeros_like(x)) == {"RVN-H09"}


def layer_and_loss(layer, x, classes, reorder):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    with ravine.watch(layer, optimizer, quiet=True) as watcher:
        for _ in range(4):
            optimizer.zero_grad()
            out = reorder(layer(x))
            targets = torch.randint(0, out.shape[1], (out.shape[0], *out.shape[2:]))
            watcher.loss(F.cross_entropy(out, targets)).backward()
            optimizer.step()
    return "RVN-I22" in {f.code for f in watcher.findings()}


class Written(nn.Module):
    """A layer whose bias is added in an operation of its own."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.zeros(6))

    def forward(self, x):
        return x @ self.weight + self.bias


LAYER, IMAGES, WRITTEN = nn.Linear(4, 6), nn.Conv2d(4, 6, 1), Written()


@pytest.mark.parametrize(
    ("layer", "shape", "reorder", "found"),
    [
        (LAYER, (3, 10, 4), lambda out: out.view(3, 6, 10), True),
        (LAYER, (3, 12, 4), lambda out: out.view(3, 6, 12), True),
        (LAYER, (10, 3, 4), lambda out: out.view(3, 6, 10), True),
        (IMAGES, (3, 4, 5, 5), lambda out: out.view(-1, 6), True),
        (IMAGES, (3, 4, 5, 5), lambda out: out.transpose(2, 3).reshape(3, 25, 6).mT, True),
        (WRITTEN, (3, 10, 4), lambda out: out.view(3, 6, 10), True),
        (WRITTEN, (3, 10, 4), lambda out: out.transpose(1, 2), False),
        (WRITTEN, (3, 10, 4), lambda out: out.reshape(-1, 6), False),
        (LAYER, (3, 10, 4), lambda out: out.transpose(1, 2), False),
        (LAYER, (3, 10, 4), lambda out: out.reshape(-1, 6), False),
        (IMAGES, (3, 4, 5, 5), lambda out: out.permute(0, 2, 3, 1).reshape(-1, 6), False),
        (IMAGES, (3, 4, 5, 5), lambda out: out.flatten(2), False),
        (LAYER, (3, 10, 4), lambda out: out.view(3, 10, 3, 2).permute(0, 2, 1, 3), False),
        (LAYER, (3, 6, 4), lambda out: out, False),  # one of six places, for each unit
        (LAYER, (6, 3, 4), lambda out: out.permute(1, 0, 2), False),
        (LAYER, (3, 10, 4), lambda out: out.view(30, 2, 3).mT, False),  # three classes, twice
        (LAYER, (3, 10, 4), lambda out: out[:, -1], False),
    ],
)
def test_classes_that_a_view_scatters_are_found(layer, shape, reorder, found):
    assert layer_and_loss(layer, torch.randn(shape), 6, reorder) == found


class Retained(nn.Module):
    """Its hidden state's gradient is read; or changed by a hook, or made by hand."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.drawn = kind, []
        self.tokens, self.gru = nn.Embedding(KINDS, 16), nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, KINDS)

    def forward(self, tokens):
        h = self.gru(self.tokens(tokens))[0]
        if self.kind == "retained":
            h.retain_grad()
        elif self.kind == "noisy":
            h.register_hook(lambda grad: grad + 0.001 * torch.randn_like(grad))
        else:
            h = UsedUp.apply(h)
        self.hidden = h
        return self.head(h)


class UsedUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        del ctx.x
        return 2 * grad


@pytest.mark.parametrize("kind", ["retained", "noisy", "used up"])
def test_backward_code_of_ones_own_is_called_once(kind):
    found = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = Retained(kind)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ravine.watch(model, optimizer, quiet=True) if watched else nullcontext() as watcher:
            for _ in range(8):
                b = torch.randint(KINDS, (ROWS, TIME))
                optimizer.zero_grad()
                loss = F.cross_entropy(model(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten())
                if watched:
                    watcher.loss(loss)
                loss.backward()
                optimizer.step()
        found.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert "RVN-I03" not in {f.code for f in watcher.findings()}


class Encoder(nn.Module):
    """torch's own layers, whose attention has a dropout that is no module."""

    def __init__(self, masked):
        super().__init__()
        self.masked = masked
        self.tokens, self.places = nn.Embedding(KINDS, 16), nn.Embedding(TIME, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, KINDS)

    def forward(self, tokens):
        time = tokens.shape[1]
        x = self.tokens(tokens) + self.places(torch.arange(time))
        mask = torch.ones(time, time).triu(1).bool() if self.masked else None
        return self.head(self.layer(x, src_mask=mask))


def watched_text(make, shift):
    """What is found where a model's outputs for some tokens are trained to be those `shift` on."""
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for _ in range(8):
            b = torch.randint(KINDS, (ROWS, TIME))
            scores = model(b[:, : TIME - shift])
            optimizer.zero_grad()
            loss = F.cross_entropy(scores.flatten(0, 1), b[:, shift:].flatten())
            watcher.loss(loss).backward()
            optimizer.step()
    return watcher.findings()


@pytest.mark.parametrize(
    ("masked", "shift", "expected"),
    [(False, 1, {"RVN-I03"}), (True, 1, set()), (True, 0, {"RVN-D09"}), (False, 0, set())],
)
def test_layers_with_dropout_of_their_own_are_looked_into(masked, shift, expected):
    found = watched_text(lambda: Encoder(masked), shift)
    assert {f.code for f in found} & {"RVN-D09", "RVN-I03"} == expected


class Convolved(nn.Module):
    """A convolution over time that sees one token on each side, or two on the left."""

    def __init__(self, padding):
        super().__init__()
        self.tokens, self.head = nn.Embedding(KINDS, 16), nn.Linear(16, KINDS)
        self.pad = nn.ConstantPad1d((2 - 2 * padding, 0), 0.0)
        self.window = nn.Conv1d(16, 16, 3, padding=padding)

    def forward(self, tokens):
        x = self.window(self.pad(self.tokens(tokens).transpose(1, 2)))
        return self.head(x.transpose(1, 2).relu())


@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_padded_on_both_sides_is_named_with_what_to_write(padding):
    found = [f for f in watched_text(lambda: Convolved(padding), 1) if f.code == "RVN-I03"]
    assert [f.where for f in found] == ["window"] * padding
    assert all("padding on the left alone" in f.changes[0].value for f in found)


class WordDropout(nn.Module):
    """Told again from a sequence of which words are left out within the model."""

    def __init__(self):
        super().__init__()
        self.tokens, self.gru = nn.Embedding(KINDS, 16), nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, KINDS)

    def forward(self, tokens):
        e = self.tokens(tokens)
        if self.training:
            e = e * (torch.rand(*tokens.shape, 1) > 0.3)
        return self.head(self.gru(e)[0])


class Forced(nn.Module):
    """A code of the sequence, from which it is told again with teacher forcing."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(KINDS, 16)
        self.encoder, self.decoder = (nn.GRU(16, 16, batch_first=True) for _ in range(2))
        self.head = nn.Linear(16, KINDS)

    def forward(self, tokens):
        e = self.tokens(tokens)
        return self.head(self.decoder(e, self.encoder(e)[1])[0])


def test_denoising_and_teacher_forcing_are_left_alone():
    for model, shift in ((WordDropout(), 0), (Forced(), 1)):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        with ravine.watch(model, optimizer, quiet=True) as watcher:
            for _ in range(8):
                b = torch.randint(KINDS, (ROWS, TIME))
                scores = model(b)[:, : TIME - shift]
                optimizer.zero_grad()
                loss = F.cross_entropy(scores.flatten(0, 1), b[:, shift:].flatten())
                watcher.loss(loss).backward()
                optimizer.step()
        assert not {"RVN-D09", "RVN-I03"} & {f.code for f in watcher.findings()}
