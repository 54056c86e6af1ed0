"""What `sick_loops` and `healthy_loops` share: data, models, and the usual training loop."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

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


def dropping(watch, begin, *, p=0.3, evaluate=None):
    """All examples in each step, which may be within what `begin(i)` returns."""
    x, y = classes()
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(p), nn.Linear(32, 3))
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for i in range(STEPS):
            within = begin(i)
            with within if hasattr(within, "__enter__") else nullcontext():
                loss = watched.loss(F.cross_entropy(model(x), y))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if evaluate:
                evaluate(model, x)
    return list(model.parameters())


def seeded_in_the_loop(
    watch, *, draw=True, evaluate=False, own=False, fork=False, spread=0, **kind
):
    """Seeded in the body of the loop, which may draw examples and noise from it."""
    x, y = classes()
    model = mlp(**kind)
    optimizer = sgd(model)
    own = torch.Generator() if own else None
    with watch(model, optimizer) as watched:
        for i in range(STEPS):
            with torch.random.fork_rng() if fork else nullcontext():
                (own or torch).manual_seed(42 + spread * i)
                if draw:
                    at = torch.randint(0, len(x), (24,), generator=own)
                    a, b = x[at] + 0.05 * torch.randn(24, 8, generator=own), y[at]
                else:
                    a, b = x, y
                if evaluate:
                    model.eval()
                    with torch.no_grad():
                        model(x + torch.randn_like(x))
                    model.train()
            loss = watched.loss(F.cross_entropy(model(a), b))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return list(model.parameters())


def outliers(watch, *, limit, model=None, reward=1000.0):
    """A few targets are very large; the loss is reported after the backward pass."""
    x, y = numbers(240)
    y[150::30] *= reward
    model = model or nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = sgd(model, 0.1)
    with watch(model, optimizer) as watched:
        for a, b in batches(x, y, 150, 16):
            loss = F.mse_loss(model(a)[:, 0], b)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
            watched.loss(loss)
    return list(model.parameters())


class Twins(nn.Module):
    """Are two examples of one class? By the distance of their features."""

    def __init__(self, body=None):
        super().__init__()
        self.body, self.out = body or mlp(6, act=nn.Tanh), nn.Linear(6, 1)

    def forward(self, a, b):
        return self.out((self.body(a) - self.body(b)).square())[:, 0]


def pairs_of_examples(watch, *, same=False, body=None, by_hand=False):
    """Pairs of examples, or by mistake the first of each `same` pair twice."""
    model = Twins(body and body())
    model = model.body if by_hand else model
    x, y = classes(64)
    with watch(model, optimizer := sgd(model, 0.1)) as watched:
        for _ in range(STEPS):
            i, j = torch.randint(0, 64, (2, 32))
            a, b, equal = x[i], x[i if same else j], (y[i] == y[j]).float()
            if by_hand:
                apart = F.pairwise_distance(model(a), model(b))
                loss = (equal * apart.square() + (1 - equal) * (1 - apart).relu()).mean()
            else:
                loss = F.binary_cross_entropy_with_logits(model(a, b), equal)
            optimizer.zero_grad()
            watched.loss(loss).backward()
            optimizer.step()
    return list(model.parameters())


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


def critic_and_maker(watch, last, scale, *, noise=0.0, shift=0.0):
    """A maker ends with `last`; a critic is shown its work beside numbers of 0 to `scale`."""
    maker = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 6), *last)
    critic = mlp(1, 6, act=nn.Tanh)
    fool, tell = (torch.optim.Adam(m.parameters(), lr=1e-3) for m in (maker, critic))
    entropy = F.binary_cross_entropy_with_logits
    with watch(critic, tell) as critics, watch(maker, fool) as makers:
        for _ in range(STEPS):
            made, real = maker(torch.randn(32, 3)), scale * torch.rand(32, 6) + shift
            answers = [critic(x + noise * torch.randn_like(x)) for x in (real, made.detach())]
            values = [entropy(a, torch.full_like(a, 1.0 - i)) for i, a in enumerate(answers)]
            tell.zero_grad()
            critics.loss(values[0] + values[1]).backward()
            tell.step()
            answer = critic(made)
            fool.zero_grad()
            makers.loss(entropy(answer, torch.ones_like(answer))).backward()
            fool.step()
    return [*maker.parameters(), *critic.parameters()]


def on_a_plateau(watch, mode, metric):
    """`metric` of the mean loss and the share of right answers is given to ReduceLROnPlateau."""
    x, y = classes(128)
    model = mlp()
    optimizer = sgd(model, 0.1)
    scheduler = ReduceLROnPlateau(optimizer, mode, patience=2)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            losses = []
            for a, b in batches(x, y, 4):
                optimizer.zero_grad()
                losses.append(watched.loss(F.cross_entropy(model(a), b)))
                losses[-1].backward()
                optimizer.step()
            right = (model(x).argmax(1) == y).float().mean().item()
            scheduler.step(metric(torch.stack(losses).mean().item(), right))
    return list(model.parameters())


def freeze_early(watch, thaws=False, at=15):
    """A body that is frozen while something else looks at it, and stays so unless it `thaws`."""
    model = mlp()

    def freeze(i):
        if i == at:
            model[0].requires_grad_(False)
        if i == at + 5 and thaws:
            model[0].requires_grad_(True)

    return teach(watch, model, sgd(model), steps=300, after=freeze)


class Ensemble(nn.Module):
    """Three members, of which `asked` answer."""

    def __init__(self, asked):
        super().__init__()
        self.members = nn.ModuleList(mlp() for _ in range(3))
        self.asked = asked

    def forward(self, x):
        return sum(self.members[i](x) for i in self.asked)


def ensemble_of(watch, *asked):
    model = Ensemble(asked)
    return teach(watch, model, sgd(model), steps=40)


def sampler_of_few_rows(watch, *, rows=4, whole=False, columns=8, size=32):
    """Batches that a sampler draws from the first `rows` of the examples."""
    x, y = classes()
    x = x.round() if whole else x[:, :columns]
    model = mlp(features=x.shape[1])
    optimizer = sgd(model)
    with watch(model, optimizer) as watched:
        for _ in range(STEPS):
            at = torch.cat([torch.arange(rows), torch.randint(0, rows, (size,))])[:size]
            loss = watched.loss(F.cross_entropy(model(x[at]), y[at]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return list(model.parameters())


class OverTime(nn.Module):
    """Answers of a layer over [N, T, F], or [T, N, F] if `turned`, at its last step."""

    def __init__(self, layer, turned):
        super().__init__()
        self.layer, self.head, self.turned = layer, nn.Linear(8, 3), turned

    def forward(self, x):
        x = x.transpose(0, 1) if self.turned else x
        many = (x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else (x,)
        out = self.layer(*many)[0]
        return self.head(out[-1] if self.turned else out[:, -1])


def over_time(watch, make=nn.GRU, *, turned=False, **settings):
    """Sequences of six steps; what counts is the first."""
    x = torch.randn(64, 6, 8)
    model = OverTime(make(8, 8, **settings), turned)
    return teach(watch, model, sgd(model), data=(x, x[:, 0, :3].argmax(1)))


def two_parts(
    watch, part=lambda h: h.square().sum(), loss=F.cross_entropy, weights=False, late=False
):
    """A loss with a second part, of the features or of the weights; reported `late`: after the
    backward pass.
    """
    x, y = classes()
    model = mlp()
    optimizer = sgd(model, 0.001)
    with watch(model, optimizer) as watched:
        for a, b in batches(x, y, STEPS):
            features = model[:4](a)
            added = part(model[4].weight if weights else features)
            value = loss(model[4](features), b) + added
            optimizer.zero_grad()
            value = value if late else watched.loss(value)
            value.backward()
            value = watched.loss(value) if late else value
            optimizer.step()
    return list(model.parameters())
