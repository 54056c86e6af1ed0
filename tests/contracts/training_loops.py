"""Training loops, sick and healthy, for the rules that watch them: each is given `watch`, returns
what it trained.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LambdaLR,
    OneCycleLR,
    StepLR,
)

STEPS = 30


def classes(n=64, features=8, k=3):
    """Examples whose class is the greatest of their first k features."""
    x = torch.randn(n, features)
    return x, x[:, :k].argmax(dim=1)


def numbers(n=64, features=8):
    x = torch.randn(n, features)
    return x, x[:, :2].sum(dim=1) + 0.1 * torch.randn(n)


def mlp(outputs=3, features=8, act=nn.ReLU, width=32):
    return nn.Sequential(
        nn.Linear(features, width), act(), nn.Linear(width, width), act(), nn.Linear(width, outputs)
    )


def batches(x, y, steps, size=32):
    for i in range(steps):
        at = torch.arange(i * size, (i + 1) * size) % len(x)
        yield x[at], y[at]


def teach(
    watch,
    model,
    optimizer,
    *,
    loss=F.cross_entropy,
    data=None,
    steps=STEPS,
    after=None,
    before_step=None,
    forward=None,
    **settings,
):
    """The usual loop; `before_step(i)` and `after(i)` are called where they say."""
    x, y = data or classes()
    with watch(model, optimizer, **settings) as watched:
        for i, (a, b) in enumerate(batches(x, y, steps)):
            optimizer.zero_grad()
            value = watched.loss(loss((forward or model)(a), b))
            value.backward()
            if before_step:
                before_step(i)
            optimizer.step()
            if after:
                after(i)
    return list(model.parameters())


def sgd(model, lr=0.05, **settings):
    return torch.optim.SGD(model.parameters(), lr=lr, **settings)


# Sick: the code that must be found stands beside each in SICK.


def no_zero_grad(watch):
    model = mlp()
    optimizer = sgd(model, 0.01)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()


def no_zero_grad_with_clip(watch):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            watched.loss(F.cross_entropy(model(a), b)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()


def no_backward(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a), b))
            optimizer.step()


def wiped(watch, none=True):
    model = mlp()
    optimizer = sgd(model)
    teach(watch, model, optimizer, before_step=lambda i: optimizer.zero_grad(set_to_none=none))


def backward_last(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            optimizer.zero_grad()
            value = watched.loss(F.cross_entropy(model(a), b))
            optimizer.step()
            value.backward()


def head_left_out(watch):
    model = mlp()
    teach(watch, model, torch.optim.SGD(model[:4].parameters(), lr=0.1))


def first_layer_left_out(watch):
    model = mlp()
    teach(watch, model, torch.optim.SGD(model[2:].parameters(), lr=0.1))


def head_replaced(watch):
    model = mlp()
    optimizer = sgd(model)
    model[4] = nn.Linear(32, 3)
    teach(watch, model, optimizer)


def other_model(watch):
    model = mlp()
    optimizer = sgd(model)
    teach(watch, copy.deepcopy(model), optimizer)


class Listed(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers = kind([nn.Linear(8, 8) for _ in range(3)])
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


def plain_list(watch):
    model = Listed(list)
    teach(watch, model, sgd(model))


def detached_features(watch):
    model = mlp()
    teach(watch, model, sgd(model), forward=lambda x: model[2:](model[:2](x).detach()))


def loss_made_anew(watch):
    model = mlp()
    teach(
        watch,
        model,
        sgd(model),
        loss=lambda o, y: torch.tensor(F.cross_entropy(o, y).item(), requires_grad=True),
    )


def detached_output(watch):
    model = mlp()
    teach(watch, model, sgd(model), forward=lambda x: model(x).detach().requires_grad_())


def no_grad(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            with torch.no_grad():
                watched.loss(F.cross_entropy(model(a), b))
            optimizer.step()


def eval_left_on(watch):
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
    )
    teach(watch, model, sgd(model), after=lambda i: model.eval() if i == 9 else None)


def train_at_validation(watch):
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    x, _ = classes()

    def validate(i):
        if i % 10 == 9:
            with torch.no_grad():
                for a in x.split(16):
                    model(a)

    teach(watch, model, sgd(model), after=validate)


def schedule_first(watch):
    model = mlp()
    optimizer = sgd(model)
    scheduler = StepLR(optimizer, 10)
    with watch(model, optimizer) as watched, pytest.warns(UserWarning, match="lr_scheduler.step"):
        for a, b in batches(*classes(), STEPS):
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            scheduler.step()
            optimizer.step()


def schedule_idle(watch):
    model = mlp()
    optimizer = sgd(model)
    scheduler = StepLR(optimizer, 10)
    teach(watch, model, optimizer)
    return scheduler


def epochs_as_steps(watch):
    model = mlp()
    optimizer = sgd(model)
    scheduler = CosineAnnealingLR(optimizer, T_max=10)
    teach(watch, model, optimizer, steps=60, after=lambda i: scheduler.step())


def rate_run_out(watch):
    model = mlp()
    optimizer = sgd(model)
    scheduler = StepLR(optimizer, 5)
    teach(watch, model, optimizer, steps=160, after=lambda i: scheduler.step())


def clipped_away(watch):
    model = mlp()
    optimizer = sgd(model, 0.1)
    teach(
        watch,
        model,
        optimizer,
        before_step=lambda i: nn.utils.clip_grad_norm_(model.parameters(), 1e-4),
    )


def zero_rate(watch):
    model = mlp()
    teach(watch, model, sgd(model, 0.0))


def rounded_away(watch):
    model = mlp()
    teach(watch, model, sgd(model, 1e-12))


def rate_too_high(watch):
    model = mlp(1)
    teach(
        watch,
        model,
        sgd(model, 30.0),
        data=numbers(),
        loss=lambda o, y: F.mse_loss(o.squeeze(1), y),
    )


def nan_in_data(watch):
    x, y = classes()
    x[40, 3] = float("nan")
    model = mlp()
    teach(watch, model, sgd(model), data=(x, y))


def root_of_zero(watch):
    model = mlp(1)
    teach(
        watch,
        model,
        sgd(model),
        data=numbers(),
        loss=lambda o, y: o.squeeze(1).sub(y).abs().mean() + (o * 0).sum().sqrt(),
    )


def full_batch_still(watch):
    x, y = classes(32)
    model = mlp()
    teach(watch, model, sgd(model, 1e-12), data=(x, y))


def softmax_twice(watch):
    model = nn.Sequential(mlp(), nn.Softmax(dim=1))
    teach(watch, model, sgd(model))


def sigmoid_before_entropy(watch):
    model = mlp()
    teach(watch, model, sgd(model), forward=lambda x: model(x).sigmoid())


def sigmoid_twice(watch):
    x, y = numbers()
    model = nn.Sequential(mlp(1), nn.Sigmoid())
    teach(
        watch,
        model,
        sgd(model),
        data=(x, (y > 0).float()),
        loss=lambda o, y: F.binary_cross_entropy_with_logits(o.squeeze(1), y),
    )


def log_softmax_twice(watch):
    model = nn.Sequential(mlp(), nn.LogSoftmax(dim=1))
    teach(watch, model, sgd(model))


def one_unit(watch):
    x, y = numbers()
    model = nn.Sequential(mlp(1), nn.Softmax(dim=1))
    teach(
        watch,
        model,
        sgd(model),
        data=(x, (y > 0).float()),
        loss=lambda o, y: F.binary_cross_entropy(o.squeeze(1), y),
    )


def logits_as_probabilities(watch):
    model = mlp()
    teach(watch, model, sgd(model, 1e-3), loss=F.nll_loss)


def broadcast(watch):
    model = mlp(1)
    teach(watch, model, sgd(model), data=numbers(), loss=lambda o, y: (o - y).square().mean())


def broadcast_in_mse(watch):
    model = mlp(1)
    with pytest.warns(UserWarning, match="target size"):
        teach(watch, model, sgd(model), data=numbers(), loss=F.mse_loss)


def over_the_batch(watch):
    x, y = classes()
    model = nn.Sequential(mlp(), nn.Softmax(dim=0))
    teach(watch, model, sgd(model), data=(x, F.one_hot(y, 3).float()), loss=F.mse_loss)


def out_of_reach(watch):
    x, y = numbers()
    model = nn.Sequential(mlp(1), nn.Sigmoid())
    teach(watch, model, sgd(model), data=(x, y[:, None] * 10), loss=F.mse_loss)


def out_of_reach_by_hand(watch):
    x, y = numbers()
    model = nn.Sequential(mlp(1), nn.Tanh())
    teach(
        watch, model, sgd(model), data=(x, y[:, None] * 10), loss=lambda o, y: (y - o).abs().mean()
    )


def labels_of_minus_one(watch):
    x, y = numbers()
    model = mlp(1)
    teach(
        watch,
        model,
        sgd(model),
        data=(x, y.sign()),
        loss=lambda o, y: F.binary_cross_entropy_with_logits(o.squeeze(1), y),
    )


def softmax_of_labels(watch):
    x, _ = classes()
    model = nn.Sequential(mlp(), nn.Softmax(dim=1))
    teach(watch, model, sgd(model), data=(x, (x[:, :3] > 0).float()), loss=F.binary_cross_entropy)


def constant_start(watch):
    model = mlp()
    for p in model.parameters():
        nn.init.constant_(p, 0.1)
    teach(watch, model, sgd(model))


def zeros_start(watch):
    model = mlp()
    for p in model.parameters():
        nn.init.zeros_(p)
    teach(watch, model, sgd(model))


def no_activation(watch):
    model = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    teach(watch, model, sgd(model))


def dropout_for_activation(watch):
    model = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.2), nn.Linear(32, 3))
    teach(watch, model, sgd(model))


def no_activation_in_convolutions(watch):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 16, 3),
    )
    x, y = classes(features=64)
    teach(watch, model, sgd(model), data=(x.view(-1, 1, 8, 8), y))


def dead_layer(watch):
    model = mlp()
    nn.init.constant_(model[2].bias, -100.0)
    teach(watch, model, sgd(model))


def nearly_dead_layer(watch):
    model = mlp()
    with torch.no_grad():
        model[2].bias[:30] = -100.0
    teach(watch, model, sgd(model))


def set_back(watch):
    model = mlp()
    start = copy.deepcopy(model.state_dict())
    teach(
        watch,
        model,
        torch.optim.Adam(model.parameters()),
        steps=60,
        after=lambda i: model.load_state_dict(start) if i % 10 == 9 else None,
    )


def drawn_anew(watch):
    model = mlp()

    def again(i):
        for m in model:
            if i % 10 == 9 and isinstance(m, nn.Linear):
                m.reset_parameters()

    teach(watch, model, torch.optim.Adam(model.parameters()), steps=60, after=again)


def cleared_between(watch, divide=True):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), 4 * STEPS)):
            loss = F.cross_entropy(model(a), b)
            watched.loss(loss / 4 if divide else loss).backward()
            if i % 4 == 3:
                optimizer.step()
            optimizer.zero_grad()


def same_batch(watch):
    x, y = classes(256)
    model = mlp()
    optimizer = sgd(model)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32)
    with watch(model, optimizer) as watched:
        for _ in range(STEPS):
            a, b = next(iter(loader))
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()


def summed(watch):
    model = mlp()
    optimizer = sgd(model, 0.01)
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), 4 * STEPS)):
            watched.loss(F.cross_entropy(model(a), b)).backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()


def stale_moments(watch):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def spoil(i):
        if i == 4:
            for state in optimizer.state.values():
                state["exp_avg_sq"].fill_(1e4)

    teach(watch, model, optimizer, after=spoil, steps=40)


class Stepwise(nn.Module):
    def __init__(self, cut, kind=nn.GRUCell):
        super().__init__()
        self.cell, self.out, self.cut = kind(2, 16), nn.Linear(16, 3), cut

    def forward(self, x):
        state = None
        for part in x.view(len(x), 4, 2).unbind(1):
            if self.cut and state is not None:
                state = (
                    tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
                )
            state = self.cell(part, state)
        return self.out(state[0] if isinstance(state, tuple) else state)


def cut_in_time(watch, kind=nn.GRUCell):
    model = Stepwise(True, kind)
    teach(watch, model, torch.optim.Adam(model.parameters()))


def normalized_again(watch):
    x, y = classes(128)
    model = mlp()

    def normalize(i):
        if i % 4 == 3:
            x.sub_(x.mean()).div_(3)

    teach(watch, model, sgd(model), data=(x, y), after=normalize, steps=70)


def on_a_large_scale(watch):
    x, y = classes()
    model = mlp()
    teach(watch, model, torch.optim.Adam(model.parameters(), lr=1e-4), data=(1000 * x, y))


def maximized(watch):
    model = mlp()
    teach(watch, model, torch.optim.SGD(model.parameters(), lr=0.05, maximize=True))


def minus(watch):
    model = mlp()
    teach(watch, model, sgd(model), loss=lambda o, y: -F.cross_entropy(o, y))


def always_overflows(watch):
    model = mlp()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=2.0**40, growth_interval=1, growth_factor=2.0**20, backoff_factor=2.0**-1
    )
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), STEPS)):
            optimizer.zero_grad()
            loss = watched.loss(F.cross_entropy(model(a), b))
            (scaler.scale(loss) * (float("inf") if i > 1 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()


def clipped_before_unscaling(watch):
    model = mlp()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu")
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            optimizer.zero_grad()
            scaler.scale(watched.loss(F.cross_entropy(model(a), b))).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()


def clipped_by_value(watch):
    model = mlp()
    teach(
        watch,
        model,
        sgd(model),
        before_step=lambda i: nn.utils.clip_grad_value_(model.parameters(), 1e-6),
    )


def group_at_zero(watch):
    model = mlp()
    groups = [{"params": model[:4].parameters(), "lr": 0.0}, {"params": model[4].parameters()}]
    teach(watch, model, torch.optim.SGD(groups, lr=0.05))


def diverging(watch):
    x, y = classes(512)
    y = torch.where(torch.rand(512) < 0.5, y, torch.randint(0, 3, (512,)))
    model = nn.Linear(8, 3)
    teach(watch, model, sgd(model, 40.0, momentum=0.9), data=(x, y), steps=200)


def shuffled_labels(watch):
    x, y = classes(600)
    model = nn.Linear(8, 3)
    optimizer = sgd(model, 0.02)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            order, other = torch.randperm(len(x)), torch.randperm(len(x))
            for a, b in zip(x[order].split(30), y[other].split(30), strict=True):
                optimizer.zero_grad()
                watched.loss(F.cross_entropy(model(a), b)).backward()
                optimizer.step()


def rate_falls_at_once(watch):
    model = mlp()
    optimizer = sgd(model, 0.02)
    scheduler = LambdaLR(optimizer, lambda i: 1.0 if i < 40 else 5e-3)
    teach(watch, model, optimizer, data=classes(600), steps=400, after=lambda i: scheduler.step())


def jumpy(watch):
    model = nn.Linear(8, 1)
    x, y = numbers(512)
    teach(
        watch,
        model,
        sgd(model, 0.05),
        data=(x, y[:, None] + torch.randn(512, 1)),
        loss=F.mse_loss,
        steps=256,
        after=lambda i: model.weight.data.add_(5) if i in (130, 190) else None,
    )


SICK = [
    (no_zero_grad, "RVN-L01"),
    (no_zero_grad_with_clip, "RVN-L01"),
    (no_backward, "RVN-L02"),
    (wiped, "RVN-L03"),
    (lambda watch: wiped(watch, none=False), "RVN-L03"),
    (backward_last, "RVN-L04"),
    (head_left_out, "RVN-L05"),
    (first_layer_left_out, "RVN-L05"),
    (head_replaced, "RVN-L06"),
    (other_model, "RVN-L06"),
    (plain_list, "RVN-L07"),
    (detached_features, "RVN-L09"),
    (loss_made_anew, "RVN-L10"),
    (detached_output, "RVN-L10"),
    (no_grad, "RVN-L11"),
    (eval_left_on, "RVN-L12"),
    (train_at_validation, "RVN-L13"),
    (schedule_first, "RVN-L14"),
    (schedule_idle, "RVN-L15"),
    (epochs_as_steps, "RVN-L16"),
    (rate_run_out, "RVN-L16"),
    (clipped_away, "RVN-L17"),
    (zero_rate, "RVN-L18"),
    (rounded_away, "RVN-L19"),
    (rate_too_high, "RVN-N01"),
    (nan_in_data, "RVN-N01"),
    (root_of_zero, "RVN-N01"),
    (full_batch_still, "RVN-N02"),
    (softmax_twice, "RVN-H01"),
    (sigmoid_before_entropy, "RVN-H01"),
    (sigmoid_twice, "RVN-H02"),
    (log_softmax_twice, "RVN-H03"),
    (one_unit, "RVN-H04"),
    (logits_as_probabilities, "RVN-H05"),
    (broadcast, "RVN-H06"),
    (broadcast_in_mse, "RVN-H06"),
    (over_the_batch, "RVN-H07"),
    (out_of_reach, "RVN-H08"),
    (out_of_reach_by_hand, "RVN-H08"),
    (labels_of_minus_one, "RVN-H09"),
    (softmax_of_labels, "RVN-H10"),
    (constant_start, "RVN-S01"),
    (zeros_start, "RVN-S01"),
    (no_activation, "RVN-S02"),
    (dropout_for_activation, "RVN-S02"),
    (no_activation_in_convolutions, "RVN-S02"),
    (dead_layer, "RVN-S03"),
    (nearly_dead_layer, "RVN-S03"),
    (set_back, "RVN-L20"),
    (drawn_anew, "RVN-L20"),
    (cleared_between, "RVN-L21"),
    (lambda watch: cleared_between(watch, divide=False), "RVN-L21"),
    (same_batch, "RVN-L22"),
    (summed, "RVN-L23"),
    (stale_moments, "RVN-L24"),
    (cut_in_time, "RVN-L25"),
    (lambda watch: cut_in_time(watch, nn.LSTMCell), "RVN-L25"),
    (normalized_again, "RVN-L26"),
    (on_a_large_scale, "RVN-L27"),
    (maximized, "RVN-L28"),
    (minus, "RVN-L28"),
    (always_overflows, "RVN-L29"),
    (clipped_before_unscaling, "RVN-L17"),
    (clipped_by_value, "RVN-L17"),
    (group_at_zero, "RVN-L30"),
    (diverging, "RVN-T21"),
    (shuffled_labels, "RVN-T22"),
    (rate_falls_at_once, "RVN-T23"),
    (jumpy, "RVN-T24"),
]


# Healthy: nothing may be said above a note.


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
    clip = lambda i: nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # noqa: E731
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


def frozen_backbone(watch):
    model = mlp()
    for p in model[:2].parameters():
        p.requires_grad_(False)
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
    clip = lambda i: nn.utils.clip_grad_norm_(model.parameters(), 1e-3)  # noqa: E731
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
            moves = [0.01 * p.grad for p in model.parameters()]
            with torch.no_grad():
                torch._foreach_add_(list(model.parameters()), moves)
            optimizer.zero_grad()
            F.cross_entropy(model(a), b).backward()
            with torch.no_grad():
                torch._foreach_sub_(list(model.parameters()), moves)
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
    model = mlp()
    model[:2].requires_grad_(False)
    thaw = lambda i: model.requires_grad_(True) if i == 12 else None  # noqa: E731
    return teach(watch, model, sgd(model), after=thaw, steps=60)


def low_rank_adapter(watch):
    model = nn.ModuleDict(
        {"base": mlp(), "a": nn.Linear(8, 2, bias=False), "b": nn.Linear(2, 32, bias=False)}
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
    forward = lambda x: model(x).float()  # noqa: E731
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


HEALTHY = [
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
    zero_last_layer,
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
