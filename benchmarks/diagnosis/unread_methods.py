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
from torch.optim.swa_utils import AveragedModel, update_bn

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis import ordinary_seq_data as ordinary
from benchmarks.diagnosis.healthy import healthy_script
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


def forger_loop(watch: Watch, fault: str = "", epochs: int = 110) -> tuple[nn.Module, Scorer]:
    d = posted_data.penguins().inputs(lambda x: x[:, :2]).standardized()  # bills
    noise = torch.randn(len(d.tx), 4, generator=torch.Generator().manual_seed(1))
    generator, critic = mlp(4, 32, 32, 2), mlp(2, 32, 32, 1, act=lambda: nn.LeakyReLU(0.2))
    made_by = Adam(generator.parameters(), lr=6e-3, betas=(0.5, 0.999))
    told_by = Adam(critic.parameters(), lr=6e-3, betas=(0.5, 0.999))
    with watch(generator, made_by) as watched, watch(critic, told_by) as watched_critic:
        for _ in range(epochs):
            for real, _ in loader(d.x, d.y, 66, drop_last=True):
                ones, zeros = torch.ones(66, 1), torch.zeros(66, 1)
                fake = generator(torch.randn(66, 4))
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
    steps=2 * 110 * 3,
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
    if "per mille" not in fault:
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
                if "cleared between" in fault:
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
    fault(
        "cleared-between-and-ink-in-thousandths",
        "zero-grad step-order target-scale loss loss-reduction",
        fault="cleared between, per mille",
        answers={"exact": True, "where": "digit", "unmoved": "digit.weight", "proof": "unmoved"},
    ),
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
    fault(
        "a-heavy-penalty",
        "over-regularized loss",
        fault="heavy",
        answers={"remedy": ("formula", "a penalty of 1e-5")},
    ),
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


# Healthy ones: four plain, six odd


def learns_from_a_teacher_loop(watch: Watch, epochs: int = 20) -> tuple[nn.Module, Scorer]:
    """A small network answers as a large one does, and as the labels say."""
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    teacher, student = mlp(64, 128, 10), mlp(64, 16, 10)
    teaching = Adam(teacher.parameters(), lr=3e-3)
    for _ in range(10):
        for x, y in loader(d.x, d.y, 64):
            teaching.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            teaching.step()
    teacher.eval()
    optimizer = Adam(student.parameters(), lr=5e-3)
    with watch(student, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 64):
                out = student(x)
                with torch.no_grad():
                    soft = F.softmax(teacher(x) / 2, 1)
                distilled = F.kl_div(F.log_softmax(out / 2, 1), soft, reduction="batchmean")
                loss = 0.5 * F.cross_entropy(out, y) + 0.5 * 4 * distilled
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return student, accuracy(d.tx, d.ty)


def follows_slowly_loop(watch: Watch, epochs: int = 14) -> tuple[nn.Module, Scorer]:
    """Values of moves, whose target network follows by a twentieth in each step."""
    state, move, reward, following, ends, values = walks()
    places = torch.eye(36)
    net = mlp(36, 64, 4)
    target = copy.deepcopy(net)
    optimizer = Adam(net.parameters(), lr=2e-3)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for rows in torch.randperm(len(state)).split(60):
                with torch.no_grad():
                    best = target(places[following[rows]]).max(1).values
                    wanted = reward[rows] + 0.9 * (1 - ends[rows]) * best
                q = net(places[state[rows]]).gather(1, move[rows, None]).squeeze(1)
                loss = F.mse_loss(q, wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
                with torch.no_grad():
                    for slow, new in zip(target.parameters(), net.parameters(), strict=True):
                        slow.lerp_(new, 0.05)
    return net, r2(places[:-1], values[:-1])


def cleaned_heartbeats_loop(watch: Watch, epochs: int = 40) -> tuple[nn.Module, Scorer]:
    """Beats with noise on them go in, and come out without it."""
    d = ordinary.heartbeats()
    mean, std = ordinary.scale_of(d.x, (0, 1, 2))
    d = d.inputs(lambda x: ((x - mean) / std).flatten(1))
    model = mlp(48, 64, 12, 64, 48)
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            model.train()
            for x, _ in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x + 0.3 * torch.randn_like(x)), x)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            model.eval()
            with torch.no_grad():
                F.mse_loss(model(d.vx), d.vx)
    return model, r2(d.tx, d.tx)


def mean_of_late_weights_loop(watch: Watch, epochs: int = 24) -> tuple[nn.Module, Scorer]:
    """The last epochs are averaged, and the norms are measured anew."""
    d = data.clusters(900)
    net = nn.Sequential(nn.Linear(20, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 4))
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    average = AveragedModel(net)
    with watch(net, optimizer) as watched:
        for epoch in range(epochs):
            for x, y in loader(d.x, d.y, 32, drop_last=True):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            if epoch >= epochs // 2:
                average.update_parameters(net)
    update_bn(loader(d.x, d.y, 32), average)
    return average.module, accuracy(d.tx, d.ty)


