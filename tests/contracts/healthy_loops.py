"""Training loops without a fault: nothing above a note may be found in `HEALTHY`.

Each loop is given `ravine.watch`, or what stands for it, and returns the tensors that it trained.
"""

import contextlib
import copy
import math
from functools import partial

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from training_loops import (
    STEPS,
    Stepwise,
    batches,
    classes,
    critic_and_maker,
    dropping,
    ensemble_of,
    freeze_early,
    mlp,
    numbers,
    on_a_plateau,
    outliers,
    over_time,
    pairs_of_examples,
    sampler_of_few_rows,
    seeded_in_the_loop,
    sgd,
    teach,
    two_parts,
)


def mistyped(watch, *, limit=math.inf, most=math.inf, act=nn.Tanh):
    """A few targets are a thousand times too large; clipping or skipped steps ignore them."""
    x, y = numbers(600)
    y[::120] = 1000 * y[::120].abs()
    model = nn.Sequential(nn.Linear(8, 32), act(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for at in torch.randperm(600).split(20):
                loss = watched.loss(F.mse_loss(model(x[at])[:, 0], y[at]))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), limit)
                if float(loss.detach()) < most:
                    optimizer.step()
    return list(model.parameters())


def recomputed(watch):
    """The states of the forward pass are set again in the backward pass."""
    drop = nn.Dropout(0.5)

    def again(x):
        return torch.utils.checkpoint.checkpoint(lambda a: drop(model(a)), x, use_reentrant=False)

    model = mlp()
    return teach(watch, model, sgd(model), forward=again)


def evaluated_from_a_seed(watch, context=torch.random.fork_rng):
    def evaluate(model, x):
        with context(), torch.no_grad():
            torch.manual_seed(0)
            model(x + torch.randn_like(x))

    return dropping(watch, lambda i: None, p=0.0, evaluate=evaluate)


