"""Loops of more than a network and a loss: two networks, two optimizers, rewards, pairs, averages
of weights, scaled losses, with what people do wrong in them in any week; and healthy ones, plain
and odd.

As in `loops.py` a function is one loop, `fault` names what is wrong in it, and "" is the healthy
form; `epochs` is there to train a healthy one longer.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LinearLR

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis import ordinary_seq_data as ordinary
from benchmarks.diagnosis.tables import mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    Watch,
    accuracy,
    fault,
    group,
    loader,
    r2,
)

# Points that a generator imitates


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|a - b| - E|a - a'| - E|b - b'|: zero for equal distributions."""
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def likeness(noise: Tensor, points: Tensor) -> Scorer:
    """How much nearer the made points come to the real ones than their mean does; chance 0."""
    constant = energy_distance(points.mean(0, keepdim=True), points)
    return Scorer(
        noise, points, lambda out, y: max(-1.0, 1 - energy_distance(out, y) / constant), 0.0, -1.0
    )


def forger_loop(watch: Watch, fault: str = "", epochs: int = 130) -> tuple[nn.Module, Scorer]:
    d = posted_data.penguins().inputs(lambda x: x[:, :2]).standardized()  # bills
    noise = torch.randn(len(d.tx), 4, generator=torch.Generator().manual_seed(1))
    generator, critic = mlp(4, 32, 32, 2), mlp(2, 32, 32, 1, act=lambda: nn.LeakyReLU(0.2))
    made_by = Adam(generator.parameters(), lr=6e-3, betas=(0.5, 0.999))
    told_by = Adam(critic.parameters(), lr=6e-3, betas=(0.5, 0.999))
    with watch(generator, made_by) as watched, watch(critic, told_by) as watched_critic:
        for _ in range(epochs):
            for real, _ in loader(d.x, d.y, 48, drop_last=True):
                ones, zeros = torch.ones(48, 1), torch.zeros(48, 1)
                fake = generator(torch.randn(48, 4))
                told_by.zero_grad()
                critic_loss = F.binary_cross_entropy_with_logits(critic(real), ones)
                critic_loss = critic_loss + F.binary_cross_entropy_with_logits(
                    critic(fake.detach()), zeros
                )
                critic_loss.backward()
                told_by.step()
                watched_critic.loss(critic_loss)
                made_by.zero_grad()
                if fault == "cut":
                    fake = fake.detach()
                loss = F.binary_cross_entropy_with_logits(
                    critic(fake), zeros if fault == "as made" else ones
                )
                loss.backward()
                made_by.step()
                watched.loss(loss)
    return generator, likeness(noise, d.tx)


FORGER = group(
    "forger-loop",
    forger_loop,
    fault(
        "cut-in-the-generator-s-step",
        "detached-graph frozen-parameters",
        fault="cut",
        answers={"exact": True},
    ),
    fault("made-points-called-made", "labels loss", fault="as made"),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=2 * 130 * 4,
)


# A coder and a decoder with an optimizer each


def coder_pair_loop(watch: Watch, fault: str = "", epochs: int = 30) -> tuple[nn.Module, Scorer]:
    d = ordinary.digit_rows().inputs(lambda x: x.flatten(1))
    coder, decoder = mlp(64, 48, 10), mlp(10, 48, 64)
    coder_steps = Adam(coder.parameters(), lr=3e-3)
    decoder_steps = Adam(decoder.parameters(), lr=3e-3)
    with watch(coder, coder_steps) as watched, watch(decoder, decoder_steps) as watched_too:
        for _ in range(epochs):
            for x, _ in loader(d.x, d.y, 64):
                loss = F.mse_loss(decoder(coder(x)), x)
                coder_steps.zero_grad()
                decoder_steps.zero_grad()
                loss.backward()
                if fault == "":
                    coder_steps.step()
                decoder_steps.step()
                watched.loss(loss)
                watched_too.loss(loss)
    return nn.Sequential(coder, decoder), r2(d.tx, d.tx)


