"""Setups as people bring them, written blind: autoencoders, recommenders, trained bodies, losses by
hand, several inputs and outputs; half of the healthy ones plain, half with something that looks
odd.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    fault,
    group,
    r2,
)
from benchmarks.diagnosis.unread_sequences import of_classes, of_numbers


def to_itself(d: Split) -> Split:
    """Inputs that are their own answers."""
    return d._replace(y=d.x, vy=d.vx, ty=d.tx)


# Digits through a code of twelve numbers


def digit_coder(
    standardized: bool = False, behind: type[nn.Module] = nn.Sigmoid, lr: float = 0.005
) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    if standardized:
        mean, std = d.x.mean(), d.x.std()
        d = d.inputs(lambda x: (x - mean) / std)
    model = nn.Sequential(
        *(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12)),
        *(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 64), behind()),
    )
    return of_numbers(to_itself(d), model, partial(Adam, lr=lr), epochs=40, batch=64)


DIGIT_CODER = group(
    "digits-through-twelve-numbers",
    digit_coder,
    fault(
        "sigmoid-for-standardized-pixels",
        "output-activation target-scale",
        standardized=True,
        answers={"where": "6", "remedy": ("output", "none")},
    ),
    fault(
        "relu-at-the-end-and-hot",
        "output-activation learning-rate-high dead-units",
        behind=nn.ReLU,
        lr=0.1,
    ),
    family="image",
    task="generation",
    network="mlp",
)


# Codes that are drawn: how the two terms are summed


class DrawnCoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return self.decoder(mean + noise * (0.5 * log_variance).exp()), mean, log_variance


def drawn_codes(mean_of_pixels: bool = False) -> TrainingSetup:
    d = to_itself(posted_data.pixels().inputs(lambda x: x / 16))

    def loss(outputs: tuple[Tensor, Tensor, Tensor], batch: Any) -> Tensor:
        x, mean, log_variance = outputs
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        if mean_of_pixels:
            return F.binary_cross_entropy(x, batch[-1]) + kl
        return (F.binary_cross_entropy(x, batch[-1], reduction="sum") + kl) / len(x)

    return TrainingSetup(
        model=DrawnCoder(),
        loss=loss,
        train=(d.x, d.y),
        optimizer=partial(Adam, lr=0.005),
        batch_size=64,
        epochs=40,
        scorer=r2(d.tx, d.ty),
    )


DRAWN_CODES = group(
    "codes-that-are-drawn",
    drawn_codes,
    fault(
        "mean-of-the-pixels-sum-of-the-prior",
        "loss-reduction loss over-regularized",
        mean_of_pixels=True,
        answers={"remedy": ("formula", "sum both")},
    ),
    family="image",
    task="generation",
    network="mlp",
)


# Stars of books: batches by name


class StarModel(nn.Module):
    def __init__(self, size: int, spread: float, sigmoid: bool) -> None:
        super().__init__()
        self.users, self.books = nn.Embedding(60, size), nn.Embedding(80, size)
        self.user_bias, self.book_bias = nn.Embedding(60, 1), nn.Embedding(80, 1)
        self.sigmoid = sigmoid
        for table in (self.users, self.books, self.user_bias, self.book_bias):
            nn.init.normal_(table.weight, std=spread)

    def forward(self, user: Tensor, book: Tensor) -> Tensor:
        bias = self.user_bias(user) + self.book_bias(book)
        liking = (self.users(user) * self.books(book)).sum(1) + bias[:, 0]
        return liking.sigmoid() if self.sigmoid else liking


def named(x: Tensor) -> dict[str, Tensor]:
    return {"user": x[:, 0], "book": x[:, 1]}


def book_stars(
    size: int = 4, spread: float = 0.1, sigmoid: bool = False, centered: bool = True
) -> TrainingSetup:
    d = posted_data.opinions(9000)
    middle = d.y.mean() if centered else 0.0
    d = d.targets(lambda y: y - middle)
    return TrainingSetup(
        model=StarModel(size, spread, sigmoid),
        loss=nn.MSELoss(),
        train=(named(d.x), d.y),
        validation=(named(d.vx), d.vy),
        optimizer=partial(Adam, lr=0.01),
        batch_size=128,
        epochs=15,
        scorer=r2(named(d.tx), d.ty),
    )


BOOK_STARS = group(
    "stars-of-books",
    book_stars,
    fault(
        "sixty-four-normal-numbers",
        "initialization overfitting",
        size=64,
        spread=1.0,
        answers={"where": "users", "remedy": ("init", "small")},
    ),
    fault(
        "one-to-five-behind-a-sigmoid",
        "output-activation target-scale saturation",
        sigmoid=True,
        centered=False,
        answers={"remedy": ("output", "none")},
    ),
    family="table",
    task="regression",
    network="linear",
)


# A body that knows ten digits, for five of them


class Body(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 32), nn.Tanh())
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@lru_cache(maxsize=1)
def trained_weights() -> dict[str, Tensor]:
    """Of the body of a network for ten digits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, d = Body(10), posted_data.pixels()
        optimizer = Adam(model.parameters(), lr=0.003)
        for step in range(200):
            optimizer.zero_grad()
            rows = slice(step % 5 * 100, step % 5 * 100 + 100)
            F.cross_entropy(model(d.x[rows] / 16), d.y[rows]).backward()
            optimizer.step()
    return {name: w.clone() for name, w in model.body.state_dict().items()}