class MadeFromSeeds(torch.utils.data.Dataset):
    """Each example is drawn from its own seed."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        torch.manual_seed(index)
        x = torch.randn(8)
        return x, x[:3].argmax()


def examples_from_seeds(watch):
    model = mlp()
    optimizer = sgd(model)
    loader = torch.utils.data.DataLoader(MadeFromSeeds(), batch_size=16)
    with watch(model, optimizer) as watched:
        for _ in range(STEPS):
            for a, b in loader:
                optimizer.zero_grad()
                watched.loss(F.cross_entropy(model(a), b)).backward()
                optimizer.step()
    return list(model.parameters())


def same_examples_made_anew(watch):
    def make():
        torch.manual_seed(0)
        return classes()

    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for _ in range(STEPS):
            x, y = make()
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(x), y)).backward()
            optimizer.step()
    return list(model.parameters())


def layers_in_turns(watch):
    """The last layers stand still first; at the end they do again."""
    model = mlp()

    def turn(i):
        model[:2].requires_grad_(i // 10 % 2 == 1)
        model[2:].requires_grad_(i // 10 % 2 == 0)

    model[2:].requires_grad_(False)
    return teach(watch, model, sgd(model), steps=250, after=turn)


def few_levels(watch):
    """Doses of five levels, each in six columns."""
    x = torch.tensor([0.1, 0.5, 1.0, 2.5, 5.0])[torch.randint(5, (64,))][:, None].expand(-1, 6)
    model = mlp(features=6)
    return teach(watch, model, sgd(model), data=(x.contiguous(), torch.randint(3, (64,))))


def shared_heads(watch):
    """One head for two depths, in a list as long as these."""
    body, head = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)]), nn.Linear(8, 3)
    model = nn.ModuleDict({"body": body, "heads": nn.ModuleList([head, head])})

    def forward(x):
        first = body[0](x).relu()
        return model["heads"][0](first) + model["heads"][1](body[1](first).relu())

    return teach(watch, model, sgd(model), forward=forward)


def recovers_from_zeros(watch):
    """Weights that begin at 0 and meet large inputs at times."""
    x, y = numbers(640)
    x = torch.where((torch.arange(640) % 320 < 32)[:, None], 20 * x, x)
    model = nn.Linear(8, 1)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    return teach(watch, model, optimizer, data=(x, x[:, :1]), loss=F.mse_loss, steps=600)


def kept_statistics(watch):
    """Fine-tuning with the statistics that batch norm has learned before."""
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    for _ in range(20):
        model(classes()[0])
    return teach(watch, model.eval(), sgd(model))


def plain(watch):
    model = mlp()
    return teach(watch, model, sgd(model))


def plain_functional(watch):
    first, second = (nn.Parameter(torch.randn(8, 16) * 0.3), nn.Parameter(torch.randn(16, 3) * 0.3))
    model = nn.ParameterList([first, second])
    return teach(watch, model, sgd(model), forward=lambda x: (x @ first).relu() @ second)


def accumulation(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), 4 * STEPS)):
            (watched.loss(F.cross_entropy(model(a), b)) / 4).backward()
            if i % 4 == 3:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    return list(model.parameters())


def zeros_kept(watch):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), foreach=True)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            optimizer.zero_grad(set_to_none=False)
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()
    return list(model.parameters())


def fused(watch):
    model = mlp(act=nn.GELU)
    return teach(watch, model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True))


def dropout_and_batch_norm(watch):
    model = nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.4), nn.Linear(32, 3)
    )
    x, y = classes()
    seen = []

    def validate(i):
        if i % 8 == 7:
            model.eval()
            with torch.no_grad():
                seen.append(F.cross_entropy(model(x), y))
                seen.append(F.cross_entropy(model(x[:8]), y[:8]))
            model.train()

    weights = teach(watch, model, sgd(model, momentum=0.9), after=validate)
    return [*weights, *model.buffers(), *seen]


def convolutions(watch):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 9, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
    x, y = classes(features=64)
    return teach(
        watch,
        model,
        sgd(model),
        data=(x.view(-1, 1, 8, 8), y),
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
    )


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.into, self.rnn, self.out = (
            nn.Linear(2, 8),
            kind(8, 16, batch_first=True),
            nn.Linear(16, 3),
        )

    def forward(self, x):
        return self.out(self.rnn(self.into(x.view(len(x), 4, 2)))[0][:, -1])


def recurrent(watch, kind=nn.GRU):
    model = Recurrent(kind)

    def clip(i):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    return teach(watch, model, torch.optim.RMSprop(model.parameters(), lr=1e-3), before_step=clip)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.into = nn.Linear(2, 16)
        self.body = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.body(self.into(x.view(len(x), 4, 2))).mean(dim=1))


def attention(watch):
    model = Attending()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    warm = LambdaLR(optimizer, lambda i: min(1.0, i / 10))
    x, y = classes()
    seen = []

    def validate(i):
        warm.step()
        if i % 10 == 9:
            model.eval()
            with torch.no_grad():
                seen.append(model(x))
            model.train()

    return [*teach(watch, model, optimizer, data=(x, y), after=validate), *seen]


def closure(watch):
    x, y = numbers()
    model = mlp(1, act=nn.Tanh)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    with watch(model, optimizer) as watched:
        for _ in range(12):

            def evaluate():
                optimizer.zero_grad()
                value = watched.loss(F.mse_loss(model(x), y[:, None]))
                value.backward()
                return value

            optimizer.step(evaluate)
    return list(model.parameters())


def tied(watch):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.out = nn.Embedding(12, 8), nn.Linear(8, 12, bias=False)
            self.out.weight = self.table.weight

        def forward(self, x):
            return self.out(torch.tanh(self.table(x)))

    model = Tied()
    at = torch.randint(0, 12, (64,))
    return teach(watch, model, torch.optim.Adam(model.parameters()), data=(at, (at + 1) % 12))


def pretrained():
    model = mlp()
    for p in model.parameters():
        p.data.mul_(2)  # as after training: not as initialized
    return model


def frozen_backbone(watch):
    model = pretrained()
    model[:2].requires_grad_(False)
    return teach(watch, model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad]))


def trained_backbone_left_out(watch):
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(2)  # as after training: not as initialized
        model[2].weight.mul_(2)
    return teach(watch, model, torch.optim.SGD(model[4].parameters(), lr=0.1))


def frozen_normalization(watch):
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    for p in model[1].parameters():
        p.requires_grad_(False)
    model.eval()
    return teach(watch, model, sgd(model))


def two_optimizers(watch):
    model = mlp()
    one, two = (
        torch.optim.SGD(model[0].parameters(), lr=0.05),
        torch.optim.Adam(model[2:].parameters()),
    )
    with watch(model, [one, two]) as watched:
        for a, b in batches(*classes(), STEPS):
            one.zero_grad()
            two.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            one.step()
            two.step()
    return list(model.parameters())


def optimizer_elsewhere(watch):
    model = mlp()
    one, two = (
        torch.optim.SGD(model[0].parameters(), lr=0.05),
        torch.optim.Adam(model[2:].parameters()),
    )
    with watch(model, one) as watched:
        for i, (a, b) in enumerate(batches(*classes(), STEPS)):
            model.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            one.step()
            if i % 5 == 4:
                two.step()
    return list(model.parameters())


def adversarial(watch, apart=False):
    made, judge = mlp(2, 4), mlp(1, 2)
    first, second = (
        torch.optim.Adam(made.parameters(), lr=1e-3),
        torch.optim.Adam(judge.parameters(), lr=1e-3),
    )
    real = torch.randn(64, 2) * 0.5 + 1
    entropy = F.binary_cross_entropy_with_logits
    both = nn.ModuleList([made, judge])
    with watch(made, first) if apart else watch(both, [first, second]) as watched:
        for i in range(STEPS):
            with torch.no_grad():
                fake = made(torch.randn(32, 4))
            second.zero_grad()
            right, wrong = judge(real[:32]), judge(fake)
            (
                entropy(right, torch.ones_like(right)) + entropy(wrong, torch.zeros_like(wrong))
            ).backward()
            second.step()
            if i % 3 == 2:
                first.zero_grad()
                out = judge(made(torch.randn(32, 4)))
                watched.loss(
                    entropy(out, torch.ones_like(out))
                ).backward()  # also adds to the judge's gradients
                first.step()
    return list(both.parameters())


def alternating_heads(watch):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3), nn.Linear(16, 3)

        def forward(self, x, first):
            return (self.a if first else self.b)(self.body(x).relu())

    model = Two()
    optimizer = torch.optim.Adam(model.parameters())
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), STEPS)):
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a, i % 2 == 0), b)).backward()
            optimizer.step()
    return list(model.parameters())


def restarts(watch):
    model = mlp()
    optimizer = sgd(model)
    scheduler = CosineAnnealingWarmRestarts(optimizer, 10)
    return teach(watch, model, optimizer, steps=50, after=lambda i: scheduler.step())


def one_cycle(watch):
    model = mlp()
    optimizer = sgd(model, momentum=0.9)
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=100)
    return teach(watch, model, optimizer, steps=100, after=lambda i: scheduler.step())


def cosine_by_epoch(watch):
    model = mlp()
    optimizer = sgd(model)
    scheduler = CosineAnnealingLR(optimizer, T_max=10)
    return teach(
        watch, model, optimizer, steps=50, after=lambda i: scheduler.step() if i % 5 == 4 else None
    )


def by_epoch(watch, scheduler):
    """A scheduler that is rightly stepped once an epoch."""
    model = mlp()
    optimizer = sgd(model)
    made = scheduler(optimizer)
    return teach(
        watch, model, optimizer, steps=60, after=lambda i: made.step() if i % 5 == 4 else None
    )


def warm_up_by_epoch(watch):
    """Three epochs of warm-up, and a cosine over the others."""
    return by_epoch(
        watch,
        lambda o: SequentialLR(
            o, [LinearLR(o, 0.1, total_iters=3), CosineAnnealingLR(o, T_max=9)], milestones=[3]
        ),
    )


def stopped_early(watch):
    return by_epoch(watch, lambda o: CosineAnnealingLR(o, T_max=300))


def two_phases(watch):
    """The optimizer of the first phase is left alone, and its scheduler too."""
    model = mlp()
    first = sgd(model)
    scheduler = StepLR(first, 2)
    x, y = classes()
    for _ in range(4):
        F.cross_entropy(model(x), y).backward()
        first.step()
        first.zero_grad()
        scheduler.step()
    return [*teach(watch, model, sgd(model)), torch.tensor(scheduler.last_epoch)]


def cleared_on_purpose(watch, why):
    """zero_grad between two backward passes of a step, where each gradient has its use."""
    model = mlp(3, act=nn.Tanh)
    own, optimizer = list(model.parameters()), torch.optim.Adam(model.parameters())
    with watch(model, optimizer) as watched:
        for x, y in batches(*classes(), STEPS):
            optimizer.zero_grad()
            probed = x.clone().requires_grad_(why == "attack")
            out = model(probed)
            first, second = watched.loss(F.cross_entropy(out, y)), watched.loss(out.square().mean())
            first.backward(retain_graph=True)
            grads = [p.grad.clone() for p in own]
            optimizer.zero_grad()
            if why == "attack":  # adversarial examples
                second = F.cross_entropy(model(x + 0.1 * probed.grad.sign()), y)
            elif why == "sharpness":  # at the weights a step uphill
                for p, g in zip(own, grads, strict=True):
                    p.data.add_(g)
                second = F.cross_entropy(model(x), y)
            elif why == "norm":  # for a curve of the parts
                second = watched.loss(first + 0.1 * second)
            second.backward()
            for p, g in zip(own, grads, strict=True):
                if why == "sharpness":
                    p.data.sub_(g)
                elif why == "conflict":  # of two losses, merged by hand (Yu et al. 2020)
                    p.grad += g - p.grad * torch.clamp_max(p.grad.mul(g).sum(), 0)
            optimizer.step()
    return own


class Quantized(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.body, self.head, self.way = nn.Linear(8, 32), nn.Linear(32, 3), way
        self.scale = nn.Parameter(torch.tensor(0.25))

    def forward(self, x):
        x = self.body(x)
        if self.way == "passed straight through":  # Bengio et al. 2013
            x = x + (x.round() - x).detach()
        elif self.way == "roots":
            x = x.sign() * (x.abs() + 1e-3).sqrt()
        elif self.way == "scale learned":  # Esser et al. 2020
            x = x / self.scale
            x = self.scale * (x + (x.round() - x).detach())
        elif self.way == "both":
            x = x + self.scale * x.round()
        return self.head(x)


def quantized(watch, way):
    model = Quantized(way)
    return teach(watch, model, sgd(model))


def few_steps(watch, steps, lr):
    """The gradient of all examples in eight parts: enough steps, or at a rate that needs few."""
    x, y = classes(128)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with watch(model, optimizer) as watched:
        for _ in range(steps):
            for a, b in batches(x, y, 8, 16):
                (watched.loss(F.cross_entropy(model(a), b)) / 8).backward()
            optimizer.step()
            optimizer.zero_grad()
    return list(model.parameters())


def held_in_a_range(watch, low, high):
    """No negative weights; or those of a binary network (Courbariaux et al. 2015)."""
    model = mlp()

    def hold(_):
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(low, high)

    return teach(watch, model, sgd(model), after=hold)


def dropped_twice(watch):
    """The same examples twice through dropout should give like features (Gao et al. 2021)."""
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 8))

    def loss(out, _):
        return F.cross_entropy(out[0] @ out[1].T, torch.arange(len(out[0])))

    return teach(watch, model, sgd(model), loss=loss, forward=lambda x: [model(x) for _ in "ab"])


def called_for_the_score(watch):
    """A second call for the number of right answers, before the backward pass."""
    model = mlp()
    scores = []

    def forward(x):
        out = model(x)
        scores.append(model(x).argmax(1))
        return out

    return teach(watch, model, sgd(model), forward=forward)


def growing_targets(watch):
    """The loss grows from next to nothing, as that of values of moves does."""
    model = mlp(1)
    grown = iter(range(10_000))

    def loss(out, y):
        return (out[:, 0] - 1e-3 * next(grown) * y.float()).square().mean()

    return teach(watch, model, sgd(model, 0.01), loss=loss, steps=300)


def norm_logged(watch):
    """An infinite limit only measures the norm, here after the step."""
    model = mlp()
    norms = []

    def log(i):
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), float("inf")))

    return [*teach(watch, model, sgd(model), after=log), *norms]


def game_with_clipping(watch):
    """Two optimizers of one watch, each with a clipping of its own."""
    model = nn.ModuleDict({"made": mlp(2, 4), "judge": mlp(1, 2)})
    made, judge = model["made"], model["judge"]
    first, second = sgd(made, 1e-3), sgd(judge, 1e-3)
    with watch(model, [first, second]) as watched:
        for _ in range(STEPS):
            second.zero_grad()
            watched.loss(judge(made(torch.randn(32, 4)).detach()).square().mean()).backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 0.1)
            second.step()
            first.zero_grad()
            watched.loss((1 - judge(made(torch.randn(32, 4)))).square().mean()).backward()
            nn.utils.clip_grad_norm_(made.parameters(), 0.1)
            first.step()
    return list(model.parameters())


def zero_last_layer(watch):
    model = mlp()
    nn.init.zeros_(model[4].weight)
    nn.init.zeros_(model[4].bias)
    return teach(watch, model, sgd(model))


def bottleneck(watch):
    model = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8))
    x, _ = numbers()
    return teach(watch, model, torch.optim.Adam(model.parameters()), data=(x, x), loss=F.mse_loss)


def sparse_units(watch):
    model = mlp()
    with torch.no_grad():
        model[0].bias.sub_(0.7)
        model[2].bias.sub_(0.3)
    return teach(watch, model, sgd(model))


def told_after(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            value = F.cross_entropy(model(a), b)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            watched.loss(value.item())
    return list(model.parameters())


def told_detached(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            value = F.cross_entropy(model(a), b)
            watched.loss(value.detach())
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return list(model.parameters())


def memorized(watch):
    model = mlp(width=64)
    return teach(
        watch, model, torch.optim.Adam(model.parameters(), lr=0.02), data=classes(32), steps=260
    )


def brier(watch):
    x, y = classes()
    model = nn.Sequential(mlp(), nn.Softmax(dim=1))
    return teach(watch, model, sgd(model), data=(x, F.one_hot(y, 3).float()), loss=F.mse_loss)


def pairwise(watch):
    model = mlp(1)

    def ranked(o, y):
        apart, order = o - o.T, (y[:, None] - y[None]).sign()
        return (1 - apart * order).relu().mean()

    return teach(watch, model, sgd(model), data=numbers(), loss=ranked)


def checkpointed(watch):
    model = nn.Sequential(
        nn.Linear(8, 32),
        nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.3), nn.ReLU()),
        nn.Linear(32, 3),
    )

    def again(x):
        hidden = model[0](x).relu()
        return model[2](torch.utils.checkpoint.checkpoint(model[1], hidden, use_reentrant=False))

    return teach(watch, model, sgd(model), forward=again)


def clipped_by_adam(watch):
    model = mlp()

    def clip(i):
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)

    return teach(watch, model, torch.optim.Adam(model.parameters()), before_step=clip)


class Residual(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.a, self.b = (nn.Conv2d(features, features, 3, padding=1, bias=False) for _ in range(2))
        self.m, self.n = nn.BatchNorm2d(features), nn.BatchNorm2d(features)
        nn.init.zeros_(self.n.weight)

    def forward(self, x):
        return (x + self.n(self.b(self.m(self.a(x)).relu()))).relu()


def residual(watch):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Residual(8),
        Residual(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    x, y = classes(features=64)
    return teach(
        watch, model, sgd(model, 0.1, momentum=0.9, nesterov=True), data=(x.view(-1, 1, 8, 8), y)
    )


def separable(watch):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.ReLU6(),
        nn.Conv2d(16, 4, 1),
        nn.Conv2d(4, 24, 1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 3),
    )
    x, y = classes(features=64)
    return teach(watch, model, sgd(model), data=(x.view(-1, 1, 8, 8), y))


def margin_met(watch):
    x, _ = numbers(32)
    model = mlp(1)
    return teach(
        watch,
        model,
        sgd(model, 0.1),
        data=(5 * x, x[:, 0].sign()),
        steps=150,
        loss=lambda o, y: (1 - o[:, 0] * y).relu().mean(),
    )


def sparse_gradients(watch):
    model = nn.Sequential(nn.EmbeddingBag(50, 8, sparse=True), nn.Linear(8, 3))
    x = torch.randint(0, 50, (64, 5))
    return teach(watch, model, sgd(model), data=(x, x[:, 0] % 3))


def sharpness_aware(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            watched.loss(F.cross_entropy(model(a), b)).backward()
            weights = list(model.parameters())
            moves = [0.01 * p.grad for p in weights]
            with torch.no_grad():
                torch._foreach_add_(weights, moves)  # type: ignore[attr-defined]
            optimizer.zero_grad()
            F.cross_entropy(model(a), b).backward()
            with torch.no_grad():
                torch._foreach_sub_(weights, moves)  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.zero_grad()
    return list(model.parameters())


def own_labels(watch):
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            with torch.no_grad():
                guessed = model(a).argmax(dim=1)
            noisy = a + 0.1 * torch.randn_like(a)
            optimizer.zero_grad()
            watched.loss(
                F.cross_entropy(model(a), b) + F.cross_entropy(model(noisy), guessed)
            ).backward()
            optimizer.step()
    return list(model.parameters())


def thawed(watch):
    model = pretrained()
    model[:2].requires_grad_(False)

    def thaw(i):
        if i == 12:
            model.requires_grad_(True)

    return teach(watch, model, sgd(model), after=thaw, steps=60)


def low_rank_adapter(watch):
    model = nn.ModuleDict(
        {"base": pretrained(), "a": nn.Linear(8, 2, bias=False), "b": nn.Linear(2, 32, bias=False)}
    )
    model["base"].requires_grad_(False)
    nn.init.zeros_(model["b"].weight)
    optimizer = torch.optim.Adam([*model["a"].parameters(), *model["b"].parameters()], lr=1e-2)

    def forward(x):
        return model["base"][1:](model["base"][0](x) + model["b"](model["a"](x)))

    return teach(watch, model, optimizer, forward=forward)


def one_at_a_time(watch):
    x, y = numbers(150)
    model = mlp(1)
    optimizer = sgd(model, 0.01)
    with watch(model, optimizer) as watched:
        for a, b in zip(x, y, strict=True):
            optimizer.zero_grad()
            watched.loss((model(a[None])[0, 0] - b).square()).backward()
            optimizer.step()
    return list(model.parameters())


def game(watch):
    """Two optimizers in one watch; the critic's weights are cut to a range after each step."""
    model = nn.ModuleDict(
        {
            "made": nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 2)),
            "critic": nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1)),
        }
    )
    made, critic = model["made"], model["critic"]
    fool, judge = sgd(made, 1e-2), torch.optim.RMSprop(critic.parameters(), lr=5e-4)
    with watch(model, [fool, judge]) as watched:
        for _ in range(3 * STEPS):
            real, given = torch.randn(32, 2) * 0.4 + 1, torch.randn(32, 4)
            judge.zero_grad()
            watched.loss(critic(made(given).detach()).mean() - critic(real).mean()).backward()
            judge.step()
            for p in critic.parameters():
                p.data.clamp_(-0.05, 0.05)
            fool.zero_grad()
            watched.loss(-critic(made(given)).mean()).backward()
            fool.step()
    return list(model.parameters())