CODER_PAIR = group(
    "coder-pair-loop",
    coder_pair_loop,
    fault(
        "one-of-two-steps",
        "step-order frozen-parameters parameters-not-in-optimizer",
        fault="one step",
        answers={"exact": True},
    ),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=2 * 30 * 17,
)


# Values of moves on a board of 6 x 6; the walk ends in a corner


def walks(rows: int = 3000, side: int = 6) -> tuple[Tensor, ...]:
    """States, moves, rewards, next states, ends of random moves, and the true values [S, 4]."""
    moves = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
    places = torch.stack([torch.arange(side).repeat_interleave(side), torch.arange(side * side)], 1)
    places[:, 1] %= side
    after = (places[:, None] + moves).clamp(0, side - 1)
    after = after[..., 0] * side + after[..., 1]
    goal = side * side - 1
    rewards = (after == goal).float()
    values = torch.zeros(side * side, 4)
    for _ in range(60):
        best = values.max(1).values
        best[goal] = 0.0
        values = rewards + 0.9 * best[after]
    drawn = torch.Generator().manual_seed(3)
    state = torch.randint(0, goal, (rows,), generator=drawn)
    move = torch.randint(0, 4, (rows,), generator=drawn)
    ends = after[state, move] == goal
    following = torch.where(ends, 0, after[state, move])  # a new walk begins
    return state, move, rewards[state, move], following, ends.float(), values


def corner_walk_loop(watch: Watch, fault: str = "", epochs: int = 15) -> tuple[nn.Module, Scorer]:
    state, move, reward, following, ends, values = walks()
    places = torch.eye(36)
    net = mlp(36, 64, 4)
    target = copy.deepcopy(net)
    optimizer = Adam(net.parameters(), lr=3e-3)
    steps = 0
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for rows in torch.randperm(len(state)).split(50):
                with torch.no_grad():
                    best = target(places[following[rows]]).max(1).values
                going_on = torch.ones(len(rows)) if fault == "no end" else 1 - ends[rows]
                wanted = reward[rows] + 0.9 * going_on * best
                q = net(places[state[rows]])
                if fault == "best move":
                    q = q.max(1).values
                else:
                    q = q.gather(1, move[rows, None]).squeeze(1)
                loss = F.smooth_l1_loss(q, wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
                steps += 1
                if steps % 30 == 0:
                    target.load_state_dict(net.state_dict())
    return net, r2(places[:-1], values[:-1])


CORNER_WALK = group(
    "corner-walk-loop",
    corner_walk_loop,
    fault("no-end-of-a-walk", "labels loss", fault="no end"),
    fault("value-of-the-best-move", "labels loss shape-pairing", fault="best move"),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=900,
)


# Guesses that are rewarded when right


def rewarded_guess_loop(
    watch: Watch, fault: str = "", epochs: int = 60
) -> tuple[nn.Module, Scorer]:
    d = data.wine().standardized()
    policy = mlp(13, 24, 3)
    optimizer = Adam(policy.parameters(), lr=1e-2)
    with watch(policy, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 27):
                dist = torch.distributions.Categorical(logits=policy(x))
                action = dist.sample()
                reward = (action == y).float()
                advantage = reward - reward.mean()
                if fault == "drawn again":
                    action = dist.sample()
                loss = -(dist.log_prob(action) * advantage).mean()
                if fault == "sign":
                    loss = -loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return policy, accuracy(d.tx, d.ty)


REWARDED_GUESS = group(
    "rewarded-guess-loop",
    rewarded_guess_loop,
    fault("drawn-once-more", "labels randomness loss shape-pairing", fault="drawn again"),
    fault("downhill-in-reward", "loss", fault="sign"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=240,
)


# Two pictures: the same digit?


class PictureDistance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(64, 64, 8)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        difference = self.body(left.flatten(1)) - self.body(right.flatten(1))
        return (difference.square().sum(1) + 1e-8).sqrt()


def distant_pairs_loop(watch: Watch, fault: str = "", epochs: int = 30) -> tuple[nn.Module, Scorer]:
    left, right = ordinary.digit_pairs()
    pairs = torch.utils.data.TensorDataset(left.x, right.x, left.y)
    model = PictureDistance()
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for a, b, same in torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True):
                far = model(a, b)
                if fault == "flipped":
                    same = 1 - same
                apart = -far.square() if fault == "no margin" else (1 - far).clamp(min=0).square()
                loss = (same * far.square() + (1 - same) * apart).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)

    def right_answers(far: Tensor, same: Tensor) -> float:
        return float(((far < 0.5) == (same > 0.5)).float().mean())

    return model, Scorer((left.tx, right.tx), left.ty, right_answers, 0.5)


