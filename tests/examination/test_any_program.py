"""`examine` on what people have: batches, models, losses and steps of any form.

Each program is also written in the usual form, a model from one tensor to one and a loss of outputs
and targets: both must train to the same losses.
"""

import functools
import itertools
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, fields

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine.errors import InputError
from ravine.examination.subject import CannotTryError
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_model_changes import called_on, standardize_inputs
from ravine.examination.torch_program import train_program
from ravine.examination.torch_results import reads_more_than_answers
from ravine.finding import Report

RNG = torch.Generator().manual_seed(0)
X = torch.randn(64, 6, generator=RNG)
Y = (X[:, 0] + X[:, 1] > 0).long()
TOKENS = torch.arange(8)[None] * torch.randint(1, 3, (64, 1), generator=RNG) % 11


def network(outputs=2, inputs=6):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def program(model, loss=None, train=None, **more):
    budget = {} if "steps" in more else {"epochs": 2}
    return read_program(model, loss, train, **{"optimizer": adam, **budget, **more})


def losses(given):
    return train_program(given, seed=0).losses


def loader(rows):
    return DataLoader(rows, batch_size=16)


USUAL = losses(program(network(), F.cross_entropy, loader(list(zip(X, Y, strict=True)))))


@dataclass
class Output(OrderedDict):
    """As transformers' ModelOutput: a dataclass and a dict, without what is None."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden: torch.Tensor | None = None

    def __post_init__(self):
        for each in fields(self):
            if getattr(self, each.name) is not None:
                self[each.name] = getattr(self, each.name)


@dataclass
class Examples:
    features: torch.Tensor
    kind: torch.Tensor


Named = namedtuple("Named", "features kind")


class Wrapped(nn.Module):
    """Takes its inputs and gives its outputs in some way; `net` is the usual network."""

    def __init__(self, how):
        super().__init__()
        self.net, self.how = network(), how

    def forward(self, features=None, kind=None, labels=None):
        if self.how == "dict":
            x = features["features"]
            return {"scores": self.net(x), "mean": x.mean()}
        if self.how == "field":
            return self.net(features.features)
        logits = self.net(features)
        if self.how == "tuple":
            return logits, features.detach()
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return Output(loss=loss, logits=logits, hidden=features)


ROWS = [{"features": X[i], "kind": Y[i], "name": f"row {i}"} for i in range(64)]
FORMS = {
    "a dict under any keys": (
        Wrapped("dict"),
        lambda out, batch: F.cross_entropy(out["scores"], batch["kind"]),
        ROWS,
    ),
    "a tuple of outputs": (
        Wrapped("tuple"),
        lambda out, y: F.cross_entropy(out[0], y),
        list(zip(X, Y, strict=True)),
    ),
    "keywords and a dataclass of outputs": (
        Wrapped("output"),
        lambda out, batch: F.cross_entropy(out.logits, batch["kind"]),
        ROWS,
    ),
    "a named tuple": (network(), F.cross_entropy, [Named(x, y) for x, y in zip(X, Y, strict=True)]),
    "the batch for a tuple": (
        network(),
        lambda out, batch: F.cross_entropy(out, batch[1]),
        list(zip(X, Y, strict=True)),
    ),
    "a loss that the outputs have": (
        Wrapped("output"),
        None,
        [{"features": x, "labels": y} for x, y in zip(X, Y, strict=True)],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_programs_of_other_forms_train_as_in_the_usual_one_and_can_be_scored(form):
    model, loss, rows = FORMS[form]
    given = program(model, loss, loader(rows))
    assert losses(given) == pytest.approx(USUAL, rel=1e-5)
    assert given.form.packing is None and given.form.targets == "one"
    run = train_program(given, seed=0)
    assert run.last.score is not None
    names = [name for name, _ in given.model.named_parameters()]
    assert names == [name for name, _ in model.named_parameters()]


def test_batches_that_are_dataclasses_are_taken_as_they_are():
    batches = [Examples(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]
    loss = lambda out, batch: F.cross_entropy(out, batch.kind)  # noqa: E731
    given = program(Wrapped("field"), loss, lambda: iter(batches))
    assert losses(given) == pytest.approx(USUAL, rel=1e-5)
    assert given.form.whole is None


@pytest.mark.parametrize("source", ["loader", "list", "function", "generator", "memory"])
def test_a_step_function_trains_on_batches_from_anywhere(source):
    batches = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]
    given = {
        "loader": loader(list(zip(X, Y, strict=True))),
        "list": batches,
        "function": lambda: iter(batches),
        "generator": iter(batches),
        "memory": (X[:50], Y[:50]),  # too few to hold some out
    }[source]
    step = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    read = program(network(), None, given, step=step, batch_size=16)
    found = losses(read)
    assert len(found) == 8 and (
        source not in ("loader", "function") or found == pytest.approx(USUAL)
    )
    first = F.cross_entropy(network()(X), Y).detach()
    assert read.evaluation_examples()[0].shape == (4, 1) or source == "memory"
    run = train_program(read, seed=0, evaluate_at=(0,))
    if source != "memory":
        assert run.evaluations[0].loss == pytest.approx(float(first), rel=1e-5)


def test_a_budget_of_steps_is_kept_and_batches_without_an_end_need_one():
    endless = lambda: itertools.cycle([(X, Y), (X[:32], Y[:32])])  # noqa: E731
    assert len(losses(program(network(), F.cross_entropy, endless, steps=7))) == 7
    assert len(losses(program(network(), F.cross_entropy, endless(), steps=7))) == 7
    half = program(network(), F.cross_entropy, (X, Y), batch_size=16, steps=5)
    assert half.steps == len(losses(half)) == 5
    with pytest.raises(InputError, match="steps="):
        program(network(), F.cross_entropy, endless)
    with pytest.raises(InputError, match="both are the whole budget"):
        program(network(), F.cross_entropy, (X, Y), batch_size=16, steps=5, epochs=1)


def test_of_a_list_of_batches_a_fifth_is_held_out():
    batches = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 64, 4)]
    given = program(network(), F.cross_entropy, batches)
    assert given.held_out and len(given.validation[0]) == 12 and len(given.train) == 13
    rows = {tuple(r) for r in given.validation[0].tolist()}
    seen = {tuple(r) for x, _ in given.train.epoch() for r in x.tolist()}
    assert not rows & seen and len(rows) + len(seen) == 64


# Targets that are none, or several


def auto_encoder():
    return nn.Sequential(network(2), network(6, 2))


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network(4)

    def forward(self, a, b):
        return self.net(a), self.net(b)


def contrast(outputs, unused=None):
    a, b = (F.normalize(each, dim=1) for each in outputs)
    return F.cross_entropy(a @ b.T, torch.arange(len(a)))


@pytest.mark.parametrize(
    ("model", "loss", "train"),
    [
        (Pairs(), contrast, (X, X + 0.1, torch.zeros(64))),
        (network(1), lambda out, y: out.square().mean(), (X, torch.zeros(64, 1))),
        (Wrapped("dict"), lambda out, batch: out["scores"].square().mean(), {"features": X}),
    ],
)
def test_targets_that_the_loss_does_not_use_are_not_called_all_the_same(model, loss, train):
    report = ravine.examine(
        model, loss, train, optimizer=adam, batch_size=16, epochs=2, trials=False
    )
    assert "RVN-D04" in report.checks.not_measured and "the loss uses none" in report.left_out[0]
    assert not [f for f in report.findings if f.code.startswith("RVN-D")]
    assert report.checks.failed == ()
    assert Report.from_json(report.to_json()) == report
    assert "left out: scores" in ravine.findings_text(report)


def test_targets_that_are_all_the_same_are_found_where_the_loss_uses_them():
    train = DataLoader(TensorDataset(X, torch.zeros(64, 1)), batch_size=16)
    report = ravine.examine(network(1), F.mse_loss, train, optimizer=adam, epochs=2, trials=False)
    assert "RVN-D04" in [f.code for f in report.findings]


@pytest.mark.parametrize(
    "loss", [F.mse_loss, F.l1_loss, lambda out, y: (out - y).clamp(-9, 9).square().mean()]
)
def test_targets_are_used_though_they_make_no_difference_beside_very_large_outputs(loss):
    model = nn.Sequential(nn.Linear(X.shape[1], 1))
    nn.init.constant_(model[0].bias, -3e9)
    given = program(model, loss, (X, X[:, :1]), batch_size=16)
    assert given.form.targets == "one" and given.form.answer is not None


class SecondOfBatch:
    def method(self, out, batch):
        return (out - batch[1]).square().mean()


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, batch: (out - batch[1]).square().mean(),
        functools.partial(lambda power, out, batch: (out - batch[1]).pow(power).mean(), 2),
        SecondOfBatch().method,
    ],
)
def test_a_loss_of_outputs_and_batch_is_not_given_the_targets_alone(loss):
    """The second row of the targets would do as well, by broadcasting."""
    train = DataLoader(TensorDataset(X, X), batch_size=16)
    given = program(network(X.shape[1]), loss, train)
    inputs, targets = given.examples(8)
    outputs = given.form.run(given.model, inputs)
    expected = (outputs - targets).square().mean()
    torch.testing.assert_close(given.loss(outputs, targets), expected)


@pytest.mark.parametrize("train", [X, DataLoader(TensorDataset(X), batch_size=16), (X, Y)])
def test_inputs_are_the_targets_where_there_are_no_others(train):
    given = program(auto_encoder(), lambda out, x: ((out - x) ** 2).mean(), train, batch_size=16)
    inputs, targets = given.examples()
    assert torch.equal(inputs, targets) and given.form.answer is not None


class Drawn(nn.Module):
    """A code that is drawn: what is told again, with the mean and the logarithm of the variance."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = network(4), network(6, 2)

    def forward(self, x):
        mean, log = self.encoder(x).chunk(2, 1)
        drawn = mean + torch.randn_like(mean) * (0.5 * log).exp() if self.training else mean
        return self.decoder(drawn), mean, log


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_a_code_that_is_kept_near_a_prior_is_not_compared_with_what_needs_no_code(prior):
    def loss(outputs, x):
        out, mean, log = outputs
        kept = (mean.square() + log.exp() - log - 1).sum() / 2
        return ((out - x).square().sum() + prior * kept) / len(x)

    given = program(Drawn(), loss, X, batch_size=16)
    assert reads_more_than_answers(given) == (prior > 0)
    report = ravine.examine(Drawn(), loss, X, optimizer=adam, batch_size=16, epochs=25)
    assert ("RVN-T07" in {f.code for f in report.findings}) == (prior == 0)