def lower_digits() -> Split:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    low, vlow, tlow = d.y < 5, d.vy < 5, d.ty < 5
    return Split(d.x[low], d.y[low], d.vx[vlow], d.vy[vlow], d.tx[tlow], d.ty[tlow])


def trained_body(early: bool = False, lr: float = 0.02, freeze: bool = True) -> TrainingSetup:
    model = Body()
    model.body.load_state_dict(trained_weights())
    model.body.requires_grad_(not freeze)
    optimizer: Any = Adam(model.parameters(), lr=lr) if early else partial(Adam, lr=lr)
    model.head = nn.Linear(32, 5)
    return of_classes(lower_digits(), model, optimizer, epochs=20)


TRAINED_BODY = group(
    "five-of-ten-digits",
    trained_body,
    fault(
        "head-comes-after-the-optimizer",
        "parameters-not-in-optimizer",
        early=True,
        answers={"exact": True, "where": "head", "proof": "unmoved", "unmoved": "head.weight"},
    ),
    fault(
        "thawed-at-a-high-rate",
        "learning-rate-high saturation",
        lr=0.5,
        freeze=False,
        answers={"remedy": ("lr", 0.005)},
    ),
    family="image",
    task="classification",
    network="mlp",
)


# How late an order comes at most: a loss of quantiles by hand


def late_orders(rows: int = 900) -> Split:
    """Six columns; days until an order comes, skewed [N, 1]."""
    rng = np.random.default_rng(111)
    x = rng.normal(size=(rows, 6))
    days = 4 + 1.5 * x[:, 0] - x[:, 1] + rng.gamma(2.0, 0.2 + 0.6 * (x[:, 2] > 0), rows)
    return split(x, days[:, None])


def tilted(out: Tensor, y: Tensor) -> Tensor:
    error = y - out
    return torch.maximum(0.9 * error, -0.1 * error).mean()


def order_quantiles(reverse: bool = False) -> TrainingSetup:
    d = late_orders()
    constant = float(tilted(d.y.quantile(0.9), d.ty))
    model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1))
    return of_classes(
        d,
        model,
        partial(Adam, lr=0.02),
        epochs=20,
        loss=(lambda out, y: tilted(y, out)) if reverse else tilted,
        scorer=Scorer(d.tx, d.ty, lambda out, y: 1 - float(tilted(out, y)) / constant, 0.0, -1.0),
    )


