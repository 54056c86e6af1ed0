"""Scripts on text, traces and moves after questions that people ask: padding, vocabularies, vectors
that were trained before, states, the values of moves; and healthy ones after the answer "this is
normal".

Letters: N examples, T steps, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam

from benchmarks.diagnosis import data
from benchmarks.diagnosis.asked_pictures import pictures
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    Watch,
    accuracy,
    fault,
    group,
    loader,
    r2,
)

DESCRIPTIONS = Path(sklearn.__file__).parent / "datasets" / "descr"


@cache
def pages() -> tuple[str, ...]:
    """What scikit-learn says of some of its sets, in small letters."""
    names = ("breast_cancer", "covtype", "kddcup99", "lfw", "rcv1", "twenty_newsgroups")
    texts = [(DESCRIPTIONS / f"{n}.rst").read_text("utf-8").lower() for n in names]
    return tuple(re.sub(r"[^a-z .,]+", " ", t) for t in texts)


# The next letter of a page


def page_letters(length: int = 24, step: int = 17) -> Split:
    """Pieces of pages as codes of letters, 0 to 28 [N, T]; the letter after each."""
    alphabet = {c: i for i, c in enumerate(" abcdefghijklmnopqrstuvwxyz.,")}
    pieces = []
    for text in pages():
        codes = [alphabet[c] for c in re.sub(" +", " ", text)]
        pieces += [codes[i : i + length + 1] for i in range(0, len(codes) - length - 1, step)]
    x = np.array(pieces)
    return split(x[:, :-1], x[:, 1:])


class LetterNet(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(29, 12)
        self.lstm = nn.LSTM(12, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 29)

    def forward(self, letters: Tensor) -> Tensor:
        return self.out(self.lstm(self.embed(letters))[0])


def each_letter(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.transpose(1, 2), targets)


def next_letter(hidden: int = 48, optimizer: Any = Adam, lr: float = 0.02) -> TrainingSetup:
    made = partial(optimizer, lr=lr)
    return pictures(page_letters(), LetterNet(hidden), made, 32, 8, loss=each_letter)


NEXT_LETTER = group(
    "next-letter",
    next_letter,
    fault(
        "plain-descent-of-a-hundredth",
        "learning-rate-low too-few-steps optimizer",
        optimizer=SGD,
        lr=0.01,
        answers={"remedy": ("optimizer", "adam")},
    ),
    fault(
        "a-state-of-one",
        "architecture-too-small",
        hidden=1,
        answers={"where": "lstm", "remedy": ("model", "48 states")},
    ),
    family="sequence",
    task="generation",
    network="recurrent",
)


# Which page is a sentence from?


def sentences(length: int = 16, vocabulary: int = 400) -> tuple[Split, Split]:
    """Words of twelve to sixteen in a row of six pages, as codes of the most common 400 words, 1
    for others and 0 behind the end [N, T]; the page. As a second split of the same order, the codes
    of a vocabulary that counts each part for itself.
    """
    rng, rows, kinds = np.random.default_rng(91), [], []
    for kind, text in enumerate(pages()):
        words = re.findall("[a-z]+", text)
        for i in range(0, len(words) - length, 5):
            rows.append(words[i : i + int(rng.integers(12, length + 1))])
            kinds.append(kind)
    order = np.random.default_rng(92).permutation(len(rows))
    rows, kinds = [rows[i] for i in order], [kinds[i] for i in order]
    a, b = int(0.6 * len(rows)), int(0.8 * len(rows))
    parts = [slice(0, a), slice(a, b), slice(b, None)]

    def codes(of: list[list[str]], source: list[list[str]]) -> Tensor:
        found: dict[str, int] = {}
        for word in (w for row in source for w in row):
            found[word] = found.get(word, 0) + 1
        kept = sorted(found, key=lambda w: (-found[w], w))[: vocabulary - 2]
        code = {w: i + 2 for i, w in enumerate(kept)}
        lines = [[code.get(w, 1) for w in row] + [0] * (length - len(row)) for row in of]
        return torch.tensor(lines)

    made = []
    for apart in (False, True):
        tensors = []
        for part in parts:
            source = rows[part] if apart else rows[parts[0]]
            tensors += [codes(rows[part], source), torch.tensor(kinds[part])]
        made.append(Split(*tensors))
    return made[0], made[1]


class SentenceNet(nn.Module):
    """The last state of an LSTM, after so many more zeros; or the mean of the words."""

    def __init__(self, vectors: nn.Embedding, lstm: bool, padding: int) -> None:
        super().__init__()
        self.embed, self.padding = vectors, padding
        width = vectors.embedding_dim
        self.lstm = nn.LSTM(width, 24, batch_first=True) if lstm else None
        self.out = nn.Linear(24 if lstm else width, 6)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(F.pad(words, (0, self.padding)))
        if self.lstm is None:
            return self.out(x.sum(1) / (words > 0).sum(1, keepdim=True))
        return self.out(self.lstm(x)[1][0][-1])


def sentence_pages(apart: bool = False, padding: int = 0, lr: float = 0.02) -> TrainingSetup:
    d, each = sentences()
    d = d._replace(vx=each.vx, tx=each.tx) if apart else d
    model = SentenceNet(nn.Embedding(400, 16, padding_idx=0), True, padding)
    return pictures(d, model, partial(Adam, lr=lr), 32, 16)


SENTENCE_PAGES = group(
    "sentence-pages",
    sentence_pages,
    fault(
        "a-vocabulary-for-each-part",
        "split data-degenerate",
        apart=True,
        answers={"remedy": ("data", "the vocabulary of the training part")},
    ),
    fault(
        "last-state-behind-the-padding",
        "data-degenerate vanishing architecture-too-deep",
        padding=100,
        answers={"remedy": ("model", "the state at the end of the sentence")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


def given_vectors(freeze: bool = False, width: int = 12, lr: float = 0.05) -> TrainingSetup:
    """Vectors from a file that was not there: random ones."""
    d, _ = sentences()
    weights = 0.3 * torch.randn(400, width)
    weights[0] = 0
    vectors = nn.Embedding.from_pretrained(weights, freeze=freeze, padding_idx=0)
    model = SentenceNet(vectors, False, 0)
    optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    return pictures(d, model, optimizer, 32, 12)


GIVEN_VECTORS = group(
    "given-vectors",
    given_vectors,
    fault(
        "from-pretrained-freezes",
        "frozen-parameters",
        freeze=True,
        answers={"where": "embed", "exact": True, "proof": "unmoved", "unmoved": "embed.weight"},
    ),
    fault(
        "frozen-and-of-two-numbers",
        "frozen-parameters architecture-too-small",
        freeze=True,
        width=2,
        answers={"where": "embed", "exact": True},
    ),
    family="sequence",
    task="classification",
    network="linear",
)


# Three steps of a vibration that lie ahead


class Ahead(nn.Module):
    """The state at the end, through a head, to three numbers."""

    def __init__(self, last: nn.Module, layers: int = 1) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 24, layers, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3), last)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def vibrations(rows: int = 700, length: int = 14) -> Split:
    """Vibrations about 0 [N, T, 1]; the next three values [N, 3]."""
    rng = np.random.default_rng(93)
    phase, speed = rng.uniform(0, 6.3, (rows, 1)), rng.uniform(0.3, 0.9, (rows, 1))
    size = rng.uniform(0.5, 1.5, (rows, 1))
    values = size * np.sin(phase + speed * np.arange(length + 3))
    values += rng.normal(0, 0.04, values.shape)
    return split(values[:, :length, None], values[:, length:])


def three_ahead(
    last: Callable[[], nn.Module] = nn.Identity, loss: Any = F.mse_loss, lr: float = 0.01
) -> TrainingSetup:
    d = vibrations()
    model = Ahead(last())
    return pictures(d, model, partial(Adam, lr=lr), 28, 20, loss=loss, scorer=r2(d.tx, d.ty))


def with_dimension(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs [N, 1, 3] against targets [N, 3]: each with all."""
    return ((outputs[:, None] - targets) ** 2).mean()