class TwoHeads(nn.Module):
    def __init__(self, mixing=False):
        super().__init__()
        self.body, self.heads, self.mixing = (
            network(8),
            nn.ModuleList(map(nn.Linear, (8, 8), (2, 1))),
            mixing,
        )

    def forward(self, x):
        h = self.body(x)
        h = h - h.mean(0) if self.mixing else h
        return {"kind": self.heads[0](h), "size": self.heads[1](h)}


def both(outputs, targets):
    kinds = F.cross_entropy(outputs["kind"], targets["kind"])
    return kinds + F.mse_loss(outputs["size"], targets["size"])


def test_several_outputs_and_targets_are_packed_and_probed():
    train = loader([(x, {"kind": y, "size": x[:1]}) for x, y in zip(X, Y, strict=True)])
    given = program(TwoHeads(), both, train)
    assert given.form.targets == "several" and given.examples()[1].dtype == torch.uint8
    one = TwoHeads()
    one.load_state_dict(given.model.state_dict())
    expected = both(one(X), {"kind": Y, "size": X[:, :1]})
    inputs, targets = given.examples()
    found = given.loss(given.model(inputs), targets)
    assert float(found.detach()) == pytest.approx(float(expected.detach()))
    report = ravine.examine(TwoHeads(True), both, train, optimizer=adam, epochs=1, trials=False)
    assert report.findings[0].code == "RVN-I01" and report.checks.failed == ()