DISTANT_PAIRS = group(
    "distant-pairs-loop",
    distant_pairs_loop,
    fault("one-means-different", "labels loss", fault="flipped"),
    fault("apart-without-a-margin", "loss exploding", fault="no margin"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=810,
)


# An average of the weights is what is used


def followed_average_loop(
    watch: Watch, fault: str = "", epochs: int = 20
) -> tuple[nn.Module, Scorer]:
    d = data.clusters(900)
    d = d.inputs(lambda x: 8 * x + 30)
    model = nn.Sequential(
        *(nn.BatchNorm1d(20), nn.Linear(20, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 4))
    )
    optimizer = Adam(model.parameters(), lr=5e-3)
    decay = 0.9999 if fault == "long memory" else 0.95
    average = copy.deepcopy(model)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32, drop_last=True):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
                with torch.no_grad():
                    for mean, new in zip(average.parameters(), model.parameters(), strict=True):
                        mean.lerp_(new, 1 - decay)
    if fault != "norms":
        for kept, last in zip(average.buffers(), model.buffers(), strict=True):
            kept.copy_(last)
    return average, accuracy(d.tx, d.ty)


FOLLOWED_AVERAGE = group(
    "followed-average-loop",
    followed_average_loop,
    fault("norms-left-behind", "normalization train-eval-mode", fault="norms"),
    fault("memory-longer-than-the-run", "too-few-steps schedule metric", fault="long memory"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=320,
)


# Mixed precision with a scaler


def mixed_heartbeat_loop(
    watch: Watch, fault: str = "", epochs: int = 20
) -> tuple[nn.Module, Scorer]:
    d = ordinary.heartbeats()
    mean, std = ordinary.scale_of(d.x, (0, 1, 2))
    d = d.inputs(lambda x: (x - mean) / std)
    net = nn.Sequential(
        *(nn.Conv1d(1, 8, 7, padding=3), nn.ReLU(), nn.MaxPool1d(4)),
        *(nn.Flatten(), nn.Linear(96, 3)),
    )
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = F.cross_entropy(net(x), y)
                scaler.scale(loss).backward()
                watched.loss(loss)
                if fault == "":
                    scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), 1e9 if "plain" in fault else 1.0)
                if fault == "plain step":
                    optimizer.step()
                else:
                    scaler.step(optimizer)
                    scaler.update()
    return net, accuracy(d.tx, d.ty)