def averaged(watch):
    """The running average is put in for validation, and the weights are put back after it."""
    model = mlp()
    average = {n: v.clone() for n, v in model.state_dict().items()}
    x, y = classes()
    seen = []

    def validate(i):
        for n, v in model.state_dict().items():
            average[n].lerp_(v, 0.1)
        if i % 7 == 6:
            own = copy.deepcopy(model.state_dict())
            model.load_state_dict(average)
            with torch.no_grad():
                seen.append(F.cross_entropy(model(x), y))
            model.load_state_dict(own)

    return [*teach(watch, model, sgd(model), data=(x, y), steps=60, after=validate), *seen]


def scaled(watch, fused=False):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu")
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), 3 * STEPS)):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = watched.loss(F.cross_entropy(model(a), b))
            (
                scaler.scale(loss) * (float("inf") if i < 12 else 1.0)
            ).backward()  # skipped, until the scale fits
            if not fused:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    return list(model.parameters())


def few_bits(watch):
    model = nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3)
    )

    def forward(x):
        return model(x).float()

    x, y = classes()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = teach(
            watch, model, sgd(model, 0.1, momentum=0.9), data=(x, y), forward=forward, steps=60
        )
    return [*weights, *model.buffers()]


def stepwise(watch):
    model = Stepwise(False)
    return teach(watch, model, torch.optim.Adam(model.parameters()))