THREE_AHEAD = group(
    "three-ahead",
    three_ahead,
    fault(
        "each-against-the-batch",
        "shape-pairing",
        loss=with_dimension,
        answers={"exact": True, "remedy": ("loss", "mse")},
    ),
    fault(
        "relu-behind-the-head",
        "output-activation",
        last=nn.ReLU,
        answers={"where": "head.3", "remedy": ("output", "identity")},
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)

# Rows of a digit as words


class RowWords(nn.Module):
    """A transformer over the eight rows of a digit."""

    def __init__(self, batch_first: bool, feed: float = 0.0) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(8, 24), nn.Parameter(0.1 * torch.randn(8, 24))
        layer = nn.TransformerEncoderLayer(24, 2, 48, dropout=feed, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(24, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.out(self.encoder(self.embed(rows) + self.place).mean(1))


def row_words(batch_first: bool = True, lr: float = 3e-3) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x[:, 0] / 8 - 1)
    return pictures(d, RowWords(batch_first), partial(Adam, lr=lr), 32, 12)


ROW_WORDS = group(
    "row-words",
    row_words,
    fault(
        "batch-is-not-first",
        "shape-pairing",
        batch_first=False,
        answers={
            "where": "encoder",
            "exact": True,
            "proof": "mixes",
            "remedy": ("model", "batch_first=True"),
        },
    ),
    fault(
        "one-answer-at-a-hot-rate",
        "learning-rate-high schedule",
        lr=0.1,
        answers={"remedy": ("lr", 3e-3)},
    ),
    family="image",
    task="classification",
    network="attention",
)


# A walk to the corner of a board, by the values of moves


MOVES = torch.tensor([[1, 0], [-1, 0], [0, 1], [0, -1]])


def better_moves(side: int) -> tuple[Tensor, Tensor]:
    """All fields but the corner, 0 to 1 [N, 2]; which of four moves lead nearer to it [N, 4]."""
    grid = torch.cartesian_prod(torch.arange(side), torch.arange(side))[:-1]
    after = (grid[:, None] + MOVES).clamp(0, side - 1)
    return grid / (side - 1), (after.sum(2) > grid.sum(1)[:, None]).float()


def board_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Each move costs one, until the corner is reached; moves are drawn at random and replayed."""
    side, source = 6, torch.Generator().manual_seed(94)
    net = nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 4))
    target = nn.Sequential(
        nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 4)
    )
    target.load_state_dict(net.state_dict())
    lr = 0.1 if fault == "hot" else 3e-3
    optimizer = Adam(net.parameters(), lr=lr)
    with watch(net, optimizer) as watched:
        for step in range(900):
            place = torch.randint(0, side, (64, 2), generator=source)
            move = torch.randint(0, 4, (64,), generator=source)
            after = (place + MOVES[move]).clamp(0, side - 1)
            done = (after.sum(1) == 2 * (side - 1)).float()
            with torch.no_grad():
                later_value = target(after / (side - 1)).amax(1)
            if fault != "goes on after the end":
                later_value = later_value * (1 - done)
            wanted = -1 + 0.95 * later_value
            values = net(place / (side - 1))
            chosen = values[torch.arange(64), move]
            if fault == "best instead of taken":
                chosen = values.amax(1)
            loss = F.smooth_l1_loss(chosen, wanted)
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 20 == 19:
                target.load_state_dict(net.state_dict())
    x, y = better_moves(side)
    return net, Scorer(
        x, y, lambda out, t: float(t.gather(1, out.argmax(1, keepdim=True)).mean()), 0.5
    )


BOARD = group(
    "board-loop",
    board_loop,
    fault("value-goes-on-after-the-end", "labels loss", fault="goes on after the end"),
    fault(
        "value-of-the-best-for-the-move-taken",
        "loss shape-pairing labels",
        fault="best instead of taken",
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=900,
)


# Long sums by a plain recurrent network


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 24, batch_first=True, nonlinearity="relu")
        self.out = nn.Linear(24, 1)
        nn.init.eye_(self.rnn.get_parameter("weight_hh_l0"))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def sums_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Gradients are clipped to length one: the identity lets them grow."""
    d = data.adding(1200, 20)
    model = Sums()
    optimizer = SGD(model.parameters(), lr=0.03, momentum=0.9)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, y in loader(d.x, d.y, 30):
                loss = F.mse_loss(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                if fault == "before backward":
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    loss.backward()
                elif fault == "to a ten-thousandth":
                    loss.backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 1e-4)
                else:
                    loss.backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
    return model, r2(d.tx, d.ty)


SUMS = group(
    "sums-loop",
    sums_loop,
    fault(
        "clips-before-the-backward-pass",
        "gradient-clipping step-order exploding learning-rate-high",
        fault="before backward",
    ),
    fault(
        "clips-to-a-ten-thousandth",
        "gradient-clipping learning-rate-low too-few-steps",
        fault="to a ten-thousandth",
    ),
    family="loop",
    task="regression",
    network="recurrent",
    kind="loop",
    steps=20 * 24,
)


# Letters in parts: gradients of several batches


def parts_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = page_letters()
    model = LetterNet(48)
    optimizer = Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        seen = 0
        for _ in range(4):
            for x, y in loader(d.x, d.y, 16):
                if fault == "cleared with each part":
                    optimizer.zero_grad()
                loss = each_letter(model(x), y)
                watched.loss(loss)
                (loss / 4).backward()
                seen += 1
                if fault == "steps when an epoch is over":
                    continue
                if seen % 4 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
            if fault == "steps when an epoch is over":
                optimizer.step()
                optimizer.zero_grad()
    return model, accuracy(d.tx, d.ty)


PARTS = group(
    "parts-loop",
    parts_loop,
    fault(
        "steps-when-an-epoch-is-over",
        "too-few-steps batch-size step-order learning-rate-low",
        fault="steps when an epoch is over",
    ),
    family="loop",
    task="generation",
    network="recurrent",
    kind="loop",
    steps=192,
)


# Healthy ones


class Doubtful(nn.Module):
    """Three numbers, and the logarithm of the variance of each, at first of one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


def density(outputs: Tensor, targets: Tensor) -> Tensor:
    mean, log_var = outputs.chunk(2, dim=1)
    log_var = log_var.clamp(-5, 5)
    return 0.5 * (log_var + (targets - mean) ** 2 * (-log_var).exp()).mean()


def negative_densities() -> TrainingSetup:
    """The loss is the logarithm of a density with a minus: it ends below -1."""
    d = vibrations()
    inner = r2(d.tx, d.ty)
    scorer = Scorer(d.tx, d.ty, lambda out, y: inner.score(out[:, :3], y), 0.0, -1.0)
    return pictures(d, Doubtful(), partial(Adam, lr=0.01), 28, 45, loss=density, scorer=scorer)


class Tied(nn.Module):
    """The letters' vectors are the weights of the output, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(29, 32)
        self.gru = nn.GRU(32, 32, batch_first=True)
        self.out = nn.Linear(32, 29)
        nn.init.normal_(self.embed.weight, 0.0, 0.2)
        self.out.weight = self.embed.weight

    def forward(self, letters: Tensor) -> Tensor:
        return self.out(self.gru(self.embed(letters))[0])


def tied_letters() -> TrainingSetup:
    d = page_letters()
    return pictures(d, Tied(), partial(Adam, lr=0.02), 32, 8, loss=each_letter)


def one_hot_words() -> TrainingSetup:
    """Vectors that never learn, on purpose: one of 400 for each word."""
    d, _ = sentences()
    vectors = nn.Embedding.from_pretrained(torch.eye(400), freeze=True)
    model = SentenceNet(vectors, False, 0)
    optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    return pictures(d, model, optimizer, 32, 12)


def always_clipped(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Every gradient is longer than the limit, which Adam does not mind."""
    d = vibrations()
    model = Ahead(nn.Identity())
    optimizer = Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, y in loader(d.x, d.y, 28):
                loss = F.mse_loss(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
                optimizer.step()
    return model, r2(d.tx, d.ty)


def paid_moves(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Moves on a board, paid where they lead nearer to the corner: the loss wanders about zero and
    says nothing of how good the moves are.
    """
    x, better = better_moves(6)
    policy = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 4))
    optimizer = Adam(policy.parameters(), lr=0.01)
    with watch(policy, optimizer) as watched:
        for _ in range(400):
            rows = torch.randint(0, len(x), (32,))
            choice = torch.distributions.Categorical(logits=policy(x[rows]))
            move = choice.sample()
            paid = better[rows, move]
            loss = -(choice.log_prob(move) * (paid - paid.mean())).mean()
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return policy, Scorer(
        x, better, lambda out, t: float(t.gather(1, out.argmax(1, keepdim=True)).mean()), 0.5
    )


SCRIPTS: tuple[TrainingScript, ...] = (
    *NEXT_LETTER,
    *SENTENCE_PAGES,
    *GIVEN_VECTORS,
    *THREE_AHEAD,
    *ROW_WORDS,
    *BOARD,
    *SUMS,
    *PARTS,
    healthy_script(negative_densities, "regression", "recurrent"),
    healthy_script(tied_letters, "generation", "recurrent"),
    healthy_script(one_hot_words, "classification", "linear"),
    healthy_script(always_clipped, "regression", "recurrent", kind="loop", steps=20 * 15),
    healthy_script(paid_moves, "classification", "mlp", kind="loop", steps=400),
)