def hardest_half_loop(watch: Watch, epochs: int = 25) -> tuple[nn.Module, Scorer]:
    """Only the worse half of each batch counts, so that the loss stays high."""
    d = data.rings()
    net = mlp(2, 32, 32, 3)
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 24):
                losses = F.cross_entropy(net(x), y, reduction="none")
                loss = losses.topk(len(y) // 2).values.mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def body_thaws_loop(watch: Watch, epochs: int = 12) -> tuple[nn.Module, Scorer]:
    """First the head alone, then all of it with a tenth of the rate for the body."""
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    body, head = nn.Sequential(nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 10)
    model = nn.Sequential(body, head)
    for thawed in (False, True):
        body.requires_grad_(thawed)
        groups = [{"params": head.parameters()}]
        if thawed:
            groups += [{"params": body.parameters(), "lr": 1e-3}]
        optimizer = Adam(groups, lr=1e-2)
        with watch(model, optimizer) as watched:
            for _ in range(epochs):
                for x, y in loader(d.x, d.y, 64):
                    optimizer.zero_grad()
                    loss = F.cross_entropy(model(x), y)
                    loss.backward()
                    optimizer.step()
                    watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


def actor_beside_critic_loop(watch: Watch, epochs: int = 40) -> tuple[nn.Module, Scorer]:
    """The loss says little of how well it goes: a reward is to grow."""
    d = data.iris().standardized()
    actor, critic = mlp(4, 24, 3), mlp(4, 24, 1)
    model = nn.ModuleList([actor, critic])
    optimizer = Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 15):
                dist = torch.distributions.Categorical(logits=actor(x))
                action, value = dist.sample(), critic(x).squeeze(1)
                reward = torch.where(action == y, 1.0, -1.0)
                advantage = (reward - value).detach()
                loss = -(dist.log_prob(action) * advantage).mean()
                loss = loss + 0.5 * F.mse_loss(value, reward) - 0.01 * dist.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return actor, accuracy(d.tx, d.ty)


def brain_float_loop(watch: Watch, epochs: int = 12) -> tuple[nn.Module, Scorer]:
    """Mixed precision without a scaler: bfloat16 needs none."""
    d = data.shapes()
    net = nn.Sequential(
        *(nn.Conv2d(1, 12, 5), nn.ReLU(), nn.MaxPool2d(2)), *(nn.Flatten(), nn.Linear(192, 4))
    )
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def an_optimizer_for_each_loop(watch: Watch, epochs: int = 12) -> tuple[nn.Module, Scorer]:
    """Words by plain steps with a large rate, the rest by Adam."""
    d = ordinary.topics()
    words = nn.EmbeddingBag(120, 16)
    rest = mlp(16, 16, 4)
    by_sgd, by_adam = SGD(words.parameters(), lr=2.0), Adam(rest.parameters(), lr=5e-3)
    with watch(words, by_sgd) as watched, watch(rest, by_adam) as watched_too:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                loss = F.cross_entropy(rest(words(x)), y)
                by_sgd.zero_grad()
                by_adam.zero_grad()
                loss.backward()
                by_sgd.step()
                by_adam.step()
                watched.loss(loss)
                watched_too.loss(loss)
    return nn.Sequential(words, rest), accuracy(d.tx, d.ty)


def agrees_with_its_past_loop(watch: Watch, epochs: int = 30) -> tuple[nn.Module, Scorer]:
    """Forty labels; elsewhere the network is to answer under noise as its own average does."""
    d = data.moons(900)
    x, y, more = d.x[:40], d.y[:40], d.x[40:]
    net = mlp(2, 32, 32, 2)
    past = copy.deepcopy(net).requires_grad_(False)
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for epoch in range(epochs):
            for rows in torch.randperm(len(more)).split(50):
                wanted = F.softmax(past(more[rows]), 1)
                guess = F.softmax(net(more[rows] + 0.05 * torch.randn(len(rows), 2)), 1)
                agreement = min(1.0, epoch / 10) * F.mse_loss(guess, wanted)
                loss = F.cross_entropy(net(x), y) + agreement
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
                for slow, new in zip(past.parameters(), net.parameters(), strict=True):
                    slow.lerp_(new.detach(), 0.02)
    return net, accuracy(d.tx, d.ty)


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
    healthy_script(learns_from_a_teacher_loop, "classification", "mlp", kind="loop", steps=340),
    healthy_script(follows_slowly_loop, "regression", "mlp", kind="loop", steps=700),
    healthy_script(cleaned_heartbeats_loop, "generation", "mlp", kind="loop", steps=560),
    healthy_script(mean_of_late_weights_loop, "classification", "mlp", kind="loop", steps=384),
    healthy_script(hardest_half_loop, "classification", "mlp", kind="loop", steps=375),
    healthy_script(body_thaws_loop, "classification", "mlp", kind="loop", steps=408),
    healthy_script(actor_beside_critic_loop, "classification", "mlp", kind="loop", steps=240),
    healthy_script(brain_float_loop, "classification", "cnn", kind="loop", steps=168),
    healthy_script(an_optimizer_for_each_loop, "classification", "mlp", kind="loop", steps=408),
    healthy_script(agrees_with_its_past_loop, "classification", "mlp", kind="loop", steps=300),
)
