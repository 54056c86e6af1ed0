"""Training loops with a fault, and the code that must be found in each: `SICK`.

Each loop is given `ravine.watch`, or what stands for it.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    StepLR,
)
from training_loops import (
    STEPS,
    Ensemble,
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


def in_large_units(watch):
    x, y = numbers()
    model = mlp(outputs=1)
    teach(
        watch,
        model,
        sgd(model, 1e-6),
        loss=lambda out, b: F.mse_loss(out[:, 0], b),
        data=(x, 1e3 + 1e3 * y),
        steps=80,
    )


def best_without_copy(watch):
    model, kept = mlp(), {}

    def keep(i):
        if i == 10:
            kept.update(model.state_dict())
        if i == 20:
            model.load_state_dict(kept)

    teach(watch, model, sgd(model), after=keep)


class Writer(nn.Module):
    def __init__(self, both=False):
        super().__init__()
        self.tokens, self.gru = nn.Embedding(6, 8), nn.GRU(8, 8, bidirectional=both)
        self.head = nn.Linear(16 if both else 8, 6)

    def forward(self, tokens):
        return self.head(self.gru(self.tokens(tokens))[0])


def own_tokens(watch, shift=0, both=False, scattered=False):
    model, text = Writer(both), torch.randint(0, 6, (9, 200))
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for i in range(STEPS):
            out = model(text[:-1, i : i + 10])
            scores = out.view(8, 6, 10) if scattered else out.transpose(1, 2)
            optimizer.zero_grad()
            targets = text[shift : 8 + shift, i : i + 10]
            watched.loss(F.cross_entropy(scores, targets)).backward()
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


def plain_tensors(watch):
    """A weight that requires gradients and is no parameter."""
    model = mlp()
    last = nn.Module()
    last.w = torch.zeros(32, 3, requires_grad=True)
    last.forward = lambda x: x @ last.w
    model[4] = last
    teach(watch, model, sgd(model))


def frozen_part_optimized(watch):
    """The optimizer has the layer that is frozen, and not the one that learns."""
    model = mlp()
    model[0].requires_grad_(False)
    teach(watch, model, sgd(model[0]))


def thawed_too_late(watch):
    """A trained body of which one layer is thawed after the optimizer was made for the head."""
    model = mlp()
    nn.init.normal_(model[0].weight, std=0.9)
    nn.init.normal_(model[2].weight, std=0.4)
    model[:4].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model[2].requires_grad_(True)
    teach(watch, model, optimizer)


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


def rounded(watch, step=torch.round):
    model = mlp(1, act=nn.Tanh)
    teach(watch, model, sgd(model), loss=lambda out, y: F.mse_loss(step(out)[:, 0], y.float()))


class RoundedFeatures(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head((4 * self.body(x)).round() / 4)


def rounded_features(watch):
    model = RoundedFeatures()
    teach(watch, model, sgd(model))


def normalized_body():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 6))


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


def all_ignored(watch):
    x, y = classes(256)
    y[64:96] = -100
    model = mlp()
    teach(watch, model, torch.optim.Adam(model.parameters()), data=(x, y))


def constant_row(watch, float_loss=False):
    """Each example is divided by its own spread."""
    x, y = classes(256)
    x[100] = 1.0
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with watch(model, optimizer) as watched:
        for a, b in batches(x, y, STEPS):
            optimizer.zero_grad()
            value = F.cross_entropy(model((a - 1) / a.std(1, keepdim=True)), b)
            value = value if float_loss else watched.loss(value)
            value.backward()
            optimizer.step()
            if float_loss:
                watched.loss(value.item())


def nothing_to_attend_to(watch):
    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            x = x.view(len(x), 4, 8)
            return self.out(self.attention(x, x, x, key_padding_mask=x[:, :, 0] == 0)[0].mean(1))

    x, y = classes(256, features=32)
    x[100] = 0.0
    model = Attentive()
    teach(watch, model, sgd(model), data=(x, y))


def infinite_class_weight(watch):
    weights = 1 / torch.tensor([20.0, 44.0, 0.0])
    loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=0.1)
    model = mlp()
    teach(watch, model, sgd(model), loss=lambda o, y: loss(o, y % 2))


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


def cleared_between_losses(watch, *, limit=None, apart=False):
    """Two losses of a step, each with a backward pass, and zero_grad between them."""
    model = mlp(2)
    optimizer = torch.optim.Adam(model.parameters())
    with watch(model, optimizer) as watched:
        for x, y in batches(*numbers(), STEPS):
            out = model(x)
            losses = [F.mse_loss(out[:, 0], y), F.l1_loss(out[:, 1], x[:, 0])]
            for loss in losses if apart else [losses[0] + 0.5 * losses[1]]:
                watched.loss(loss)
            for loss in losses:
                optimizer.zero_grad()
                loss.backward(retain_graph=True)
            if limit:
                nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()


def cut_to_one_size(watch, *, limit=0.01, numbers_of=None, kind=sgd):
    model = mlp(1 if numbers_of else 3)

    def cut(_):
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(-limit, limit)

    def loss(out, y):
        return F.mse_loss(out[:, 0], y) if numbers_of else F.cross_entropy(out, y)

    data = numbers_of() if numbers_of else classes()
    teach(watch, model, kind(model), data=data, loss=loss, after=cut)


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


def state_cleared(watch, kind=torch.optim.Adam, **settings):
    model = mlp()
    optimizer = kind(model.parameters(), lr=1e-2, **settings)
    teach(watch, model, optimizer, before_step=lambda i: optimizer.state.clear())


def optimizer_made_anew(watch, every=1, first=1):
    """The watched optimizer makes the first steps, or none; new ones make all others."""
    model, (x, y) = mlp(), classes()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(x, y, STEPS)):
            if i >= first and i % every == 0:
                optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()
    return list(model.parameters())


def unfit_setting(watch, kind, **settings):
    model = mlp()
    teach(watch, model, kind(model.parameters(), **settings))


def epsilon_of_one(watch, kind=torch.optim.Adam):
    model = mlp()
    teach(watch, model, kind(model.parameters(), lr=1e-3, eps=1.0))


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


def divergence_of_wrong_sign(watch):
    x, _ = numbers()
    model = mlp(outputs=4)

    def coded(out, y):
        mean, log = out[:, :2], out[:, 2:]
        return mean.square().mean() + (1 + log - mean**2 - log.exp()).sum() / 2

    teach(watch, model, torch.optim.Adam(model.parameters(), lr=0.03), loss=coded, data=(x, x))


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


def shuffled_labels(watch, data=classes, loss=F.cross_entropy, size=30):
    x, y = data(600)
    model = nn.Linear(8, 3 if y.dtype == torch.long else 1)
    optimizer = sgd(model, 0.02)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            order, other = torch.randperm(len(x)), torch.randperm(len(x))
            for a, b in zip(x[order].split(size), y[other].split(size), strict=True):
                optimizer.zero_grad()
                out = model(a)
                watched.loss(loss(out if len(out[0]) > 1 else out[:, 0], b)).backward()
                optimizer.step()


def set_to_one_state(watch):
    state = torch.get_rng_state()
    dropping(watch, lambda i: torch.set_rng_state(state))


def rare_answers(n):
    return torch.randn(n, 8), (torch.arange(n) % 20 == 0).float()


def far_from_normal(n):
    """A few targets are four times as large."""
    return torch.randn(n, 8), torch.randn(n) * (1 + 3.0 * (torch.arange(n) % 20 == 0))


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


def clipped_before_backward(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in batches(*classes(), STEPS):
            optimizer.zero_grad()
            value = watched.loss(F.cross_entropy(model(a), b))
            clip_grad_norm_(model.parameters(), 0.05)
            value.backward()
            optimizer.step()


def clipped_after_step(watch, clip=clip_grad_norm_):
    model = mlp()
    teach(watch, model, sgd(model), after=lambda i: clip(model.parameters(), 0.05))


def clipped_copy(watch):
    model = mlp()
    other = copy.deepcopy(model)
    teach(
        watch,
        model,
        sgd(model),
        before_step=lambda i: clip_grad_norm_(other.parameters(), max_norm=0.05),
    )


def clipped_by_a_used_up_generator(watch):
    model = mlp()
    given = model.parameters()
    with pytest.warns(UserWarning, match="empty generator"):
        teach(watch, model, sgd(model), before_step=lambda i: clip_grad_norm_(given, max_norm=1.0))


def scheduled_by_epoch(watch, scheduler=lambda o: OneCycleLR(o, 0.1, total_steps=60)):
    """The plan is in steps of the optimizer; the scheduler is stepped once in six of them."""
    model = mlp()
    optimizer = sgd(model)
    made = scheduler(optimizer)
    teach(watch, model, optimizer, steps=60, after=lambda i: made.step() if i % 6 == 5 else None)


def linear_decay(optimizer):
    """As of transformers.get_linear_schedule_with_warmup."""
    return LambdaLR(optimizer, lambda i: i / 6 if i < 6 else max(0.0, (60 - i) / 54))


def planned_in_batches(watch):
    model = mlp()
    optimizer = sgd(model)
    scheduler = CosineAnnealingLR(optimizer, T_max=4 * STEPS)
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), 4 * STEPS)):
            (watched.loss(F.cross_entropy(model(a), b)) / 4).backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()


def warm_up_without_end(watch):
    scheduled_by_epoch(watch, lambda o: LinearLR(o, 0.01, total_iters=500))


def scheduled_elsewhere(watch, again=False):
    model = mlp()
    scheduler = ExponentialLR(sgd(model), 0.5)
    model = copy.deepcopy(model) if again else model
    with pytest.warns(UserWarning, match="lr_scheduler.step"):
        teach(watch, model, sgd(model), after=lambda i: scheduler.step() if i % 6 == 5 else None)


def scheduled_for_nobody(watch):
    model = mlp()
    scheduler = ExponentialLR(torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1), 0.5)
    with pytest.warns(UserWarning, match="lr_scheduler.step"):
        teach(watch, model, sgd(model), after=lambda i: scheduler.step() if i % 6 == 5 else None)


def scheduled_too_long(watch, scheduler=lambda o: CosineAnnealingLR(o, 100_000)):
    model = mlp()
    optimizer = sgd(model)
    made = scheduler(optimizer)
    teach(watch, model, optimizer, steps=60, after=lambda i: made.step())


def frozen_at_random(watch):
    model = mlp()
    model[:2].requires_grad_(False)
    teach(watch, model, sgd(model[2:]))


def never_in_training_mode(watch):
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    teach(watch, model.eval(), sgd(model))


def hardly_moved(watch, lr):
    model = mlp()
    teach(watch, model, sgd(model, lr), steps=300)


def sequence_of_one_layer(watch):
    layer = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model = nn.Sequential(*[layer] * 3, nn.Linear(8, 3))
    teach(watch, model, sgd(model))


def ensemble_of_one_member(watch):
    model = Ensemble((0, 1, 2))
    model.members = nn.ModuleList([model.members[0]] * 3)
    teach(watch, model, sgd(model))


def scheduled_twice(watch, last=lambda o: LambdaLR(o, lambda i: 0.99**i)):
    model = mlp()
    optimizer = sgd(model)
    first = StepLR(optimizer, 10)
    second = last(optimizer)

    def step(_):
        first.step()
        second.step()

    teach(watch, model, optimizer, steps=60, after=step)


def head_stepped_twice(watch):
    model = mlp()
    body, head = sgd(model[:2]), sgd(model[2:])
    x, y = classes()
    with watch(model[:2], body):
        for a, b in batches(x, y, STEPS):
            head.zero_grad()
            body.zero_grad()
            F.cross_entropy(model(a), b).backward()
            head.step()
            head.step()


def one_of_two_never_steps(watch):
    model = mlp()
    body, head = sgd(model[:2]), sgd(model[2:])
    with watch(model, (body, head)) as watched:
        for a, b in batches(*classes(), STEPS):
            body.zero_grad()
            head.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            head.step()


def steps_by_epoch(watch, kind=torch.optim.Adam, *, epochs=5, lr=1e-3):
    """The gradients of whole epochs are added up."""
    x, y = classes(320)
    model = mlp()
    optimizer = kind(model.parameters(), lr=lr)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for a, b in batches(x, y, 20, 16):
                (watched.loss(F.cross_entropy(model(a), b)) / 20).backward()
            optimizer.step()
            optimizer.zero_grad()
    return list(model.parameters())


def weighted_by_a_column(watch, column=True):
    """Losses [N] times weights [N, 1], or the other way round."""

    def loss(output, target):
        losses = F.cross_entropy(output, target, reduction="none")
        weights = 1 + target.float()
        pair = (losses, weights[:, None]) if column else (losses[:, None], weights)
        return (pair[0] * pair[1]).mean()

    model = mlp()
    teach(watch, model, sgd(model), loss=loss)


def divided_twice(watch):
    model = mlp()
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for i, (a, b) in enumerate(batches(*classes(), 4 * STEPS)):
            (watched.loss(F.cross_entropy(model(a), b) / 4) / 4).backward()
            if i % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()


class Cosines(nn.Module):
    """The cosine of each example with each of the others' second halves, times a scale."""

    def __init__(self, scale):
        super().__init__()
        self.left, self.right, self.scale = nn.Linear(4, 8), nn.Linear(4, 8), scale

    def forward(self, x):
        left, right = F.normalize(self.left(x[:, :4])), F.normalize(self.right(x[:, 4:]))
        return left @ right.T * self.scale