@pytest.mark.parametrize("sizes", [16, [20, 30, 14], 32])
def test_tensors_in_a_list_are_the_batches_of_a_step(sizes):
    seen = set()

    def step(model, batch):
        seen.add(batch.shape)
        return (model(batch) - batch).square().mean()

    batches = list(X.split(sizes))
    given = program(auto_encoder(), train=batches, step=step)
    assert seen <= {batch.shape for batch in batches} and len(given.train) == len(batches)


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("targets", [Y, X[:, :2]])
def test_inputs_and_targets_in_a_list_are_examples(targets, batch_size):
    loss = F.cross_entropy if targets is Y else F.mse_loss

    def step(model, batch):
        return loss(model(batch[0]), batch[1])

    given = program(network(), train=[X, targets], step=step, batch_size=batch_size)
    assert len(given.train) == (4 if batch_size else 1)


class TwoNumbers(nn.Module):
    """Two numbers from one body, as a tuple, a dict or a list."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.kind = nn.Sequential(network(32), nn.ReLU()), kind
        self.heads = nn.ModuleList([nn.Linear(32, 1), nn.Linear(32, 1)])

    def forward(self, x):
        one, two = (head(self.body(x)) for head in self.heads)
        return {"tuple": (one, two), "dict": {"one": one, "two": two}}.get(self.kind, [one, two])


def examine_two_numbers(kind, *, scale, lr):
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    one, two = (2 * x[:, :1] + x[:, 1:2]).tanh(), scale * (x[:, 2:3] - x[:, 3:4].abs())
    targets = {"tuple": (one, two), "dict": {"one": one, "two": two}}
    y = targets.get(kind, [one, two])
    names = ("one", "two") if kind == "dict" else (0, 1)

    def loss(out, y):
        return sum(F.mse_loss(out[name], y[name]) for name in names)

    return ravine.examine(
        TwoNumbers(kind),
        loss,
        (x, y),
        batch_size=20,
        epochs=6,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=lr),
    )


@pytest.mark.parametrize("kind", ["tuple", "dict", "list"])
def test_targets_of_very_different_size_are_called_so(kind):
    """At a thousand times the rate the large ones are learned, too: that is no low rate."""
    found = examine_two_numbers(kind, scale=1000.0, lr=1e-3).findings
    assert found[0].cause == "target-scale" and found[0].severity == "warning"
    assert "gradient of heads.0.weight over that of heads.1.weight" in found[0].evidence[0].name


@pytest.mark.parametrize("kind", ["tuple", "dict", "list"])
def test_a_low_rate_is_called_so_where_targets_are_of_one_size(kind):
    found = examine_two_numbers(kind, scale=1.0, lr=1e-6).findings
    assert found[0].cause == "learning-rate-low"
    assert "target-scale" not in {f.cause for f in found}


def test_a_graph_whose_rows_are_no_examples_is_one_batch():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x, edges):
            return self.two(edges @ F.relu(self.one(edges @ x)))

    edges = torch.eye(64) / 2 + torch.eye(64).roll(1, 0) / 2
    given = program(Graph(), F.cross_entropy, (X, edges, Y))
    assert given.form.whole is not None and len(given.train) == 1


def test_images_and_boxes_of_any_number_are_whole_batches():
    class Boxes(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(6, 4)

        def forward(self, images, targets):
            pairs = zip(images, targets, strict=True)
            return {"boxes": sum(((self.net(x) - t["boxes"]) ** 2).mean() for x, t in pairs)}

    rows = [(x, {"boxes": torch.ones(1 + i % 3, 4)}) for i, x in enumerate(X)]
    train = DataLoader(rows, 16, collate_fn=lambda some: tuple(zip(*some, strict=True)))
    step = lambda model, batch: sum(model(*batch).values())  # noqa: E731
    report = ravine.examine(
        Boxes(), step=step, batches=train, optimizer=adam, epochs=3, trials=False
    )
    assert (
        report.checks.failed == () and [f for f in report.findings if f.severity == "error"] == []
    )


# Modules that train themselves


class Lightning(nn.Module):
    """As a LightningModule is written."""

    automatic_optimization = True

    def __init__(self, configured=None):
        super().__init__()
        self.net, self.configured = network(), configured

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return {"loss": loss}

    def log(self, name, value):
        raise RuntimeError("there is no trainer")

    def configure_optimizers(self):
        optimizer = adam(self.parameters())
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step / 5))
        return {"list": [optimizer], "pair": ([optimizer], [schedule])}.get(
            self.configured, optimizer
        )


@pytest.mark.parametrize("configured", [None, "list", "pair"])
def test_a_lightning_module_brings_its_own_step_and_optimizer(configured):
    train = loader(list(zip(X, Y, strict=True)))
    module = Lightning(configured)
    given = program(module, train, optimizer=None)
    assert losses(given) == pytest.approx(USUAL, rel=1e-5)
    assert "log" not in vars(module)
    manual = Lightning()
    manual.automatic_optimization = False
    with pytest.raises(InputError, match="by hand"):
        program(manual, train, optimizer=None)


def test_next_tokens_that_a_model_moves_itself_are_targets_one_place_later():
    class Language(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.words, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)

        def forward(self, input_ids, labels=None):
            logits = self.head(self.words(input_ids))
            if labels is None:
                return Output(logits=logits)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
            return Output(loss=loss, logits=logits)

    train = loader([{"input_ids": row, "labels": row} for row in TOKENS])
    given = program(Language(), None, train)
    inputs, targets = given.examples()
    assert torch.equal(targets[:, :-1], inputs[:, 1:]) and bool((targets[:, -1] == -100).all())
    start = ravine.examine(Language(), None, train, optimizer=adam, epochs=1, trials=False)
    assert start.checks.failed == () and start.left_out == ()


# Budgets


def test_without_time_nothing_is_tried_and_it_is_said():
    report = ravine.examine(
        network(),
        F.cross_entropy,
        (X, Y),
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-6),
        batch_size=16,
        epochs=3,
        minutes=1e-6,
    )
    assert any("training after step 1" in part for part in report.left_out)
    assert any("trial of" in part for part in report.left_out)


def test_a_program_under_autocast_is_examined_like_any_other():
    def step(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(batch[0]), batch[1])

    report = ravine.examine(
        network(), step=step, batches=(X, Y), batch_size=16, optimizer=adam, epochs=2, trials=False
    )
    assert (
        report.checks.failed == () and [f for f in report.findings if f.severity == "error"] == []
    )


def test_what_runs_in_no_way_is_refused_with_what_was_tried():
    with pytest.raises(
        InputError, match=r"loss\(model\(\*\*batch\), batch\): KeyError.*step="
    ) as raised:
        program(Wrapped("output"), lambda out, y: y["size"], {"features": X, "kind": Y})
    assert raised.value.exit_code == 2


def triplet(out, y):
    """Each example with the nearest of another class and the farthest of its own."""
    far, same = torch.cdist(out, out), y[:, None] == y
    own = far.masked_fill(~same, 0).amax(1)
    return (own - far.masked_fill(same, 1e9).amin(1) + 0.2).relu().mean()


def spread_in_classes(out, y):
    within = sum(out[y == k].var(0, correction=0).sum() for k in y.unique())
    return within / out.var(0).sum()


def contrastive(out, y):
    like = F.normalize(out, dim=1) @ F.normalize(out, dim=1).T
    return F.mse_loss(like, (y[:, None] == y).float())


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (triplet, False),
        (spread_in_classes, False),
        (contrastive, False),
        (F.cross_entropy, True),
        (lambda out, y: F.mse_loss(out, F.one_hot(y, 3).float()), True),
        (lambda out, y: -out.softmax(1)[torch.arange(len(y)), y].mean(), True),
    ],
)
def test_outputs_stand_for_classes_only_where_it_matters_which_is_which(loss, told):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    y = Y + (X[:, 2] > 1).long()
    given = program(model, loss, (X, y), batch_size=16)
    assert (given.form.answer is not None) == told
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.zero_()
    assert program(model, F.cross_entropy, (X, y), batch_size=16).form.answer is not None


@pytest.mark.parametrize("off_scale", [False, True])
def test_what_a_step_gives_to_the_model_is_standardized_where_it_is_off_scale(off_scale):
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    inputs = x * torch.tensor([1.0, 1, 1, 1, 1, 3000]) + 50 if off_scale else x
    batches = list(zip(inputs.split(20), (x[:, 0] + x[:, 1] > 0).long().split(20), strict=True))

    def step(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    report = ravine.examine(net, step=step, batches=batches, optimizer=adam, epochs=10)
    found = [f for f in report.findings if f.cause == "input-scale" and f.severity != "note"]
    assert [f.code for f in found] == ["RVN-X11"] * off_scale
    assert all(f.trial.verdict == "helped" and f.trial.after < 0.5 < f.trial.before for f in found)


def test_a_step_that_gives_no_numbers_or_several_shapes_is_not_standardized():
    def step(model, batch):
        return model(batch).square().mean()

    words = nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 1))
    given = program(words, train=[TOKENS[:32], TOKENS[32:]], step=step)
    assert called_on(given) is None
    with pytest.raises(CannotTryError):
        standardize_inputs.apply(given)
    pooled = nn.Sequential(nn.AdaptiveAvgPool1d(2), nn.Linear(2, 1))
    given = program(pooled, train=[(X[:32],), (X[32:, :3],)], step=lambda m, b: step(m, *b))
    assert called_on(given) is None