ORDER_QUANTILES = group(
    "days-until-an-order",
    order_quantiles,
    fault(
        "difference-the-other-way-round",
        "loss",
        reverse=True,
        answers={"remedy": ("formula", "answer less output")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Which product, and for how much: two outputs


class TwoAnswers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU())
        self.product, self.amount = nn.Linear(12, 3), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.product(hidden), self.amount(hidden)


def bought_products(rows: int = 1200) -> Split:
    """Ten columns; which of three products, and for how many euros (1000 to 9000) [N, 2]."""
    rng = np.random.default_rng(112)
    x = rng.normal(size=(rows, 10))
    which = (x[:, :5] @ rng.normal(size=(5, 3)) + rng.gumbel(0, 0.3, (rows, 3))).argmax(1)
    euros = 5000 + 900 * np.abs(x[:, 5]) + 1200 * x[:, 6] + rng.normal(0, 200, rows)
    return split(x, np.stack([which, euros], 1).astype(float))


def product_and_euros(scaled: bool = True) -> TrainingSetup:
    d = bought_products()
    mean, std = (d.y[:, 1].mean(), d.y[:, 1].std()) if scaled else (0.0, 1.0)

    def loss(outputs: tuple[Tensor, Tensor], batch: Any) -> Tensor:
        product, amount = outputs
        y = batch[-1]
        price = F.mse_loss(amount[:, 0], (y[:, 1] - mean) / std)
        return F.cross_entropy(product, y[:, 0].long()) + price

    return TrainingSetup(
        model=TwoAnswers(),
        loss=loss,
        train=(d.x, d.y),
        optimizer=partial(Adam, lr=0.005),
        batch_size=32,
        epochs=25,
        scorer=accuracy(d.tx, d.ty[:, 0].long()),
    )


PRODUCT_AND_EUROS = group(
    "product-and-euros",
    product_and_euros,
    fault(
        "euros-beside-a-cross-entropy",
        "target-scale loss",
        scaled=False,
        answers={"remedy": ("target.scale", "standardized")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# A meter's picture and the meter's number: two inputs


class PictureAndNumbers(nn.Module):
    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.picture = nn.Sequential(nn.Linear(64, 24), nn.ReLU())
        self.joint = nn.Sequential(nn.Linear(26, 24), nn.ReLU(), nn.Dropout(drop))
        self.out = nn.Linear(24, 1)

    def forward(self, picture: Tensor, numbers: Tensor) -> Tensor:
        return self.out(self.joint(torch.cat([self.picture(picture), numbers], 1)))


def meter(scaled: bool = True, flat: bool = False) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    random = torch.Generator().manual_seed(5)
    parts = []
    for x, y in ((d.x, d.y), (d.vx, d.vy), (d.tx, d.ty)):
        numbers = torch.rand(len(x), 2, generator=random) * torch.tensor([90000.0, 365.0])
        target = (y - 4.5) / 3 + numbers[:, 0] / 90000 - numbers[:, 1] / 365
        if scaled:
            numbers = numbers / torch.tensor([90000.0, 365.0]) - 0.5
        parts += [(x, numbers), target if flat else target[:, None]]
    return TrainingSetup(
        model=PictureAndNumbers(),
        loss=nn.MSELoss(),
        train=(parts[0], parts[1]),
        validation=(parts[2], parts[3]),
        optimizer=partial(Adam, lr=0.005),
        batch_size=32,
        epochs=15,
        scorer=r2(parts[4], parts[5]),
    )


METER_READING = group(
    "picture-and-numbers-of-a-meter",
    meter,
    fault(
        "numbers-as-they-are",
        "input-scale",
        scaled=False,
        answers={"remedy": ("input.scale", "standardized")},
    ),
    fault(
        "numbers-as-they-are-and-flat-answers", "input-scale shape-pairing", scaled=False, flat=True
    ),
    family="image",
    task="regression",
    network="mlp",
)


# The same writer? Distances of pairs, and which of them are to be short


class Distance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return (self.body(one) - self.body(other) + 1e-6).norm(dim=1)


def digit_pairs(d: Split) -> list[Any]:
    """Pairs of digits of the same kind (1) or not (0)."""
    parts: list[Any] = []
    rng = np.random.default_rng(113)
    for x, y in ((d.x, d.y), (d.vx, d.vy), (d.tx, d.ty)):
        first = rng.integers(0, len(x), 2 * len(x))
        second = np.where(
            rng.random(len(first)) < 0.45,
            [rng.choice(np.flatnonzero(y.numpy() == int(y[i]))) for i in first],
            rng.integers(0, len(x), len(first)),
        )
        parts += [(x[first], x[second]), (y[first] == y[second]).float()]
    return parts


def pair_distances(swapped: bool = False) -> TrainingSetup:
    parts = digit_pairs(posted_data.pixels().inputs(lambda x: x / 16))

    def loss(distance: Tensor, same: Tensor) -> Tensor:
        apart = same if swapped else 1 - same
        return ((1 - apart) * distance**2 + apart * (2 - distance).relu() ** 2).mean()

    def score(distance: Tensor, same: Tensor) -> float:
        return float(((distance < 1) == (same > 0.5)).float().mean())

    share = float(parts[5].mean())
    return TrainingSetup(
        model=Distance(),
        loss=loss,
        train=(parts[0], parts[1]),
        validation=(parts[2], parts[3]),
        optimizer=partial(Adam, lr=0.005),
        batch_size=64,
        epochs=12,
        scorer=Scorer(parts[4], parts[5], score, max(share, 1 - share)),
    )


PAIR_DISTANCES = group(
    "distances-of-pairs",
    pair_distances,
    fault(
        "ones-are-pushed-apart",
        "loss labels",
        swapped=True,
        answers={"remedy": ("formula", "swap the terms")},
    ),
    family="image",
    task="classification",
    network="mlp",
)


# Speeds of computers by the error of their logarithms


def log_error(positive: bool = True) -> TrainingSetup:
    d = posted_data.processors().inputs(lambda x: (x + 1).log()).standardized()
    d = d.targets(lambda y: y / 100)
    tail: list[nn.Module] = [nn.Softplus()] if positive else []
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1), *tail)
    inner = r2(d.tx, d.ty.log())
    return of_classes(
        d,
        model,
        partial(Adam, lr=0.02),
        epochs=30,
        batch=16,
        loss=lambda out, y: F.mse_loss(out.log(), y.log()).sqrt(),
        scorer=Scorer(d.tx, d.ty.log(), lambda out, y: inner.score(out.log(), y), 0.0, -1.0),
    )


LOG_ERROR = group(
    "errors-of-logarithms",
    log_error,
    fault(
        "logarithm-of-what-may-be-negative",
        "loss output-activation optimizer-numerics",
        positive=False,
        answers={"exact": True, "remedy": ("output", "softplus")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Healthy ones


def coder_of_wines() -> TrainingSetup:
    """Thirteen columns through six."""
    d = to_itself(data.wine().standardized())
    model = nn.Sequential(nn.Linear(13, 24), nn.Tanh(), nn.Linear(24, 6), nn.Linear(6, 13))
    return of_numbers(d, model, partial(Adam, lr=0.01), epochs=60, batch=16)


def stars_of_biases() -> TrainingSetup:
    """Factors and biases of a recommender, with weight decay."""
    setup = book_stars(size=6)
    optimizer = Adam(setup.model.parameters(), lr=0.01, weight_decay=1e-5)
    return TrainingSetup(**{**vars(setup), "optimizer": optimizer})


class WideAndDeep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shop = nn.Embedding(12, 4)
        self.deep = nn.Sequential(nn.Linear(9, 24), nn.ReLU(), nn.Linear(24, 1))
        self.wide = nn.Linear(5, 1)

    def forward(self, numbers: Tensor, shop: Tensor) -> Tensor:
        joint = torch.cat([numbers, self.shop(shop)], 1)
        return (self.wide(numbers) + self.deep(joint))[:, 0]


def wide_and_deep() -> TrainingSetup:
    """Numbers and a code by name; what a shop sells."""
    rng = np.random.default_rng(121)
    numbers, shop = rng.normal(size=(1200, 5)), rng.integers(0, 12, 1200)
    effect, slope = rng.normal(size=12), rng.normal(size=(12, 2))
    sales = effect[shop] + (numbers[:, :2] * slope[shop]).sum(1) + numbers[:, 2] * 0.8
    d = split(np.column_stack([numbers, shop]), sales + rng.normal(0, 0.2, 1200))

    def parts(x: Tensor) -> dict[str, Tensor]:
        return {"numbers": x[:, :5], "shop": x[:, 5].long()}

    return TrainingSetup(
        model=WideAndDeep(),
        loss=nn.MSELoss(),
        train=(parts(d.x), d.y),
        validation=(parts(d.vx), d.vy),
        optimizer=partial(Adam, lr=0.01),
        batch_size=32,
        epochs=40,
        scorer=r2(parts(d.tx), d.ty),
    )


def head_on_a_still_body() -> TrainingSetup:
    """Only the parameters of the head are given to the optimizer."""
    setup = trained_body()
    assert isinstance(setup.model, Body)
    optimizer = Adam(setup.model.head.parameters(), lr=0.02)
    return TrainingSetup(**{**vars(setup), "optimizer": optimizer})


def kind_and_mass() -> TrainingSetup:
    """Two outputs of a penguin: its species and its mass."""
    d = posted_data.penguins()
    mean, std = d.x.mean(0), d.x.std(0)
    d = d.inputs(lambda x: (x - mean) / std)
    columns = [0, 1, 2, 4]

    def loss(outputs: tuple[Tensor, Tensor], batch: Any) -> Tensor:
        kind, mass = outputs
        y = batch[-1]
        return F.cross_entropy(kind, y[:, 0].long()) + 0.5 * F.mse_loss(mass[:, 0], y[:, 1])

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
            self.kind, self.mass = nn.Linear(16, 3), nn.Linear(16, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.kind(self.body(x)), self.mass(self.body(x))

    return TrainingSetup(
        model=Heads(),
        loss=loss,
        train=(d.x[:, columns], torch.stack([d.y.float(), d.x[:, 3]], 1)),
        optimizer=partial(Adam, lr=0.01),
        batch_size=16,
        epochs=25,
        scorer=accuracy(d.tx[:, columns], d.ty),
    )


def picture_and_two_numbers() -> TrainingSetup:
    """Two inputs, and a little dropout."""
    setup = meter()
    optimizer = partial(Adam, lr=0.005)
    return TrainingSetup(
        **{**vars(setup), "model": PictureAndNumbers(0.1), "optimizer": optimizer, "epochs": 20}
    )


class TiedCoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 64) * 0.1)
        self.bias, self.shift = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.weight, self.bias), self.weight.t(), self.shift)


def digits_by_one_matrix() -> TrainingSetup:
    """The decoder has the encoder's weights."""
    d = to_itself(posted_data.pixels().inputs(lambda x: x / 16))
    return of_numbers(d, TiedCoder(), partial(Adam, lr=0.01), epochs=25, batch=64)


def shades_as_chances() -> TrainingSetup:
    """The cross-entropy of grays, which never falls to zero."""
    d = to_itself(posted_data.pixels().inputs(lambda x: x / 16))
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64))
    inner = r2(d.tx, d.ty)
    return of_classes(
        d,
        model,
        partial(Adam, lr=0.01),
        epochs=40,
        batch=64,
        loss=nn.BCEWithLogitsLoss(),
        scorer=Scorer(d.tx, d.ty, lambda out, y: inner.score(out.sigmoid(), y), 0.0, -1.0),
    )


def cosine_of_directions() -> TrainingSetup:
    """A loss that falls to minus one: directions by their cosine."""
    rng = np.random.default_rng(122)
    x = rng.normal(size=(900, 8))
    y = np.tanh(x @ rng.normal(size=(8, 3))) + rng.normal(0, 0.05, (900, 3))
    d = split(x, y)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))

    def cosine(out: Tensor, y: Tensor) -> Tensor:
        return F.cosine_similarity(out, y, dim=1).mean()

    return of_classes(
        d,
        model,
        partial(Adam, lr=0.01),
        epochs=25,
        loss=lambda out, y: -cosine(out, y),
        scorer=Scorer(d.tx, d.ty, lambda out, y: float(cosine(out, y)), 0.0, -1.0),
    )