def in_pieces(watch):
    """Backpropagation through time in pieces, all for one step."""
    model = nn.ModuleDict({"cell": nn.GRU(2, 16, batch_first=True), "out": nn.Linear(16, 3)})
    optimizer = torch.optim.Adam(model.parameters())
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(64, 16), STEPS):
            optimizer.zero_grad()
            state = None
            for piece in a.view(len(a), 8, 2).split(2, dim=1):
                state = None if state is None else state.detach()
                made, state = model["cell"](piece, state)
                watched.loss(F.cross_entropy(model["out"](made[:, -1]), b) / 4).backward()
            optimizer.step()
    return list(model.parameters())


def all_examples(watch, anew=False):
    """All examples at every step; `anew`: converted again at each."""
    x, y = classes(40)
    wide = x.double()
    model = mlp()
    return teach(
        watch,
        model,
        sgd(model),
        data=(x, y),
        forward=lambda _: model(wide.float() if anew else x),
        loss=lambda o, _: F.cross_entropy(o, y),
        steps=60,
    )


def one_batch(watch):
    """Can it learn one batch by heart? A usual test."""
    a, b = next(
        iter(
            torch.utils.data.DataLoader(
                torch.utils.data.TensorDataset(*classes(256)), batch_size=16
            )
        )
    )
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(80):
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()
    return list(model.parameters())


