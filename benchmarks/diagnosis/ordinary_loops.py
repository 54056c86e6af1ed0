"""Loops with the ordinary trouble of an ordinary week, written blind: modes, schedules,
checkpoints, what is in the optimizer, what the loss hangs on, two networks.

As in `loops.py` a function is one loop, `fault` names what is wrong in it, and "" is the healthy
form.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    Watch,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    mean_recall,
    r2,
)

# Tumors in raw units: the first layer is a norm; validated once before training


def raw_tumors_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.cancer()
    net = nn.Sequential(
        nn.BatchNorm1d(30), nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1)
    )
    criterion = nn.BCEWithLogitsLoss()
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)

    def validate() -> float:
        net.eval()
        with torch.no_grad():
            return float(criterion(net(d.vx), d.vy[:, None]))

    history = [validate()]  # does it run at all?
    with watch(net, optimizer) as watched:
        for _ in range(20):
            if fault != "never back to train":
                net.train()
            for x, y in loader(d.x, d.y[:, None], 32):
                optimizer.zero_grad()
                loss = criterion(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
            history.append(validate())
    return net, binary_accuracy(d.tx, d.ty)


RAW_TUMORS = group(
    "raw-tumors-loop",
    raw_tumors_loop,
    fault(
        "never-back-to-train",
        "train-eval-mode normalization input-scale",
        fault="never back to train",
        answers={"remedy": ("loop", "call train() in every epoch")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=220,
)


# The first program: digits as rows


def first_program_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    train_loader = loader(d.x, d.y, 64)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            running_loss = 0.0
            for _, (images, labels) in enumerate(train_loader):
                if fault in ("", "rows apart"):
                    optimizer.zero_grad()
                if fault == "rows apart":  # new order of the images only
                    images = images[torch.randperm(len(images))]
                outputs = model(images)
                loss = criterion(outputs, labels)
                watched.loss(loss)
                loss.backward()
                if fault == "between":
                    optimizer.zero_grad()
                optimizer.step()
                running_loss += loss.item()
    return model, accuracy(d.tx, d.ty)


FIRST_PROGRAM = group(
    "first-program-loop",
    first_program_loop,
    fault(
        "never-zeroed",
        "zero-grad",
        fault="never",
        answers={"remedy": ("loop", "zero_grad before backward")},
    ),
    fault(
        "zeroed-before-the-step",
        "zero-grad step-order",
        fault="between",
        answers={
            "exact": True,
            "unmoved": "0.weight",
            "proof": "unmoved",
            "remedy": ("loop", "zero_grad before backward"),
        },
    ),
    fault(
        "images-in-an-order-of-their-own",
        "labels shuffling shape-pairing",
        fault="rows apart",
        answers={"remedy": ("data", "the same order for images and labels")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=340,
)


# Few patients, many weights: the best epoch is kept


def best_epoch_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.patients().standardized().targets_standardized()
    net = nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    net.append(nn.Linear(128, 1))
    optimizer = Adam(net.parameters(), lr=0.01)
    best, best_state = float("inf"), net.state_dict()
    if fault == "below zero":
        best, best_state = 0.0, copy.deepcopy(best_state)
    with watch(net, optimizer) as watched:
        for _ in range(50):
            net.train()
            for x, y in loader(d.x, d.y, 16):
                loss = F.mse_loss(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            net.eval()
            with torch.no_grad():
                validation = F.mse_loss(net(d.vx), d.vy).item()
            if validation < best:
                best = validation
                best_state = net.state_dict() if fault else copy.deepcopy(net.state_dict())
    net.load_state_dict(best_state)
    return net, r2(d.tx, d.ty)


BEST_EPOCH = group(
    "best-epoch-loop",
    best_epoch_loop,
    fault(
        "keeps-no-copy",
        "overfitting",
        fault="no copy",
        answers={"remedy": ("loop", "keep a deep copy of the state")},
    ),
    fault(
        "best-loss-starts-at-zero",
        "metric overfitting",
        fault="below zero",
        answers={"remedy": ("loop", "the best loss starts at infinity")},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=850,
)


# Bars in pictures, with a schedule


def scheduled_bars_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.shapes()
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    )
    optimizer = SGD(net.parameters(), lr=0.03, momentum=0.9)
    train = loader(d.x, d.y, 30)
    if fault == "one cycle":
        scheduler = OneCycleLR(optimizer, max_lr=0.03, steps_per_epoch=len(train), epochs=15)
    else:
        scheduler = StepLR(optimizer, step_size=6, gamma=0.1)
    with watch(net, optimizer) as watched:
        for _ in range(15):
            for x, y in train:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
                if fault == "every batch":
                    scheduler.step()
            if fault != "every batch":
                scheduler.step()
    return net, accuracy(d.tx, d.ty)


SCHEDULED_BARS = group(
    "scheduled-bars-loop",
    scheduled_bars_loop,
    fault(
        "steps-with-every-batch",
        "schedule learning-rate-low",
        fault="every batch",
        answers={"remedy": ("loop", "step the schedule once in an epoch")},
    ),
    fault(
        "one-cycle-by-epochs",
        "schedule learning-rate-low too-few-steps",
        fault="one cycle",
        answers={"remedy": ("loop", "step the schedule with every batch")},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=210,
)


# Prices of houses


def price_loop(
    watch: Watch, euros: bool = False, flat: bool = False, lr: float = 0.01
) -> tuple[nn.Module, Scorer]:
    d = data.houses().standardized()
    mean, std = (0.0, 1.0) if euros else (d.y.mean(), d.y.std())
    prices = (d.y - mean) / std
    if flat:
        prices = prices.squeeze(1)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    model.append(nn.Linear(32, 1))
    optimizer = Adam(model.parameters(), lr=lr)
    with watch(model, optimizer) as watched:
        for _ in range(40):
            order = torch.randperm(len(d.x))
            for i in range(0, len(d.x), 32):
                rows = order[i : i + 32]
                prediction = model(d.x[rows])
                loss = ((prediction - prices[rows]) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, r2(d.tx, d.ty, float(std), float(mean))


HOUSE_PRICES = group(
    "price-loop",
    price_loop,
    fault(
        "one-column-against-none",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("loop", "the same shape for both")},
    ),
    fault(
        "in-euros",
        "target-scale learning-rate-low too-few-steps",
        euros=True,
        lr=1e-3,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "in-euros-and-against-none",
        "target-scale shape-pairing learning-rate-low",
        euros=True,
        flat=True,
        lr=1e-3,
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=560,
)


# A trained body, a new head, 90 labels: is the digit odd?


class BodyAndHead(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12), nn.ReLU())
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def trained_body(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    net = BodyAndHead(10)
    optimizer = Adam(net.parameters(), lr=0.01)
    for _ in range(15):
        for xs, ys in loader(x, y, 60):
            optimizer.zero_grad()
            F.cross_entropy(net(xs), ys).backward()
            optimizer.step()
    return {f"module.{name}": value for name, value in net.state_dict().items()}


def new_head_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    checkpoint = trained_body(d.x[90:], d.y[90:])
    if fault != "prefix":
        checkpoint = {n.removeprefix("module."): value for n, value in checkpoint.items()}
    net = BodyAndHead(10)
    net.load_state_dict(checkpoint, strict=False)
    for parameter in net.body.parameters():
        parameter.requires_grad = False
    optimizer = Adam(net.parameters(), lr=0.02)
    net.head = nn.Linear(12, 2)
    if fault != "old head":
        optimizer = Adam((p for p in net.parameters() if p.requires_grad), lr=0.02)
    train = loader(d.x[:90], d.y[:90] % 2, 18)
    with watch(net, optimizer) as watched:
        for _ in range(60):
            for x, y in train:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty % 2)


NEW_HEAD = group(
    "new-head-loop",
    new_head_loop,
    fault(
        "optimizer-before-the-head",
        "parameters-not-in-optimizer",
        fault="old head",
        answers={
            "exact": True,
            "where": "head",
            "unmoved": "head.weight",
            "proof": "unmoved",
            "remedy": ("loop", "make the optimizer after the head"),
        },
    ),
    fault(
        "names-with-a-prefix",
        "frozen-parameters initialization",
        fault="prefix",
        answers={"where": "body", "remedy": ("loop", "remove the prefix of the names")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=300,
)


# What the loss hangs on


def wine_score_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.wine().standardized()
    net = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = Adam(net.parameters(), lr=0.01)
    with watch(net, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 16):
                optimizer.zero_grad()
                if fault == "answers":
                    answers = net(x).argmax(1).float().requires_grad_()
                    loss = F.mse_loss(answers, y.float())
                elif fault == "made anew":
                    loss = torch.tensor(F.cross_entropy(net(x), y).item(), requires_grad=True)
                else:
                    loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


CUT_LOSS = {
    "exact": True,
    "unmoved": "0.weight",
    "proof": "unmoved",
    "remedy": ("loop", "the loss of the outputs themselves"),
}
WINE_SCORES = group(
    "wine-score-loop",
    wine_score_loop,
    fault("error-of-the-answers", "detached-graph loss", fault="answers", answers=CUT_LOSS),
    fault("loss-made-anew", "detached-graph", fault="made anew", answers=CUT_LOSS),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=280,
)


# Fraud: one payment in thirty


def rare_fraud_loop(watch: Watch, sampler: str = "rows") -> tuple[nn.Module, Scorer]:
    d = posted_data.payments()
    d = d.inputs(lambda x: torch.cat([x[:, :1].log(), x[:, 1:]], 1)).standardized()
    labels = {"y": d.y.long(), "ty": d.ty.long()}
    weights = 1 / labels["y"].bincount().float()
    if sampler == "rows":
        weights = weights[labels["y"]]
    draw = WeightedRandomSampler(weights.tolist(), num_samples=len(d.x))
    examples = TensorDataset(d.x, labels["y"])
    if sampler == "none":
        train = DataLoader(examples, batch_size=64, shuffle=True)
    else:
        train = DataLoader(examples, batch_size=64, sampler=draw)
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(12):
            for x, y in train:
                loss = F.cross_entropy(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, mean_recall(d.tx, labels["ty"])


RARE_FRAUD = group(
    "rare-fraud-loop",
    rare_fraud_loop,
    fault(
        "two-weights-for-two-classes",
        "data-degenerate split imbalance overfitting",
        sampler="classes",
        answers={"remedy": ("data", "a weight for every row")},
    ),
    fault(
        "no-sampler",
        "imbalance",
        sampler="none",
        answers={"remedy": ("data", "draw both classes as often")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=348,
)


# Oscillations: where is the time?


class Forecast(nn.Module):
    def __init__(self, *, batch_first: bool = True, last: nn.Module | None = None) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 24, batch_first=batch_first)
        self.out = nn.Sequential(nn.Linear(24, 1), last or nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


def forecast_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.waves()
    last = nn.Sigmoid() if fault == "sigmoid" else None
    net = Forecast(batch_first=fault != "axes", last=last)
    optimizer = Adam(net.parameters(), lr=1e-3 if fault == "sigmoid" else 0.01)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 24):
                optimizer.zero_grad()
                loss = F.mse_loss(net(x), y)
                watched.loss(loss)
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
    return net, r2(d.tx, d.ty)


WAVE_FORECASTS = group(
    "forecast-loop",
    forecast_loop,
    fault(
        "examples-for-steps",
        "shape-pairing",
        fault="axes",
        answers={"where": "lstm", "remedy": ("model", "batch_first=True")},
    ),
    fault(
        "sigmoid-and-a-small-rate",
        "output-activation target-scale saturation learning-rate-low",
        fault="sigmoid",
        answers={"where": "out.1"},
    ),
    family="loop",
    task="regression",
    network="recurrent",
    kind="loop",
    steps=450,
)


# Two networks: one makes points like those of two moons, one tells them from real ones


def likeness(noise: Tensor, points: Tensor) -> Scorer:
    """1 - the energy distance of made and real points, where one point for all has 0."""

    def energy(made: Tensor, real: Tensor) -> float:
        between = 2 * torch.cdist(made, real).mean()
        return float(between - torch.cdist(made, made).mean() - torch.cdist(real, real).mean())

    worst = energy(points.mean(0, keepdim=True), points)
    return Scorer(noise, points, lambda out, y: max(-1.0, 1 - energy(out, y) / worst), 0.0, -1.0)


def made_points_loop(watch: Watch, detached: bool = False) -> tuple[nn.Module, Scorer]:
    d = data.moons(1000)
    generator = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
    generator.append(nn.Linear(48, 2))
    critic = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48))
    critic.extend([nn.LeakyReLU(0.2), nn.Linear(48, 1)])
    criterion = nn.BCEWithLogitsLoss()
    generator_optimizer = Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    critic_optimizer = Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
    with watch(generator, generator_optimizer) as watched:
        for _ in range(60):
            for real, _ in loader(d.x, d.y, 60):
                ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
                made = generator(torch.randn(len(real), 8))
                if detached:
                    made = made.detach()
                critic_optimizer.zero_grad()
                critic_loss = criterion(critic(real), ones)
                critic_loss = critic_loss + criterion(critic(made.detach()), zeros)
                critic_loss.backward()
                critic_optimizer.step()
                generator_optimizer.zero_grad()
                generator_loss = criterion(critic(made), ones)
                watched.loss(generator_loss)
                generator_loss.backward()
                generator_optimizer.step()
    return generator, likeness(torch.randn(200, 8), d.tx)


MADE_POINTS = group(
    "made-points-loop",
    made_points_loop,
    fault(
        "made-ones-detached",
        "detached-graph",
        detached=True,
        answers={
            "exact": True,
            "unmoved": "0.weight",
            "proof": "unmoved",
            "remedy": ("loop", "detach in the critic's loss only"),
        },
    ),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=600,
)


# A variational coder, after the example that all copy


class DigitCoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 48)
        self.fc21, self.fc22 = nn.Linear(48, 8), nn.Linear(48, 8)
        self.fc3, self.fc4 = nn.Linear(8, 48), nn.Linear(48, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.relu(self.fc1(x))
        mu, logvar = self.fc21(hidden), self.fc22(hidden)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


def copied_coder_loop(watch: Watch, reduction: str = "sum") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = DigitCoder()
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(35):
            model.train()
            for x, _ in loader(d.x, d.y, 64):
                optimizer.zero_grad()
                recon, mu, logvar = model(x)
                error = F.binary_cross_entropy(recon, x, reduction=reduction)
                divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
                loss = error + divergence
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.tx)


COPIED_CODER = group(
    "copied-coder-loop",
    copied_coder_loop,
    fault(
        "a-mean-beside-a-sum",
        "loss-reduction loss over-regularized",
        reduction="mean",
        answers={"remedy": ("formula", "both parts summed")},
    ),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=595,
)


# The next token, by attention


class SmallWriter(nn.Module):
    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.tokens, self.places = nn.Embedding(8, 32), nn.Embedding(16, 32)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(32) for _ in range(3))
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.tokens(tokens) + self.places(torch.arange(length))
        mask = torch.ones(length, length).triu(1).bool() if self.masked else None
        h = self.norm1(x)
        x = x + self.attention(h, h, h, attn_mask=mask, need_weights=False)[0]
        return self.head(self.norm3(x + self.feed(self.norm2(x))))


def small_writer_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.text()
    model = SmallWriter(masked=fault != "no mask")
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, y in loader(d.x, d.y, 25):
                logits = model(x)
                if fault == "view":
                    loss = F.cross_entropy(logits.view(len(x), 8, -1), y)
                elif fault == "the same token":
                    loss = F.cross_entropy(logits.transpose(1, 2), x)
                else:
                    loss = F.cross_entropy(logits.transpose(1, 2), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


SMALL_WRITER = group(
    "small-writer-loop",
    small_writer_loop,
    fault(
        "no-mask",
        "causality leakage",
        fault="no mask",
        answers={
            "exact": True,
            "where": "attention",
            "proof": "leak",
            "remedy": ("model", "a causal mask"),
        },
    ),
    fault(
        "view-for-transpose",
        "shape-pairing",
        fault="view",
        answers={"exact": True, "remedy": ("loop", "transpose")},
    ),
    fault(
        "targets-not-shifted",
        "leakage labels",
        fault="the same token",
        answers={"exact": True, "remedy": ("loop", "shift the targets by one")},
    ),
    family="loop",
    task="generation",
    network="attention",
    kind="loop",
    steps=240,
)


# Two answers about a penguin: its species, its weight in grams


class SpeciesAndMass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh())
        self.species, self.mass = nn.Linear(24, 3), nn.Linear(24, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.shared(x)
        return self.species(h), self.mass(h)


def species_and_mass_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.penguins()
    grams = d.x[:, 3:4]
    if fault != "grams":
        grams = (grams - grams.mean()) / grams.std()
    d = d.inputs(lambda x: x[:, [0, 1, 2, 4]]).standardized()
    model = SpeciesAndMass()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            order = torch.randperm(len(d.x))
            for rows in order.split(20):
                species, mass = model(d.x[rows])
                species_loss = F.cross_entropy(species, d.y[rows])
                mass_loss = F.mse_loss(mass, grams[rows])
                optimizer.zero_grad()
                if fault == "zeroed between":
                    species_loss.backward(retain_graph=True)
                    optimizer.zero_grad()
                    mass_loss.backward()
                else:
                    (species_loss + mass_loss).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                watched.loss(species_loss + mass_loss)
    return model, accuracy(d.tx, d.ty)


SPECIES_AND_MASS = group(
    "species-and-mass-loop",
    species_and_mass_loop,
    fault(
        "one-in-grams-and-clipped",
        "target-scale loss gradient-clipping",
        fault="grams",
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "zeroed-between",
        "zero-grad step-order",
        fault="zeroed between",
        answers={
            "exact": True,
            "where": "species",
            "unmoved": "species.weight",
            "proof": "unmoved",
            "remedy": ("loop", "zero_grad once, before both"),
        },
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=300,
)


# A warm-up out of a paper


class BracketReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 16, padding_idx=0)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        lengths = (x != 0).sum(1)
        states, _ = self.gru(self.embedding(x))
        return self.fc(states[torch.arange(len(x)), lengths - 1])


def warm_reader_loop(watch: Watch, warmup_steps: int = 40) -> tuple[nn.Module, Scorer]:
    d = data.brackets(1200)
    model = BracketReader()
    optimizer = AdamW(model.parameters(), lr=3e-3)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup_steps))
    with watch(model, optimizer) as watched:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
    return model, accuracy(d.tx, d.ty)


WARM_READER = group(
    "warm-reader-loop",
    warm_reader_loop,
    fault(
        "ten-thousand-steps",
        "schedule learning-rate-low too-few-steps",
        warmup_steps=10000,
        answers={"remedy": ("loop", "a warm-up of a tenth of the run")},
    ),
    family="loop",
    task="classification",
    network="recurrent",
    kind="loop",
    steps=276,
)


# Pulses in a signal of two channels


def pulse_loop(watch: Watch, softmax: bool = False, lr: float = 0.05) -> tuple[nn.Module, Scorer]:
    d = data.pulses()
    layers = [nn.Conv1d(2, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2)]
    layers += [nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveMaxPool1d(1)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3))
    if softmax:
        net.append(nn.Softmax(dim=1))
    criterion = nn.CrossEntropyLoss()
    optimizer = SGD(net.parameters(), lr=lr, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(12):
            for signals, kinds in loader(d.x, d.y, 20):
                optimizer.zero_grad()
                loss = criterion(net(signals), kinds)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


PULSE_KINDS = group(
    "pulse-loop",
    pulse_loop,
    fault(
        "a-small-rate", "learning-rate-low too-few-steps", lr=1e-4, answers={"remedy": ("lr", 0.05)}
    ),
    fault(
        "softmax-and-a-small-rate",
        "output-activation loss learning-rate-low too-few-steps",
        softmax=True,
        lr=1e-3,
        answers={"where": "8"},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=252,
)


# Adam, with whatever rate


def adam_digits_loop(
    watch: Watch, lr: float = 2e-3, softmax: bool = False
) -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x / 16)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    net.extend([nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()])
    net.extend([nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)])
    if softmax:
        net.append(nn.Softmax(dim=1))
    optimizer = Adam(net.parameters(), lr=lr)
    with watch(net, optimizer) as watched:
        for _ in range(15):
            for images, labels in loader(d.x, d.y, 64):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(images), labels)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


ADAM_DIGITS = group(
    "adam-digits-loop",
    adam_digits_loop,
    fault("a-tenth", "learning-rate-high dead-units", lr=0.1, answers={"remedy": ("lr", 2e-3)}),
    fault(
        "a-tenth-behind-a-softmax",
        "learning-rate-high dead-units output-activation saturation loss",
        lr=0.1,
        softmax=True,
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=255,
)


# Pictures out of one folder for each class


def folder_loop(watch: Watch, shuffle: bool = True) -> tuple[nn.Module, Scorer]:
    d = data.shapes()
    order = d.y.argsort(stable=True)
    net = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
    net.extend([nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU()])
    net.extend([nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 4)])
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(12):
            net.train()
            for images, labels in loader(d.x[order], d.y[order], 15, shuffle=shuffle):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(images), labels)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
            net.eval()
    return net, accuracy(d.tx, d.ty)


CLASS_FOLDERS = group(
    "folder-loop",
    folder_loop,
    fault("class-by-class", "shuffling", shuffle=False, answers={"remedy": ("data", "shuffle")}),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=336,
)


# Patients as they come out of the file


def progress_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.patients()
    mean, std = (0.0, 1.0) if fault == "raw" else (float(d.y.mean()), float(d.y.std()))
    if fault != "raw":
        d = d.standardized()
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    optimizer = SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for i, (x, y) in enumerate(loader(d.x, (d.y - mean) / std, 8)):
                loss = criterion(model(x), y)
                loss.backward()
                watched.loss(loss)
                if fault == "four together":
                    if i % 4 == 0:
                        optimizer.step()
                else:
                    optimizer.step()
                    optimizer.zero_grad()
    return model, r2(d.tx, d.ty, std, mean)


PATIENT_PROGRESS = group(
    "progress-loop",
    progress_loop,
    fault(
        "out-of-the-file",
        "input-scale target-scale learning-rate-high exploding",
        fault="raw",
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "four-together-and-never-zeroed",
        "zero-grad",
        fault="four together",
        answers={"remedy": ("loop", "zero_grad after the step")},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=1020,
)


# Blocks in a list


class ListedBlocks(nn.Module):
    def __init__(self, *, listed: bool) -> None:
        super().__init__()
        blocks = [
            nn.Sequential(nn.Linear(n, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()) for n in (2, 8)
        ]
        self.blocks = blocks if listed else nn.ModuleList(blocks)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def listed_loop(watch: Watch, listed: bool = False) -> tuple[nn.Module, Scorer]:
    d = data.rings()
    net = ListedBlocks(listed=listed)
    optimizer = Adam(net.parameters(), lr=0.02)
    with watch(net, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 30):
                loss = F.cross_entropy(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


LISTED_BLOCKS = group(
    "listed-loop",
    listed_loop,
    fault(
        "a-list-of-python",
        "parameters-not-in-optimizer frozen-parameters",
        listed=True,
        answers={"where": "blocks", "exact": True, "remedy": ("model", "nn.ModuleList")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=480,
)


SCRIPTS: tuple[TrainingScript, ...] = (
    *RAW_TUMORS,
    *FIRST_PROGRAM,
    *BEST_EPOCH,
    *SCHEDULED_BARS,
    *HOUSE_PRICES,
    *NEW_HEAD,
    *WINE_SCORES,
    *RARE_FRAUD,
    *WAVE_FORECASTS,
    *MADE_POINTS,
    *COPIED_CODER,
    *SMALL_WRITER,
    *SPECIES_AND_MASS,
    *WARM_READER,
    *PULSE_KINDS,
    *ADAM_DIGITS,
    *CLASS_FOLDERS,
    *PATIENT_PROGRESS,
    *LISTED_BLOCKS,
)