def lukewarm(watch, scale=0.1):
    model = Cosines(scale)
    teach(watch, model, sgd(model), loss=lambda o, y: F.cross_entropy(o, torch.arange(len(o))))


def all_want_the_first(watch, model=None):
    model = model or Cosines(10.0)
    teach(watch, model, sgd(model), loss=lambda o, y: F.cross_entropy(o, torch.zeros_like(y)))


def blank_pass_in_training_mode(watch):
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    x, y = classes()

    def look(_):
        with torch.no_grad():
            model(torch.zeros(4, 8))

    teach(watch, model, sgd(model), data=(x + 4, y), after=look)


def in_order(n, k, steps):
    """Examples of k classes, class after class, in batches of 20."""
    y = torch.arange(n) * k // n
    return batches(torch.randn(n, 8) + y[:, None], y, steps, 20)


def class_after_class(watch, n=1000, k=10):
    model = mlp(outputs=k)
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for a, b in in_order(n, k, steps=140):
            optimizer.zero_grad()
            watched.loss(F.cross_entropy(model(a), b)).backward()
            optimizer.step()


def labels_in_order(watch):
    """Two classes as one number, with a penalty after the loss; 12 steps of each."""
    model = mlp(outputs=1)
    optimizer = torch.optim.Adam(model.parameters())
    with watch(model, optimizer) as watched:
        for a, b in in_order(480, 2, steps=140):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(model(a), b[:, None].float())
            watched.loss(loss + 1e-4 * model[0].weight.square().sum()).backward()
            optimizer.step()


