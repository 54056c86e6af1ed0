"""Healthy loops as people write them: ordinary ones, and some that look odd.

The odd ones: rows one at a time, gradients that are zeroed late, losses below zero or exactly zero,
a network that stays in evaluation mode, a rate of one, restarts, examples that get harder.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adadelta, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, MultiStepLR

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    Watch,
    accuracy,
    binary_accuracy,
    loader,
    mean_recall,
    micro_f1,
    r2,
)


def small_cnn(size: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(24 * (size // 2) ** 2, classes),
    )


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), x.std(0)


# Ordinary ones


def whole_iris_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.iris()
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        for _ in range(300):
            optimizer.zero_grad()
            loss = criterion(model(d.x), d.y)
            loss.backward()
            optimizer.step()
            watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


def kept_digits_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The best epoch is kept; the rate falls in steps."""
    d = data.digits().inputs(lambda x: x / 16)
    model = small_cnn(8, 10)
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    scheduler = MultiStepLR(optimizer, milestones=[8, 11], gamma=0.1)
    best, best_state = 0.0, copy.deepcopy(model.state_dict())
    with watch(model, optimizer) as watched:
        for _ in range(12):
            model.train()
            for images, labels in loader(d.x, d.y, 64):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            scheduler.step()
            model.eval()
            with torch.no_grad():
                right = (model(d.vx).argmax(1) == d.vy).float().mean().item()
            if right > best:
                best, best_state = right, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return model, accuracy(d.tx, d.ty)


class LastState(nn.Module):
    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(columns, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, hidden = self.gru(x)
        return self.fc(hidden[-1])


def marked_sum_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.adding(1200, length=8)
    net = LastState(2, 24)
    optimizer = Adam(net.parameters(), lr=0.01)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 40):
                optimizer.zero_grad()
                loss = F.mse_loss(net(x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
                optimizer.step()
                watched.loss(loss)
    return net, r2(d.tx, d.ty)


def patient_line_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = posted_data.patients().standardized().targets_standardized()
    line = nn.Linear(10, 1)
    optimizer = AdamW(line.parameters(), lr=0.01, weight_decay=0.01)
    with watch(line, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 32):
                loss = F.mse_loss(line(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return line, r2(d.tx, d.ty)


def patience_of_twenty_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.cancer().standardized()
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = Adam(model.parameters(), lr=3e-3)
    best, waited, best_state = math.inf, 0, copy.deepcopy(model.state_dict())
    with watch(model, optimizer) as watched:
        for _ in range(40):
            model.train()
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = criterion(model(x).squeeze(1), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            model.eval()
            with torch.no_grad():
                validation = criterion(model(d.vx).squeeze(1), d.vy).item()
            if validation < best:
                best, waited, best_state = validation, 0, copy.deepcopy(model.state_dict())
            else:
                waited += 1
                if waited == 20:
                    break
    model.load_state_dict(best_state)
    return model, binary_accuracy(d.tx, d.ty)


def six_tags_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.tags(1200)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    model.append(nn.Linear(64, 6))
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(25):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, micro_f1(d.tx, d.ty)


def squeezed_pixels_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A coder: 64 pixels, 12 numbers, 64 pixels."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    coder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12))
    decoder = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 64))
    model = nn.Sequential(coder, decoder)
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(60):
            for x, _ in loader(d.x, d.y, 64):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), x)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, r2(d.tx, d.tx)


def annealed_moons_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.moons()
    net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = SGD(net.parameters(), lr=0.5, momentum=0.9, nesterov=True)
    scheduler = CosineAnnealingLR(optimizer, T_max=40)
    with watch(net, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 50):
                loss = F.cross_entropy(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            scheduler.step()
    return net, accuracy(d.tx, d.ty)


def noised_bars_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.shapes()
    net = small_cnn(12, 4)
    optimizer = Adam(net.parameters(), lr=3e-3)
    with watch(net, optimizer) as watched:
        for _ in range(15):
            net.train()
            for images, labels in loader(d.x, d.y, 35):
                images = images + 0.05 * torch.randn_like(images)
                optimizer.zero_grad()
                loss = F.cross_entropy(net(images), labels)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            net.eval()
    return net, accuracy(d.tx, d.ty)


def robust_houses_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.houses().standardized()
    mean, std = moments(d.y)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    model.append(nn.Linear(32, 1))
    criterion = nn.HuberLoss()
    optimizer = RMSprop(model.parameters(), lr=2e-3)
    with watch(model, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, (d.y - mean) / std, 30):
                optimizer.zero_grad()
                loss = criterion(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, r2(d.tx, d.ty, float(std), float(mean))


class ChainWriter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 16)
        self.gru = nn.GRU(16, 48, batch_first=True)
        self.out = nn.Linear(48, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.gru(self.embedding(tokens))[0])


def chain_writer_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.text()
    model = ChainWriter()
    optimizer = Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x, d.y, 30):
                optimizer.zero_grad()
                logits = model(x)
                loss = F.cross_entropy(logits.reshape(-1, 8), y.reshape(-1))
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


class Factors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.people, self.films = nn.Embedding(60, 4), nn.Embedding(80, 4)
        self.person_bias, self.film_bias = nn.Embedding(60, 1), nn.Embedding(80, 1)
        for table in (self.people, self.films, self.person_bias, self.film_bias):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, pairs: Tensor) -> Tensor:
        person, film = pairs.unbind(1)
        taste = (self.people(person) * self.films(film)).sum(1, keepdim=True)
        return taste + self.person_bias(person) + self.film_bias(film)