MIXED_HEARTBEAT = group(
    "mixed-heartbeat-loop",
    mixed_heartbeat_loop,
    fault(
        "clipped-before-it-is-unscaled",
        "gradient-clipping precision step-order learning-rate-low",
        fault="clipped while scaled",
    ),
    fault(
        "scaled-and-stepped-plainly",
        "precision exploding learning-rate-high step-order",
        fault="plain step",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=280,
)


# Two questions to one body


class InkReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
        self.digit, self.ink = nn.Linear(48, 10), nn.Linear(48, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.digit(h), self.ink(h)


def digit_and_ink_loop(watch: Watch, fault: str = "", epochs: int = 25) -> tuple[nn.Module, Scorer]:
    d = ordinary.digit_rows().inputs(lambda x: x.flatten(1))
    ink = d.x.sum(1, keepdim=True)
    if fault != "per mille":
        ink = (ink - ink.mean()) / ink.std()
    else:
        ink = 1000 * ink  # of a pixel
    batches = torch.utils.data.TensorDataset(d.x, d.y, ink)
    model = InkReader()
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y, wanted in torch.utils.data.DataLoader(batches, batch_size=64, shuffle=True):
                digit, amount = model(x)
                loss, ink_loss = F.cross_entropy(digit, y), F.mse_loss(amount, wanted)
                optimizer.zero_grad()
                loss.backward(retain_graph=True)
                if fault == "cleared between":
                    optimizer.zero_grad()
                ink_loss.backward()
                optimizer.step()
                watched.loss(loss + ink_loss)
    return model, accuracy(d.tx, d.ty)


DIGIT_AND_INK = group(
    "digit-and-ink-loop",
    digit_and_ink_loop,
    fault(
        "cleared-between-two-losses",
        "zero-grad step-order",
        fault="cleared between",
        answers={"exact": True, "where": "digit", "unmoved": "digit.weight", "proof": "unmoved"},
    ),
    fault("ink-in-thousandths", "target-scale loss loss-reduction", fault="per mille"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=425,
)


# A rate is looked for first


def searched_rate_loop(watch: Watch, fault: str = "", epochs: int = 20) -> tuple[nn.Module, Scorer]:
    d = data.clusters(900)
    model = mlp(20, 48, 48, 4)
    start = copy.deepcopy(model.state_dict())
    optimizer = SGD(model.parameters(), lr=1e-4, momentum=0.9)
    for _ in range(6):  # from 0.0001 to 10
        for x, y in loader(d.x, d.y, 32):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            for settings in optimizer.param_groups:
                settings["lr"] *= 1.12
    if fault == "":
        model.load_state_dict(start)
    optimizer = SGD(model.parameters(), lr=0.03, momentum=0.9)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


SEARCHED_RATE = group(
    "searched-rate-loop",
    searched_rate_loop,
    fault(
        "from-the-weights-of-the-search",
        "initialization dead-units exploding learning-rate-high",
        fault="not put back",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=340,
)


# The weights are kept small by a term of the loss


def lean_weights_loop(watch: Watch, fault: str = "", epochs: int = 50) -> tuple[nn.Module, Scorer]:
    d = data.houses().standardized().targets_standardized()
    net = mlp(8, 32, 1)
    optimizer = Adam(net.parameters(), lr=5e-3)
    weight = 0.1 if fault else 1e-5
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                l1 = sum((p.abs().sum() for p in net.parameters()), torch.zeros(()))
                loss = F.mse_loss(net(x), y) + weight * l1
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, r2(d.tx, d.ty)


LEAN_WEIGHTS = group(
    "lean-weights-loop",
    lean_weights_loop,
    fault("a-heavy-penalty", "over-regularized loss", fault="heavy"),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=700,
)


# A warm-up


def long_warm_up_loop(watch: Watch, fault: str = "", epochs: int = 20) -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    net = mlp(64, 32, 10, last=nn.Softmax(1) if "softmax" in fault else None)
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    schedule = LinearLR(optimizer, start_factor=0.01, total_iters=100)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            if fault:
                schedule = LinearLR(optimizer, start_factor=0.01, total_iters=100)
            for x, y in loader(d.x, d.y, 64):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                schedule.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


LONG_WARM_UP = group(
    "long-warm-up-loop",
    long_warm_up_loop,
    fault("anew-with-each-epoch", "schedule learning-rate-low too-few-steps", fault="anew"),
    fault(
        "anew-and-behind-a-softmax",
        "schedule learning-rate-low too-few-steps output-activation loss",
        fault="anew, softmax",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=340,
)


SCRIPTS: tuple[TrainingScript, ...] = (
    *FORGER,
    *CODER_PAIR,
    *CORNER_WALK,
    *REWARDED_GUESS,
    *DISTANT_PAIRS,
    *FOLLOWED_AVERAGE,
    *MIXED_HEARTBEAT,
    *DIGIT_AND_INK,
    *SEARCHED_RATE,
    *LEAN_WEIGHTS,
    *LONG_WARM_UP,
)