def evaluated(watch, x_valid, x, once=False):
    """Evaluated on `x_valid` every 20 steps, or once at the end; trained on `x`."""
    model = mlp(features=x.shape[1])

    def evaluate(i):
        if i == 79 if once else i % 20 == 19:
            model.eval()
            with torch.no_grad():
                model(x_valid)
            model.train()

    teach(watch, model, sgd(model), data=(x, classes()[1]), after=evaluate, steps=80)


def scaled_in_training_only(watch):
    x = torch.rand(64, 8) * 255
    evaluated(watch, x, (x - x.mean()) / x.std())


def divided_in_training_only(watch):
    evaluated(watch, 40 + 7 * torch.randn(30, 8), torch.randn(64, 8), once=True)


def centered_in_training_only(watch):
    """Pixels from 0 to 1, in training from -1 to 1."""
    x = torch.rand(64, 16)
    evaluated(watch, x, 2 * x - 1)


def noise_in_place(watch):
    x, y = classes(128)
    model = mlp()

    def add(i):
        if i % 4 == 3:
            x.add_(0.9 * torch.randn_like(x))

    teach(watch, model, sgd(model), data=(x, y), after=add, steps=70)


def erased_in_place(watch):
    x, y = classes(256)
    model = mlp()

    def erase(i):
        if i % 8 == 7:
            x.mul_(torch.rand_like(x) < 0.9)

    teach(watch, model, sgd(model), data=(x, y), after=erase, steps=140)