def film_factors_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = posted_data.opinions(6000)
    mean = float(d.y.mean())
    d = d.targets(lambda y: y[:, None] - mean)
    model = Factors()
    optimizer = Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for pairs, stars in loader(d.x, d.y, 64):
                loss = F.mse_loss(model(pairs), stars)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, r2(d.tx, d.ty)


def weighted_penguins_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = posted_data.penguins().inputs(lambda x: x[:, :5]).standardized()
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    counts = d.y.bincount()
    criterion = nn.CrossEntropyLoss(weight=len(d.y) / (3 * counts))
    optimizer = Adam(net.parameters(), lr=0.01)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 16, drop_last=True):
                optimizer.zero_grad()
                loss = criterion(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, mean_recall(d.tx, d.ty)


# Odd ones


def single_rows_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Batches of one row; sixteen gradients for one step, each a sixteenth."""
    d = data.wine().standardized()
    net = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = SGD(net.parameters(), lr=0.2, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(25):
            for i, (x, y) in enumerate(loader(d.x, d.y, 1)):
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                (loss / 16).backward()
                if (i + 1) % 16 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
    return net, accuracy(d.tx, d.ty)


def zeroed_late_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The step stands before the next forward pass, the zeros at the end."""
    d = data.rings()
    net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    net.append(nn.Linear(32, 3))
    optimizer = Adam(net.parameters(), lr=0.01)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 36):
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss.detach())
                for parameter in net.parameters():
                    parameter.grad = None
    return net, accuracy(d.tx, d.ty)