def looked_ahead(watch):
    """Every five steps the weights go half the way back to where they were."""
    model = mlp()
    slow = [p.detach().clone() for p in model.parameters()]

    def ahead(i):
        if i % 5 == 4:
            with torch.no_grad():
                for s, p in zip(slow, model.parameters(), strict=True):
                    s.lerp_(p, 0.5)
                    p.copy_(s)

    return teach(watch, model, torch.optim.Adam(model.parameters()), steps=60, after=ahead)


def from_large_gradients(watch):
    """The loss falls by orders of magnitude: the second moments still know of the first
    gradients.
    """
    x, y = numbers()
    model = mlp(1)
    return teach(
        watch,
        model,
        torch.optim.Adam(model.parameters(), lr=1e-2),
        data=(x, 30 * y[:, None]),
        loss=F.mse_loss,
        steps=300,
    )


def gradual_rates(watch):
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(2)  # trained before
    groups = [{"params": model[:2].parameters(), "lr": 0.0}, {"params": model[2:].parameters()}]
    return teach(watch, model, torch.optim.SGD(groups, lr=0.05))


class Fourier(nn.Module):
    """Random features that are fixed on purpose (Tancik et al. 2020), and places of columns."""

    def __init__(self):
        super().__init__()
        self.waves = nn.Parameter(torch.randn(8, 16), requires_grad=False)
        self.register_buffer("places", torch.rand(8))

    def forward(self, x):
        return torch.sin((x + self.places) @ self.waves)