def moved_in_place(watch):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    x, y = classes(256)
    teach(watch, model, optimizer, data=(x, y), after=lambda i: x.add_(0.03), steps=140)


SICK = [
    (class_after_class, "RVN-L35"),
    (lambda watch: class_after_class(watch, n=120, k=3), "RVN-L35"),
    (labels_in_order, "RVN-L35"),
    (scaled_in_training_only, "RVN-L36"),
    (divided_in_training_only, "RVN-L36"),
    (centered_in_training_only, "RVN-L36"),
    (noise_in_place, "RVN-L37"),
    (erased_in_place, "RVN-L37"),
    (moved_in_place, "RVN-L37"),
    (lambda watch: on_a_plateau(watch, "max", lambda loss, right: loss), "RVN-L16"),
    (lambda watch: on_a_plateau(watch, "max", lambda loss, right: loss + 0.2 * loss**2), "RVN-L16"),
    (lambda watch: on_a_plateau(watch, "min", lambda loss, right: right), "RVN-L16"),
    (lambda watch: on_a_plateau(watch, "min", lambda loss, right: 100 * right), "RVN-L16"),
    (scheduled_twice, "RVN-L33"),
    (lambda watch: scheduled_twice(watch, lambda o: OneCycleLR(o, 0.1, 100)), "RVN-L33"),
    (head_stepped_twice, "RVN-L34"),
    (one_of_two_never_steps, "RVN-L34"),
    (steps_by_epoch, "RVN-L34"),
    (lambda watch: steps_by_epoch(watch, torch.optim.AdamW, lr=1e-4), "RVN-L34"),
    (lambda watch: steps_by_epoch(watch, torch.optim.SGD, epochs=12, lr=0.05), "RVN-L34"),
    (weighted_by_a_column, "RVN-H06"),
    (lambda watch: weighted_by_a_column(watch, column=False), "RVN-H06"),
    (divided_twice, "RVN-L23"),
    (lukewarm, "RVN-H11"),
    (lambda watch: lukewarm(watch, scale=-0.03), "RVN-H11"),
    (all_want_the_first, "RVN-H09"),
    (lambda watch: all_want_the_first(watch, mlp()), "RVN-H09"),
    (blank_pass_in_training_mode, "RVN-L13"),
    (sampler_of_few_rows, "RVN-L22"),
    (lambda watch: sampler_of_few_rows(watch, rows=8), "RVN-L22"),
    (over_time, "RVN-L42"),
    (lambda watch: over_time(watch, nn.LSTM, num_layers=2), "RVN-L42"),
    (lambda watch: over_time(watch, nn.MultiheadAttention), "RVN-L42"),
    (two_parts, "RVN-H12"),
    (lambda watch: two_parts(watch, lambda h: 0.26 * (h.exp() - h - 1).sum()), "RVN-H12"),
    (lambda watch: two_parts(watch, torch.sum, lambda out, y: -out[:, 0].mean()), "RVN-H12"),
    (never_in_training_mode, "RVN-L12"),
    (lambda watch: hardly_moved(watch, lr=1e-4), "RVN-T02"),
    (sequence_of_one_layer, "RVN-S04"),
    (ensemble_of_one_member, "RVN-S04"),
    (frozen_at_random, "RVN-L08"),
    (freeze_early, "RVN-L08"),
    (lambda watch: freeze_early(watch, at=28), "RVN-L08"),
    (lambda watch: ensemble_of(watch, 2, 2, 2), "RVN-L09"),
    (lambda watch: ensemble_of(watch, 0, 0, 0), "RVN-L09"),
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
    (frozen_part_optimized, "RVN-L05"),
    (thawed_too_late, "RVN-L05"),
    (plain_list, "RVN-L07"),
    (plain_tensors, "RVN-L07"),
    (detached_features, "RVN-L09"),
    (loss_made_anew, "RVN-L10"),
    (detached_output, "RVN-L10"),
    (rounded, "RVN-L10"),
    (lambda watch: rounded(watch, torch.sign), "RVN-L10"),
    (lambda watch: rounded(watch, lambda x: x.mul(9).floor() / 9), "RVN-L10"),
    (rounded_features, "RVN-L09"),
    (lambda watch: pairs_of_examples(watch, same=True), "RVN-L09"),
    (lambda watch: pairs_of_examples(watch, same=True, by_hand=True), "RVN-L09"),
    (lambda watch: pairs_of_examples(watch, same=True, body=normalized_body), "RVN-L09"),
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
    (all_ignored, "RVN-N01"),
    (constant_row, "RVN-N01"),
    (lambda watch: constant_row(watch, float_loss=True), "RVN-N01"),
    (nothing_to_attend_to, "RVN-N01"),
    (infinite_class_weight, "RVN-N01"),
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
    (lambda watch: critic_and_maker(watch, [nn.Sigmoid()], 16.0), "RVN-H08"),
    (lambda watch: critic_and_maker(watch, [nn.Tanh()], 5.0, shift=-2.5), "RVN-H08"),
    (
        lambda watch: critic_and_maker(watch, [nn.Sigmoid(), nn.Flatten()], 2.0, shift=-1.0),
        "RVN-H08",
    ),
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
    (cut_to_one_size, "RVN-L20"),
    (lambda watch: cut_to_one_size(watch, limit=0.02, numbers_of=numbers), "RVN-L20"),
    (
        lambda watch: cut_to_one_size(watch, kind=lambda m: torch.optim.Adam(m.parameters())),
        "RVN-L20",
    ),
    (cleared_between, "RVN-L21"),
    (lambda watch: cleared_between(watch, divide=False), "RVN-L21"),
    (cleared_between_losses, "RVN-L21"),
    (lambda watch: cleared_between_losses(watch, limit=0.1), "RVN-L21"),
    (lambda watch: cleared_between_losses(watch, apart=True), "RVN-L21"),
    (same_batch, "RVN-L22"),
    (summed, "RVN-L23"),
    (stale_moments, "RVN-L24"),
    (state_cleared, "RVN-L38"),
    (lambda watch: state_cleared(watch, torch.optim.SGD, momentum=0.9), "RVN-L38"),
    (optimizer_made_anew, "RVN-L38"),
    (lambda watch: optimizer_made_anew(watch, every=5), "RVN-L38"),
    (lambda watch: optimizer_made_anew(watch, every=5, first=0), "RVN-L38"),
    (epsilon_of_one, "RVN-L39"),
    (lambda watch: epsilon_of_one(watch, torch.optim.RMSprop), "RVN-L39"),
    (lambda watch: unfit_setting(watch, torch.optim.Adam, betas=(0.999, 0.9)), "RVN-L40"),
    (lambda watch: unfit_setting(watch, torch.optim.Rprop), "RVN-L40"),
    (lambda watch: unfit_setting(watch, torch.optim.Adadelta, lr=1e-3), "RVN-L40"),
    (cut_in_time, "RVN-L25"),
    (lambda watch: cut_in_time(watch, nn.LSTMCell), "RVN-L25"),
    (normalized_again, "RVN-L26"),
    (on_a_large_scale, "RVN-L27"),
    (maximized, "RVN-L28"),
    (minus, "RVN-L28"),
    (divergence_of_wrong_sign, "RVN-L28"),
    (always_overflows, "RVN-L29"),
    (clipped_before_unscaling, "RVN-L17"),
    (clipped_by_value, "RVN-L17"),
    (group_at_zero, "RVN-L30"),
    (clipped_before_backward, "RVN-L31"),
    (clipped_after_step, "RVN-L31"),
    (lambda watch: clipped_after_step(watch, nn.utils.clip_grad_value_), "RVN-L31"),
    (clipped_copy, "RVN-L31"),
    (clipped_by_a_used_up_generator, "RVN-L31"),
    (scheduled_by_epoch, "RVN-L32"),
    (lambda watch: scheduled_by_epoch(watch, lambda o: CosineAnnealingLR(o, 60)), "RVN-L32"),
    (lambda watch: scheduled_by_epoch(watch, linear_decay), "RVN-L32"),
    (planned_in_batches, "RVN-L32"),
    (warm_up_without_end, "RVN-L32"),
    (scheduled_too_long, "RVN-L32"),
    (
        lambda watch: scheduled_too_long(watch, lambda o: LambdaLR(o, lambda i: (i + 1) / 10_000)),
        "RVN-L32",
    ),
    (scheduled_elsewhere, "RVN-L33"),
    (scheduled_for_nobody, "RVN-L33"),
    (lambda watch: scheduled_elsewhere(watch, again=True), "RVN-L33"),
    (diverging, "RVN-T03"),
    (lambda watch: outliers(watch, limit=1e6, reward=1e4), "RVN-T03"),
    (lambda watch: outliers(watch, limit=1e7, reward=1e5), "RVN-T03"),
    (lambda watch: outliers(watch, limit=1e6, reward=-3e4), "RVN-T03"),
    (best_without_copy, "RVN-L43"),
    (in_large_units, "RVN-D06"),
    (own_tokens, "RVN-D09"),
    (lambda watch: own_tokens(watch, shift=1, both=True), "RVN-I03"),
    (lambda watch: own_tokens(watch, shift=1, scattered=True), "RVN-I22"),
    (lambda watch: dropping(watch, lambda i: torch.manual_seed(42)), "RVN-L41"),
    (lambda watch: dropping(watch, lambda i: torch.random.fork_rng()), "RVN-L41"),
    (set_to_one_state, "RVN-L41"),
    (seeded_in_the_loop, "RVN-L41"),
    (shuffled_labels, "RVN-T02"),
    (lambda watch: shuffled_labels(watch, numbers, F.mse_loss, size=3), "RVN-T02"),
    (lambda watch: shuffled_labels(watch, far_from_normal, F.mse_loss), "RVN-T02"),
    (
        lambda watch: shuffled_labels(
            watch, rare_answers, F.binary_cross_entropy_with_logits, size=10
        ),
        "RVN-T02",
    ),
    (rate_falls_at_once, "RVN-T09"),
    (jumpy, "RVN-T04"),
]