class RandomWaves(nn.Module):
    """Cosines of random directions, which are not trained, and a line on them."""

    def __init__(self) -> None:
        super().__init__()
        self.waves = nn.Linear(2, 200)
        self.waves.requires_grad_(False)
        nn.init.normal_(self.waves.weight, std=2.0)
        nn.init.uniform_(self.waves.bias, 0, 2 * math.pi)
        self.line = nn.Linear(200, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = torch.cos(self.waves(x))
        return self.line(features)


def random_waves_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.moons()
    net = RandomWaves()
    optimizer = Adam(net.line.parameters(), lr=0.03)
    with watch(net, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 50):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def walk_values_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """What is a place of a random walk worth? The next place is valued by a copy, every 50 steps
    renewed: the loss rises with every copy.
    """
    places, discount = 11, 0.9
    net = nn.Sequential(nn.Linear(places, 32), nn.ReLU(), nn.Linear(32, 1))
    frozen = copy.deepcopy(net)
    optimizer = Adam(net.parameters(), lr=3e-3)
    codes = torch.eye(places)
    with watch(net, optimizer) as watched:
        for step in range(1500):
            if step % 50 == 0:
                frozen.load_state_dict(net.state_dict())
            here = torch.randint(0, places, (64,))
            there = here + torch.randint(0, 2, (64,)) * 2 - 1
            reward = (there == places).float()
            done = ((there < 0) | (there == places)).float()
            with torch.no_grad():
                later = frozen(codes[there.clamp(0, places - 1)]).squeeze(1)
            target = reward + discount * (1 - done) * later
            loss = F.mse_loss(net(codes[here]).squeeze(1), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watched.loss(loss)
    moves = torch.diag(torch.full((places - 1,), 0.5), 1)
    moves = moves + moves.T
    ends = torch.zeros(places)
    ends[-1] = 0.5
    values = torch.linalg.solve(torch.eye(places) - discount * moves, ends)
    return net, r2(codes, values[:, None])


def surprise_below_zero_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A mean and a variance: the negative log likelihood falls below zero."""
    d = data.friedman(900, noise=0.3).targets(lambda y: (y[:, None] - 14) / 10)
    net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    net.append(nn.Linear(64, 2))
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(50):
            for x, y in loader(d.x, d.y, 32):
                mean, log_variance = net(x).split(1, dim=1)
                loss = F.gaussian_nll_loss(mean, y, log_variance.clamp(-10, 4).exp())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    inner = r2(d.tx, d.ty)
    return net, Scorer(d.tx, d.ty, lambda out, y: inner.score(out[:, :1], y), 0.0, -1.0)


def summed_squares_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The loss is a sum over the batch: large numbers, a small rate."""
    d = data.spots().targets(lambda y: y - 5.5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2))
    criterion = nn.MSELoss(reduction="sum")
    optimizer = SGD(net.parameters(), lr=5e-4, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 40):
                loss = criterion(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, r2(d.tx, d.ty)


def second_order_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """L-BFGS on all rows: a closure that is called up to ten times in a step."""
    d = posted_data.hills().standardized().targets_standardized()
    net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
    net.append(nn.Linear(32, 1))
    optimizer = LBFGS(net.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    with watch(net, optimizer) as watched:
        for _ in range(20):

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = F.mse_loss(net(d.x), d.y)
                loss.backward()
                return loss

            watched.loss(optimizer.step(closure))
    return net, r2(d.tx, d.ty)


def rate_of_one_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x / 16)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    net.append(nn.LogSoftmax(dim=1))
    optimizer = Adadelta(net.parameters(), lr=1.0)
    with watch(net, optimizer) as watched:
        for _ in range(25):
            for images, labels in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.nll_loss(net(images), labels)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def restarted_rate_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The rate starts again every ten epochs, and the loss jumps."""
    d = data.clusters(1200, apart=1.6)
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = SGD(net.parameters(), lr=0.03, momentum=0.9)
    batches = math.ceil(len(d.x) / 40)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=10 * batches)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 40):
                loss = F.cross_entropy(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def kept_norms_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Fine-tuned with the norms of before: the network stays in evaluation mode."""
    d = data.digits().inputs(lambda x: x / 16)
    net = small_cnn(8, 10)
    before = Adam(net.parameters(), lr=3e-3)
    for _ in range(3):
        for x, y in loader(d.x[200:], d.y[200:], 64):
            before.zero_grad()
            F.cross_entropy(net(x), y).backward()
            before.step()
    net[-1] = nn.Linear(24 * 16, 2)
    net.eval()
    optimizer = Adam(net.parameters(), lr=3e-3)
    with watch(net, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x[:400], d.y[:400] % 2, 20):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty % 2)


def zero_margin_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A loss with a margin: exactly zero for many batches in the end."""
    d = data.wine().standardized()
    net = nn.Linear(13, 3)
    optimizer = SGD(net.parameters(), lr=0.1)
    with watch(net, optimizer) as watched:
        for _ in range(60):
            for x, y in loader(d.x, d.y, 10):
                optimizer.zero_grad()
                loss = F.multi_margin_loss(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def mixed_bars_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Mixtures of two pictures and smoothed labels: the loss stays high."""
    d = data.shapes()
    net = small_cnn(12, 4)
    optimizer = Adam(net.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    beta = torch.distributions.Beta(0.4, 0.4)
    with watch(net, optimizer) as watched:
        for _ in range(18):
            net.train()
            for images, labels in loader(d.x, d.y, 35):
                share, other = beta.sample(), torch.randperm(len(images))
                outputs = net(share * images + (1 - share) * images[other])
                loss = share * criterion(outputs, labels)
                loss = loss + (1 - share) * criterion(outputs, labels[other])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def mostly_noise_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Two thirds of the variance are noise: the loss hardly falls, and there is no more in it."""
    d = data.friedman(2400, noise=7.0).targets(lambda y: y[:, None])
    d = d.standardized().targets_standardized()
    net = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
    with watch(net, optimizer) as watched:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 48):
                optimizer.zero_grad()
                loss = F.mse_loss(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, r2(d.tx, d.ty)


def always_cut_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Nearly every gradient is cut, and the rate is made for that."""
    d = data.first_tokens(900, length=8)
    net = nn.Sequential(nn.Embedding(4, 16), nn.Flatten(), nn.Linear(128, 32), nn.ReLU())
    net.append(nn.Linear(32, 4))
    optimizer = SGD(net.parameters(), lr=1.0)
    with watch(net, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x, d.y, 30):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 0.1)
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def same_order_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The rows stand in no order, and are never shuffled."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = Adam(net.parameters(), lr=3e-3)
    with watch(net, optimizer) as watched:
        for _ in range(15):
            for start in range(0, len(d.x), 49):
                x, y = d.x[start : start + 49], d.y[start : start + 49]
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def harder_later_loop(watch: Watch) -> tuple[nn.Module, Scorer]:
    """More and more noise on the pictures: the loss rises."""
    d = data.digits().inputs(lambda x: x / 16)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = Adam(net.parameters(), lr=3e-3)
    with watch(net, optimizer) as watched:
        for epoch in range(20):
            for images, labels in loader(d.x, d.y, 49):
                noise = 0.03 * epoch * torch.randn_like(images)
                optimizer.zero_grad()
                loss = F.cross_entropy(net(images + noise), labels)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


SCRIPTS: tuple[TrainingScript, ...] = (
    healthy_script(whole_iris_loop, "classification", "mlp", kind="loop", steps=300),
    healthy_script(kept_digits_loop, "classification", "cnn", kind="loop", steps=204),
    healthy_script(marked_sum_loop, "regression", "recurrent", kind="loop", steps=540),
    healthy_script(patient_line_loop, "regression", "linear", kind="loop", steps=360),
    healthy_script(patience_of_twenty_loop, "classification", "mlp", kind="loop", steps=440),
    healthy_script(six_tags_loop, "multi-label", "mlp", kind="loop", steps=575),
    healthy_script(squeezed_pixels_loop, "generation", "mlp", kind="loop", steps=1020),
    healthy_script(annealed_moons_loop, "classification", "mlp", kind="loop", steps=240),
    healthy_script(noised_bars_loop, "classification", "cnn", kind="loop", steps=180),
    healthy_script(robust_houses_loop, "regression", "mlp", kind="loop", steps=560),
    healthy_script(chain_writer_loop, "generation", "recurrent", kind="loop", steps=150),
    healthy_script(film_factors_loop, "regression", "linear", kind="loop", steps=855),
    healthy_script(weighted_penguins_loop, "classification", "mlp", kind="loop", steps=360),
    healthy_script(single_rows_loop, "classification", "mlp", kind="loop", steps=2650),
    healthy_script(zeroed_late_loop, "classification", "mlp", kind="loop", steps=300),
    healthy_script(random_waves_loop, "classification", "linear", kind="loop", steps=240),
    healthy_script(walk_values_loop, "regression", "mlp", kind="loop", steps=1500),
    healthy_script(surprise_below_zero_loop, "regression", "mlp", kind="loop", steps=850),
    healthy_script(summed_squares_loop, "regression", "mlp", kind="loop", steps=270),
    healthy_script(second_order_loop, "regression", "mlp", kind="loop", steps=20),
    healthy_script(rate_of_one_loop, "classification", "mlp", kind="loop", steps=850),
    healthy_script(restarted_rate_loop, "classification", "mlp", kind="loop", steps=540),
    healthy_script(kept_norms_loop, "classification", "cnn", kind="loop", steps=300),
    healthy_script(zero_margin_loop, "classification", "linear", kind="loop", steps=660),
    healthy_script(mixed_bars_loop, "classification", "cnn", kind="loop", steps=216),
    healthy_script(mostly_noise_loop, "regression", "mlp", kind="loop", steps=360),
    healthy_script(always_cut_loop, "classification", "mlp", kind="loop", steps=270),
    healthy_script(same_order_loop, "classification", "mlp", kind="loop", steps=330),
    healthy_script(harder_later_loop, "classification", "mlp", kind="loop", steps=440),
)