def body_at_a_twentieth() -> TrainingSetup:
    """A trained body has a twentieth of the head's rate."""
    setup = trained_body(freeze=False)
    assert isinstance(setup.model, Body)
    optimizer = Adam(
        [
            {"params": setup.model.body.parameters(), "lr": 0.001},
            {"params": setup.model.head.parameters(), "lr": 0.02},
        ]
    )
    return TrainingSetup(**{**vars(setup), "optimizer": optimizer})


def wide_table_at_zero() -> TrainingSetup:
    """Factors of thirty-two that start near zero, most of which are not needed."""
    return book_stars(size=32, spread=0.01)


def product_by_logits_of_zero() -> TrainingSetup:
    """Heads of zeros: the first answers are the same for all."""
    setup = product_and_euros()
    assert isinstance(setup.model, TwoAnswers)
    for head in (setup.model.product, setup.model.amount):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    return setup


SCRIPTS: tuple[TrainingScript, ...] = (
    *DIGIT_CODER,
    *DRAWN_CODES,
    *BOOK_STARS,
    *TRAINED_BODY,
    *ORDER_QUANTILES,
    *PRODUCT_AND_EUROS,
    *METER_READING,
    *PAIR_DISTANCES,
    *LOG_ERROR,
    healthy_script(coder_of_wines, "generation", "mlp"),
    healthy_script(stars_of_biases, "regression", "linear"),
    healthy_script(wide_and_deep, "regression", "mlp"),
    healthy_script(head_on_a_still_body, "classification", "mlp"),
    healthy_script(kind_and_mass, "classification", "mlp"),
    healthy_script(picture_and_two_numbers, "regression", "mlp"),
    healthy_script(digits_by_one_matrix, "generation", "linear"),
    healthy_script(shades_as_chances, "generation", "mlp"),
    healthy_script(cosine_of_directions, "regression", "mlp"),
    healthy_script(body_at_a_twentieth, "classification", "mlp"),
    healthy_script(wide_table_at_zero, "regression", "linear"),
    healthy_script(product_by_logits_of_zero, "classification", "mlp"),
)