def fixed_features(watch):
    model = nn.Sequential(Fourier(), nn.Linear(16, 3))
    return teach(watch, model, sgd(model[1]))


def attack(watch):
    """The weights stand still; the inputs are learned so that the loss is large."""
    model = mlp().requires_grad_(False)
    x, y = classes(32)
    moved = nn.Parameter(torch.zeros_like(x))
    optimizer = torch.optim.Adam([moved], maximize=True)
    with watch(model, optimizer) as watched:
        for _ in range(STEPS):
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(x + moved), y)).backward()
            optimizer.step()
    return [moved]


def adversary(watch):
    """The inputs are moved so that the loss is larger, before the step makes it smaller."""
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            a = a.clone().requires_grad_()
            (grad,) = torch.autograd.grad(F.cross_entropy(model(a), b), a)
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model((a + 0.1 * grad.sign()).detach()), b)).backward()
            optimizer.step()
    return list(model.parameters())


def in_parts(watch):
    """The model's parts are called, never the model."""
    model = nn.Sequential(
        nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 3)
    )
    x, y = classes()
    seen = []

    def validate(i):
        if i % 10 == 9:
            model.eval()
            with torch.no_grad():
                seen.append(model[2:](model[:2](x)))
            model.train()

    weights = teach(
        watch,
        model,
        sgd(model),
        data=(x, y),
        forward=lambda a: model[2:](model[:2](a)),
        after=validate,
        steps=60,
    )
    return [*weights, *model.buffers(), *seen]


def contrast(watch, temperature=0.1):
    """Both halves of an example find each other; the temperature may learn."""
    left, right = nn.Linear(4, 8), nn.Linear(4, 8)
    scale = nn.Parameter(torch.tensor(1 / temperature))
    model = nn.ParameterList([*left.parameters(), *right.parameters(), scale])

    def scores(x):
        return F.normalize(left(x[:, :4])) @ F.normalize(right(x[:, 4:])).T * scale

    own = torch.arange(32)
    return teach(
        watch, model, sgd(model), forward=scores, loss=lambda o, y: F.cross_entropy(o, own)
    )


def right_answer_first(watch, per_answer=False):
    """Scores of a right answer before those of wrong ones: all targets are 0."""
    model = mlp(1 if per_answer else 8)
    wrong = torch.randn(20, 8)

    def scores(x):
        if per_answer:
            return model(torch.stack([x, x.roll(1, 0), x.roll(2, 0)], 1)).squeeze(2)
        query = model(x)
        return torch.cat([(query * x).sum(1, keepdim=True), query @ wrong.T], 1)

    first = torch.zeros(32, dtype=torch.long)
    return teach(
        watch, model, sgd(model), forward=scores, loss=lambda o, y: F.cross_entropy(o, first)
    )


def chained_schedules(watch):
    model = mlp()
    optimizer = sgd(model)
    first = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / 10))
    second = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)

    def step(i):
        (first if i < 10 else second).step()

    return teach(watch, model, optimizer, steps=60, after=step)


def weights_by_pair(watch):
    """An output for each example, weighed for each pair: all with all is meant."""
    model = mlp(1)
    x, y = numbers()
    near = (-torch.cdist(x[:32], x[:32])).exp()

    def loss(output, target):
        smooth = (near * output[:, 0]).sum(1) / near.sum(1)
        return (smooth - target).square().mean()

    return teach(watch, model, sgd(model, 0.01), data=(x[:32], y[:32]), loss=loss)


def mean_of_four_losses(watch):
    model = mlp()
    optimizer = sgd(model)
    x, y = classes()
    with watch(model, optimizer) as watched:
        for i in range(4 * STEPS):
            parts = [F.cross_entropy(model(a), b) for a, b in batches(x, y, 4, 16)]
            (watched.loss(sum(parts) / 4) / 4).backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    return list(model.parameters())


def own_labels_in_training_mode(watch):
    """Passes without a graph on examples like those of training, as for labels by the model."""
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    x, y = classes()
    x = x + 4

    def look(_):
        with torch.no_grad():
            model(x[torch.randperm(64)[:16]])

    return teach(watch, model, sgd(model), data=(x, y), after=look)


def warm_restarts(watch):
    """Moments that are forgotten twice in a run, on purpose."""
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return teach(watch, model, optimizer, after=lambda i: i in (2, 60) and optimizer.state.clear())


def odd_settings(watch, kind, **settings):
    model = mlp()
    return teach(watch, model, kind(model.parameters(), **settings))


def an_optimizer_for_each_layer(watch):
    """None of them is watched."""
    model, (x, y) = mlp(), classes()
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-3) for m in (model[0], model[2], model[4])]
    with watch(model) as watched:
        for a, b in batches(x, y, STEPS):
            model.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            for optimizer in optimizers:
                optimizer.step()
    return list(model.parameters())


def few_classes_at_a_time(watch, k=10, per_batch=1):
    """Each batch has examples of a few classes, drawn at random: not in order."""
    model = mlp(outputs=k)
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for _ in range(120):
            b = torch.randperm(k)[:per_batch].repeat(16 // per_batch)
            optimizer.zero_grad()
            a = torch.randn(len(b), 8) + b[:, None]
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()
    return list(model.parameters())


def tokens_in_order(watch):
    """Text in order: lines of one letter, then of the next one."""
    lines = (torch.arange(2000) // 40 % 8).view(200, 10)
    model = nn.Sequential(nn.Embedding(8, 16), nn.Linear(16, 8))

    def loss(output, letters):
        return F.cross_entropy(output.flatten(0, 1), letters.flatten())

    return teach(watch, model, sgd(model), data=(lines, lines), loss=loss, steps=60)


def noise_in_training_only(watch):
    """In training, inputs are covered by noise three times as wide."""
    x, y = classes(128)
    model = mlp()

    def evaluate(i):
        if i % 10 == 9:
            model.eval()
            model(x)
            model.train()

    return teach(
        watch,
        model,
        sgd(model),
        data=(x, y),
        forward=lambda a: model(a + 3 * torch.randn_like(a)),
        after=evaluate,
        steps=80,
    )


def looked_at_oddly(watch):
    """In evaluation mode: zeros, one example, an attack, and a table with an outlier."""
    x, y = classes(128)
    model = mlp()
    odd = x.clone()
    odd[5, 2] = 200.0

    def look(i):
        kind = {9: torch.zeros(32, 8), 19: 50 * x[:1], 29: (50 * x).requires_grad_(), 39: odd}
        if i % 40 in kind:
            model.eval()
            model(kind[i % 40])
            model.train()

    return teach(watch, model, sgd(model), data=(x, y), after=look, steps=160)


def brightened(watch):
    """Each batch is scaled at random."""
    model = mlp()
    scaled = lambda a: model(a * (0.5 + 1.5 * torch.rand(())))  # noqa: E731
    return teach(watch, model, sgd(model), data=classes(128), forward=scaled, steps=160)


def waves_in_order(watch):
    """A series that swings, in the order of time."""
    series = (1.5 + (torch.arange(4000) / 300).sin()) * torch.randn(4000)
    x = series.unfold(0, 8, 1)[:3968]
    model = mlp(outputs=1)
    optimizer = sgd(model, 1e-3)
    return teach(watch, model, optimizer, data=(x, x[:, :1]), loss=F.mse_loss, steps=240)


def objective_on_a_plateau(watch):
    """Plateaus of what the optimizer maximizes, the first of which is not known."""
    x, y = classes(128)
    model = mlp()
    optimizer = sgd(model, 0.1, maximize=True)
    scheduler = ReduceLROnPlateau(optimizer, "max", patience=2)
    with watch(model, optimizer) as watched:
        for epoch in range(20):
            for a, b in batches(x, y, 4):
                optimizer.zero_grad()
                likelihood = watched.loss(-F.cross_entropy(model(a), b))
                likelihood.backward()
                optimizer.step()
            scheduler.step(likelihood.item() if epoch else -math.inf)
    return list(model.parameters())


class Equation(nn.Module):
    """A network that solves u' = u at points that it keeps."""

    def __init__(self):
        super().__init__()
        self.net = mlp(1, 1, nn.Tanh)
        self.x = torch.linspace(0, 1, 32)[:, None].requires_grad_()

    def forward(self):
        u = self.net(self.x)
        (slope,) = torch.autograd.grad(u.sum(), self.x, create_graph=True)
        return (slope - u).square().mean() + (self.net(self.x[:1].detach()) - 1).square().mean()


def equation(watch):
    model = Equation()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with watch(model, optimizer) as watched:
        for _ in range(STEPS):
            optimizer.zero_grad()
            watched.loss(model()).backward()
            optimizer.step()
    return list(model.parameters())


class ComplexNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(8, 16, dtype=torch.cfloat), nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.into(x).abs())


def complex_numbers(watch):
    x, y = classes()
    model = ComplexNet()
    return teach(watch, model, sgd(model), data=(torch.complex(x, x.flip(1)), y))


def acting(watch):
    """The network chooses what it sees next, and learns from all that it has seen."""
    model = mlp(2, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seen, state = [], torch.ones(4)
    with watch(model, optimizer) as watched:
        for i in range(200):
            with torch.no_grad():
                action = int(model(state[None]).argmax())
            state = 0.97 * state + 0.1 * torch.randn(4) + 0.1 * action
            seen.append(state)
            batch = torch.stack(seen)[torch.randint(0, len(seen), (32,))]
            loss = watched.loss(F.mse_loss(model(batch)[:, 0], batch.sum(1) / (1 + i)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return list(model.parameters())


HEALTHY = [
    lambda watch: odd_settings(watch, torch.optim.Adam, betas=(0.5, 0.9), lr=1e-3),
    lambda watch: odd_settings(watch, torch.optim.Adam, betas=(0.9, 0.9), lr=1e-3),
    lambda watch: odd_settings(watch, torch.optim.Adadelta, lr=0.1),
    objective_on_a_plateau,
    equation,
    complex_numbers,
    acting,
    warm_restarts,
    an_optimizer_for_each_layer,
    few_classes_at_a_time,
    lambda watch: few_classes_at_a_time(watch, k=4, per_batch=2),
    tokens_in_order,
    noise_in_training_only,
    looked_at_oddly,
    brightened,
    waves_in_order,
    lambda watch: on_a_plateau(watch, "max", lambda loss, right: right),
    lambda watch: on_a_plateau(watch, "min", lambda loss, right: loss),
    # a validation loss that rises from the first epoch on
    lambda watch: on_a_plateau(watch, "min", lambda loss, right: math.exp(-loss) / 3),
    contrast,
    lambda watch: contrast(watch, temperature=0.5),
    right_answer_first,
    lambda watch: right_answer_first(watch, per_answer=True),
    chained_schedules,
    weights_by_pair,
    mean_of_four_losses,
    own_labels_in_training_mode,
    plain,
    plain_functional,
    accumulation,
    zeros_kept,
    fused,
    dropout_and_batch_norm,
    convolutions,
    recurrent,
    lambda watch: recurrent(watch, nn.LSTM),
    attention,
    closure,
    tied,
    frozen_backbone,
    trained_backbone_left_out,
    frozen_normalization,
    two_optimizers,
    optimizer_elsewhere,
    adversarial,
    lambda watch: adversarial(watch, apart=True),
    alternating_heads,
    restarts,
    one_cycle,
    cosine_by_epoch,
    warm_up_by_epoch,
    stopped_early,
    two_phases,
    *(partial(cleared_on_purpose, why=why) for why in ("attack", "sharpness", "norm", "conflict")),
    *(partial(quantized, way=way) for way in ("passed straight through", "roots", "both")),
    partial(quantized, way="scale learned"),
    partial(critic_and_maker, last=[nn.Sigmoid()], scale=1.0),
    partial(critic_and_maker, last=[nn.Tanh()], scale=2.0, shift=-1.0, noise=0.1),
    partial(critic_and_maker, last=[], scale=16.0),
    partial(critic_and_maker, last=[nn.ReLU()], scale=16.0),
    *(partial(few_steps, steps=n, lr=lr) for n, lr in ((60, 0.01), (20, 0.03), (18, 0.05))),
    lambda watch: held_in_a_range(watch, 0.0, None),
    lambda watch: held_in_a_range(watch, -1.0, 1.0),
    lambda watch: held_in_a_range(watch, -0.15, 0.15),
    pairs_of_examples,
    partial(pairs_of_examples, by_hand=True),
    dropped_twice,
    called_for_the_score,
    partial(mistyped, most=20.0),
    partial(mistyped, most=20.0, act=nn.ReLU),
    partial(mistyped, limit=0.5),
    recomputed,
    evaluated_from_a_seed,
    partial(evaluated_from_a_seed, context=contextlib.nullcontext),
    examples_from_seeds,
    same_examples_made_anew,
    lambda watch: dropping(watch, lambda i: torch.manual_seed(i)),
    lambda watch: dropping(watch, lambda i: i % 5 or torch.manual_seed(0)),
    partial(seeded_in_the_loop, draw=False),
    partial(seeded_in_the_loop, draw=False, evaluate=True),
    partial(seeded_in_the_loop, draw=False, evaluate=True, fork=True),
    partial(seeded_in_the_loop, fork=True),
    partial(seeded_in_the_loop, own=True),
    partial(seeded_in_the_loop, spread=1),
    partial(outliers, limit=0.5),
    lambda watch: outliers(watch, limit=0.5, model=nn.Linear(8, 1)),
    growing_targets,
    norm_logged,
    game_with_clipping,
    zero_last_layer,
    partial(sampler_of_few_rows, rows=16),
    partial(sampler_of_few_rows, rows=4, whole=True),
    partial(sampler_of_few_rows, rows=4, columns=4),
    few_levels,
    shared_heads,
    recovers_from_zeros,
    partial(two_parts, part=lambda h: (h.square() / len(h)).sum()),
    partial(two_parts, loss=lambda o, y: 32 * F.cross_entropy(o, y)),
    partial(two_parts, part=lambda h: (h.mean(0) - 0.05).abs().sum()),
    partial(two_parts, part=lambda h: (h.square() * torch.full((len(h), 1), 0.03)).sum()),
    partial(over_time, turned=True),
    partial(over_time, batch_first=True),
    lambda watch: over_time(watch, nn.MultiheadAttention, batch_first=True),
    partial(two_parts, loss=partial(F.cross_entropy, reduction="sum")),
    partial(two_parts, part=lambda h: 0.24 * h.square().sum() / 10),
    partial(two_parts, part=lambda h: 0.24 * (h.exp() - h - 1).sum()),
    partial(two_parts, part=lambda h: torch.add(h.mean(), h.sum(), alpha=1e-4)),
    partial(two_parts, part=lambda h: h.abs().sum() / len(h), late=True),
    partial(two_parts, loss=partial(F.cross_entropy, label_smoothing=0.1), weights=True, late=True),
    partial(two_parts, part=lambda h: 0.1 * h.square().sum(1).mean()),
    partial(two_parts, part=lambda h: 0.5 * h.square().sum() / len(h)),
    partial(two_parts, part=lambda w: 0.3 * w.square().sum(), weights=True),
    fixed_features,
    partial(freeze_early, thaws=True),
    partial(freeze_early, at=150),
    lambda watch: ensemble_of(watch, 0, 1, 2),
    lambda watch: ensemble_of(watch, 0, 1),
    bottleneck,
    sparse_units,
    told_after,
    told_detached,
    memorized,
    brier,
    pairwise,
    checkpointed,
    clipped_by_adam,
    residual,
    separable,
    margin_met,
    sparse_gradients,
    sharpness_aware,
    own_labels,
    thawed,
    low_rank_adapter,
    one_at_a_time,
    game,
    averaged,
    scaled,
    lambda watch: scaled(watch, fused=True),
    few_bits,
    stepwise,
    in_pieces,
    all_examples,
    lambda watch: all_examples(watch, anew=True),
    one_batch,
    looked_ahead,
    from_large_gradients,
    gradual_rates,
    attack,
    adversary,
    in_parts,
]
