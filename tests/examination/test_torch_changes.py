"""Every change of a foreign program does what it says, on optimizers and loaders of all kinds, and
nothing else.
"""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ravine.examination import torch_model_changes, torch_training_changes
from ravine.examination.subject import CannotTryError
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_change import TorchChange, apply_treatments
from ravine.examination.torch_data import TensorData
from ravine.examination.torch_model_changes import (
    average_loss,
    pair_loss,
    reinitialize,
    remove_dropout,
    replace_activations,
    reset_normalization,
    scale_start,
    standardize_inputs,
    standardize_targets,
    use_binary_cross_entropy,
    use_class_outputs,
    use_cross_entropy,
    use_linear_output,
    use_sigmoid_output,
)
from ravine.examination.torch_program import train_program
from ravine.examination.torch_settings import CURES_BY_CAUSE, STRENGTHS_BY_CAUSE
from ravine.examination.torch_training_changes import (
    clip_gradient,
    draw_classes_equally,
    scale_learning_rate,
    set_batch_size,
    set_steps,
    set_weight_decay,
    shuffle_examples,
    train_all_parameters,
    use_adam,
)
from ravine.finding import TRIABLE_CHANGES
from ravine.statistics import mean_and_sd

RNG = torch.Generator().manual_seed(0)
X = torch.randn(100, 4, generator=RNG) * torch.tensor([1.0, 50.0, 0.01, 1.0]) + torch.tensor(
    [0.0, 500.0, 0.0, 3.0]
)
Y = (X[:, 0] > 0).long()
R = 40 * X[:, :1] + 700


def network(outputs=2, *more):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs), *more)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


def program(model=None, *, loss=F.cross_entropy, train=(X, Y), **more):
    batch, others = (None, None) if isinstance(train, DataLoader) else (10, train)
    given = {"optimizer": sgd, "epochs": 2, "batch_size": batch, "validation": others} | more
    return read_program(network() if model is None else model, loss, train, **given)


def grouped():
    """A model whose optimizer holds two groups of different rates, and has made steps already."""
    model = network()
    optimizer = torch.optim.Adam(
        [
            {"params": model[0].parameters(), "lr": 1e-3},
            {"params": model[2].parameters(), "lr": 1e-2, "weight_decay": 0.1},
        ]
    )
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(X / 100), Y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def groups(given):
    return given.build()[1].param_groups


class Pairs(Dataset):
    """Examples that a loader must fetch one by one."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], Y[i]


ARGUMENTS = {
    "scale_learning_rate": 10,
    "set_weight_decay": 0.0,
    "clip_gradient": 1.0,
    "use_adam": 0.01,
    "set_steps": 30,
    "set_batch_size": 5,
    "replace_activations": "relu",
}
CHANGES = {
    name: made if isinstance(made, TorchChange) else made(ARGUMENTS[name])
    for module in (torch_training_changes, torch_model_changes)
    for name, made in vars(module).items()
    if isinstance(made, TorchChange)
    or getattr(made, "__annotations__", {}).get("return") is TorchChange
}


def test_every_path_that_a_finding_may_name_has_a_change():
    assert set(ARGUMENTS) < set(CHANGES) and len(CHANGES) == 25
    assert {made.change.path for made in CHANGES.values()} == set(TRIABLE_CHANGES)
    for table in (STRENGTHS_BY_CAUSE, CURES_BY_CAUSE):
        for strengths in table.values():
            assert all(made.change.path in TRIABLE_CHANGES for s in strengths for made in s)


@pytest.mark.parametrize(
    ("made", "path", "value"),
    [
        (scale_learning_rate(10), "lr", "x10"),
        (scale_learning_rate(0.001), "lr", "x0.001"),
        (set_weight_decay(0.0), "decay", 0.0),
        (use_adam(), "optimizer", "adam"),
        (use_adam(0.01), "optimizer", "adam 0.01"),
        (train_all_parameters, "optimizer", "all parameters"),
        (set_steps(30), "steps", 30),
        (standardize_inputs, "input.scale", "standardize"),
        (remove_dropout, "dropout", 0),
        (use_sigmoid_output, "output", "sigmoid"),
        (replace_activations("tanh"), "activation", "tanh"),
        (reinitialize, "init", "default"),
        (scale_start, "init", "unit variance"),
        (reset_normalization, "normalization", "usual"),
        (average_loss, "loss", "mean"),
        (draw_classes_equally, "loss", "balanced"),
        (use_binary_cross_entropy, "loss", "binary cross entropy"),
        (use_class_outputs, "loss", "cross entropy, one output for each class"),
    ],
)
def test_a_change_is_named_as_findings_name_it(made, path, value):
    assert (made.change.path, made.change.value) == (path, value)


# Settings


def test_a_multiple_of_the_rate_is_one_of_every_group_s():
    model, optimizer = grouped()
    given = program(model, optimizer=optimizer)
    assert [g["lr"] for g in groups(scale_learning_rate(10).apply(given))] == pytest.approx(
        [1e-2, 1e-1]
    )
    assert [g["lr"] for g in groups(scale_learning_rate(0.1).apply(given))] == pytest.approx(
        [1e-4, 1e-3]
    )
    twice = apply_treatments(given, (scale_learning_rate(10), scale_learning_rate(10)))
    assert [g["lr"] for g in groups(twice)] == pytest.approx([0.1, 1])
    assert [g["lr"] for g in optimizer.param_groups] == [1e-3, 1e-2]  # the user's own


def test_a_rate_that_is_a_tensor_or_that_a_schedule_began_with_is_multiplied_too():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1))
    torch.optim.lr_scheduler.StepLR(optimizer, 5)
    (group,) = groups(scale_learning_rate(10).apply(program(model, optimizer=optimizer)))
    assert float(group["lr"]) == pytest.approx(1.0) and float(group["initial_lr"]) == pytest.approx(
        1.0
    )
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1)


def test_decay_is_set_in_every_group_and_the_state_is_kept():
    model, optimizer = grouped()
    built, stepper = set_weight_decay(0.0).apply(program(model, optimizer=optimizer)).build()
    assert [g["weight_decay"] for g in stepper.param_groups] == [0.0, 0.0]
    for mine, theirs in zip(model.parameters(), built.parameters(), strict=True):
        assert torch.equal(optimizer.state[mine]["exp_avg"], stepper.state[theirs]["exp_avg"])
        assert mine is not theirs


def test_clipping_makes_steps_no_longer_than_the_limit():
    given = program(
        network(1), loss=F.mse_loss, train=(X, R), optimizer=lambda p: torch.optim.SGD(p, lr=1.0)
    )
    clipped = clip_gradient(0.25).apply(given)
    run = train_program(clipped, seed=0, steps=1)
    moved = [
        (a - b).detach()
        for a, b in zip(run.model.parameters(), given.model.parameters(), strict=True)
    ]
    assert float(torch.cat([m.flatten() for m in moved]).norm()) == pytest.approx(0.25, rel=1e-3)


def test_more_steps_are_whole_passes():
    given = program()
    assert given.steps == 20
    assert set_steps(60).apply(given).steps == 60 and set_steps(41).apply(given).steps == 50


def test_another_batch_keeps_the_passes():
    given = program()
    small, large = set_batch_size(4).apply(given), set_batch_size(10_000).apply(given)
    assert [len(x) for x, _ in small.train.epoch()] == [4] * 25 and small.epochs == 2
    assert [len(x) for x, _ in large.train.epoch()] == [100]


def test_shuffling_makes_another_order_in_every_pass():
    ordered = program(train=DataLoader(TensorDataset(X, Y), batch_size=10))
    assert not ordered.train.is_shuffled
    shuffled = shuffle_examples.apply(ordered)
    passes = [torch.cat([x for x, _ in shuffled.train.epoch()]) for _ in range(2)]
    assert not torch.equal(*passes) and all(
        torch.equal(p[:, 0].sort()[0], passes[0][:, 0].sort()[0]) for p in passes
    )
    fixed = torch.cat([x for x, _ in ordered.train.epoch()])
    assert isinstance(ordered.train, TensorData) and torch.equal(fixed, ordered.train.inputs)


def test_balanced_draws_take_every_class_equally_often():
    y = torch.tensor([0] * 1800 + [1] * 150 + [2] * 50)
    given = program(network(3), train=(torch.randn(2000, 4), y), batch_size=2000)
    balanced = draw_classes_equally.apply(given).train
    drawn = torch.cat([t for _ in range(5) for _, t in balanced.epoch()])
    counts = torch.bincount(drawn)
    # 10,000 draws at 1/3: a standard deviation of 47
    assert len(drawn) == 10_000 and bool(((counts - 10_000 / 3).abs() < 5 * 47).all())


def test_dropout_goes_from_modules_functions_and_attributes():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.run = nn.LSTM(4, 8, 2, dropout=0.5, batch_first=True)
            self.attend = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
            self.drop, self.out = nn.Dropout(0.5), nn.Linear(8, 2)

        def forward(self, x):
            x = self.run(x[:, None])[0]
            x = self.drop(self.attend(x, x, x)[0])[:, 0]
            return self.out(F.dropout(x, 0.5, self.training))

    model = Mixed()
    whole, _ = remove_dropout.apply(program(model)).build()
    whole.train()
    assert torch.equal(whole(X), whole(X)) and not torch.equal(model(X), model(X))
    assert model.run.dropout == model.attend.dropout == model.drop.p == 0.5


def test_normalization_gets_the_usual_momentum_and_epsilon():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=1e-4, eps=10.0), nn.Linear(8, 2)
    )
    built, _ = reset_normalization.apply(program(model)).build()
    usual = nn.BatchNorm1d(8)
    assert (built[1].momentum, built[1].eps) == (usual.momentum, usual.eps) and model[
        1
    ].momentum == 1e-4


# Scales


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_scaled_inputs_are_inputs_standardized_by_hand(kind):
    x = X.to(kind)
    sd = x.std(0, correction=0)
    model = network().to(kind)
    scaled = standardize_inputs.apply(program(model, train=(x, Y)))
    by_hand = program(model, train=((x - x.mean(0)) / sd, Y))
    run, known = train_program(scaled, seed=0), train_program(by_hand, seed=0)
    assert run.losses == pytest.approx(known.losses, rel=1e-4 if kind == torch.float32 else 1e-10)
    assert run.last.losses == pytest.approx(known.last.losses, rel=1e-3)
    assert [n for n, _ in scaled.model.named_parameters()] == [
        f"model.{n}" for n, _ in model.named_parameters()
    ]


def test_images_are_scaled_by_channel_and_constants_only_moved():
    images = (
        torch.randn(20, 3, 5, 5, generator=RNG) * torch.tensor([1.0, 9.0, 0.0]).reshape(3, 1, 1) + 7
    )
    mean, sd = mean_and_sd(images)
    made = (images - mean) / sd
    assert mean.shape == (3, 1, 1)
    assert torch.allclose(made.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(
        made.std((0, 2, 3), correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5
    )
    sequences = torch.randn(20, 6, 2, generator=RNG) + torch.tensor([5.0, -5.0])
    mean, _ = mean_and_sd(sequences)
    assert torch.allclose(mean.squeeze(), sequences.mean((0, 1)))


def test_scaled_targets_are_targets_standardized_by_hand_and_answers_keep_their_units():
    x = X / X.std(0)
    given = program(network(1), loss=F.mse_loss, train=(x, R))
    mean, sd = R.mean(), R.std(correction=0)
    by_hand = program(network(1), loss=F.mse_loss, train=(x, (R - mean) / sd))
    scaled = standardize_targets.apply(given)
    run, known = train_program(scaled, seed=0), train_program(by_hand, seed=0)
    assert run.losses == pytest.approx(known.losses, rel=1e-3)
    with torch.no_grad():
        assert torch.allclose(run.model(x), known.model(x) * sd + mean, rtol=1e-4)


WHOLE_NUMBERS = {
    "model": nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)),
    "train": (torch.randint(0, 9, (100, 3)), Y),
}
UNPAIRED = {
    "model": network(3),
    "loss": lambda o, t: (o.mean(1) - t[:, 0]).square().mean(),
    "train": (X, R),
}


@pytest.mark.parametrize(
    ("made", "arguments", "why"),
    [
        (standardize_inputs, WHOLE_NUMBERS, "whole numbers"),
        (standardize_targets, {}, "whole numbers"),
        (standardize_targets, UNPAIRED, "number by number"),
        (
            standardize_targets,
            {"model": network(1), "loss": F.mse_loss, "train": (X, 0 * R)},
            "equal",
        ),
        (use_linear_output, {}, "no activation"),
        (use_sigmoid_output, {}, "no activation"),
        (replace_activations("relu"), {"model": nn.Linear(4, 2)}, "no activation"),
        (set_batch_size(5), {"train": DataLoader(Pairs(), batch_size=10)}, "loader"),
        (shuffle_examples, {"train": DataLoader(Pairs(), batch_size=10)}, "loader"),
        (draw_classes_equally, {"train": DataLoader(Pairs(), batch_size=10)}, "loader"),
    ],
)
def test_what_cannot_be_tried_says_why(made, arguments, why):
    with pytest.raises(CannotTryError, match=why):
        made.apply(program(**arguments))


# The start


def spoiled(module):
    for p in module.parameters():
        nn.init.constant_(p, 20.0)
    return module


def test_unit_variance_gives_every_layer_outputs_of_variance_one():
    model = spoiled(
        nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(64, 8),
            nn.ReLU(),
            nn.Linear(8, 2),
        )
    )
    x = 100 * torch.rand(60, 1, 8, 8, generator=RNG)
    y = torch.arange(60) % 2
    given = scale_start.apply(program(model, train=(x, y)))
    start = train_program(given, seed=0, steps=0).model
    assert isinstance(start, nn.Sequential)
    made = []
    for module in start:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, i, o: made.append(float(o.detach().std())))
    start(given.examples(64)[0])
    assert made == pytest.approx([1.0] * 4, rel=1e-4)


def test_a_default_start_differs_by_seed_and_is_the_same_by_the_same_seed():
    model = spoiled(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)))
    model[1].running_mean.fill_(3.0)
    given = reinitialize.apply(program(model))
    starts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        starts.append(given.build()[0].state_dict())
    assert all(torch.equal(v, starts[1][k]) for k, v in starts[0].items())
    assert not torch.equal(starts[0]["0.weight"], starts[2]["0.weight"])
    # He: variance 2 / fan in, biases 0; normalization as new, with its statistics
    assert bool((starts[0]["0.bias"] == 0).all()) and bool((starts[0]["1.weight"] == 1).all())
    assert bool((starts[0]["1.running_mean"] == 0).all())
    assert bool((model[0].get_parameter("weight") == 20).all())


def test_a_default_start_has_the_variance_of_its_rule():
    class Three(nn.ModuleDict):
        def forward(self, x):
            return self["wide"](x)

    model = Three(
        {"wide": nn.Linear(400, 300), "run": nn.RNN(4, 50), "words": nn.Embedding(500, 64, 0)}
    )
    model.own = nn.Parameter(torch.zeros(300, 500))  # of a module that is none of torch's
    x, y = torch.randn(70, 400, generator=RNG), torch.arange(70) % 300
    torch.manual_seed(0)
    built, _ = reinitialize.apply(program(model, train=(x, y))).build()
    assert float(built["wide"].weight.detach().std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    recurrent = built["run"].weight_hh_l0.detach()
    assert torch.allclose(recurrent @ recurrent.T, torch.eye(50), atol=1e-5)
    assert float(built["words"].weight[1:].detach().std()) == pytest.approx(1 / 8, rel=0.02)
    assert bool((built["words"].weight[0] == 0).all())  # what pads stays nothing
    assert float(built.own.detach().std()) == pytest.approx(math.sqrt(2 / 800), rel=0.02)


# Optimizers


@pytest.mark.parametrize("instance", [True, False])
def test_another_optimizer_holds_what_the_own_one_held(instance):
    model = network()

    def own(parameters):
        return torch.optim.SGD(list(parameters)[2:], lr=0.1, momentum=0.9)

    given = program(model, optimizer=own(model.parameters()) if instance else own)
    for adam, lr in ((use_adam(), 1e-3), (use_adam(0.01), 0.01)):
        built, stepper = apply_treatments(given, (reinitialize, adam)).build()
        assert type(stepper) is torch.optim.Adam and stepper.param_groups[0]["lr"] == lr
        held = [p for g in stepper.param_groups for p in g["params"]]
        assert [id(p) for p in held] == [id(p) for p in list(built.parameters())[2:]]
        assert not torch.equal(built[0].weight, model[0].weight)  # the other change is made as well


@pytest.mark.parametrize("instance", [True, False])
def test_all_parameters_are_held_and_trained(instance):
    model = network()
    model[0].requires_grad_(False)

    def own(parameters):
        return torch.optim.SGD(list(parameters)[2:], lr=0.1, momentum=0.9)

    given = program(model, optimizer=own(model.parameters()) if instance else own)
    run = train_program(train_all_parameters.apply(given), seed=0)
    assert all(
        not torch.equal(a, b)
        for a, b in zip(run.model.parameters(), model.parameters(), strict=True)
    )
    assert not model[0].weight.requires_grad
    untouched = train_program(given, seed=0).model
    assert torch.equal(untouched[0].weight, model[0].weight)


def test_weights_that_are_whole_numbers_do_not_keep_all_others_from_being_trained():
    model = network()
    model.register_parameter("codes", nn.Parameter(torch.arange(3), requires_grad=False))
    given = program(model, optimizer=lambda p: sgd(list(p)[1:]))
    built, _ = train_all_parameters.apply(given).build()
    assert all(p.requires_grad for p in built.parameters() if p.is_floating_point())


# Loss and output


@pytest.mark.parametrize(
    ("other", "own", "known", "outputs", "targets"),
    [
        (average_loss, nn.CrossEntropyLoss(reduction="sum"), F.cross_entropy, 2, Y),
        (
            pair_loss,
            lambda o, t: (o - t).square().mean(),
            lambda o, t: F.mse_loss(o.squeeze(1), t),
            1,
            R.squeeze(1),
        ),
        (use_cross_entropy, lambda o, t: -o.softmax(1)[:, 0].mean(), F.cross_entropy, 2, Y),
        (
            use_binary_cross_entropy,
            lambda o, t: o.square().mean(),
            lambda o, t: F.binary_cross_entropy_with_logits(o.squeeze(1), t.float()),
            1,
            Y,
        ),
    ],
)
def test_another_loss_is_that_loss(other, own, known, outputs, targets):
    given = program(network(outputs), loss=own, train=(X, targets))
    made, out = other.apply(given), torch.randn(10, outputs, generator=RNG)
    assert float(made.loss(out, targets[:10])) == pytest.approx(
        float(known(out, targets[:10])), rel=1e-5
    )


def test_an_output_is_linear_or_logistic_instead():
    model = network(2, nn.Softmax(1))
    body = model[:3]
    given = program(model)
    assert torch.equal(use_linear_output.apply(given).model(X), body(X))
    assert torch.equal(use_sigmoid_output.apply(given).model(X), torch.sigmoid(body(X)))


def test_an_activation_is_another_in_training_and_in_evaluation():
    model, by_hand = network(), network()
    by_hand[1] = nn.Tanh()
    replaced = replace_activations("tanh").apply(program(model))
    run, known = train_program(replaced, seed=3), train_program(program(by_hand), seed=3)
    assert run.losses == known.losses and run.evaluations == known.evaluations


def test_numbers_become_classes_with_an_output_for_each():
    targets = (torch.arange(100) % 3).float()[:, None] * 10
    given = program(network(1), loss=F.mse_loss, train=(X / 100, targets))
    made = use_class_outputs.apply(given)
    model = made.model
    assert model.train()(X).shape == (100, 3)
    said = model.eval()(X)
    assert said.shape == (100, 1) and set(said.unique().tolist()) <= {0.0, 10.0, 20.0}
    out = torch.randn(6, 3, generator=RNG)
    known = F.cross_entropy(out, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert float(made.loss(out, targets[:6])) == pytest.approx(float(known))
    assert made.evaluation_loss is F.mse_loss and given.model[2].out_features == 1
    with pytest.raises(CannotTryError, match="last layer"):
        use_class_outputs.apply(program())
    fixed = network(1)
    with pytest.raises(CannotTryError, match="optimizer"):
        use_class_outputs.apply(
            program(fixed, loss=F.mse_loss, train=(X, targets), optimizer=sgd(fixed.parameters()))
        )


# Nothing else


@pytest.mark.parametrize("name", sorted(CHANGES))
@pytest.mark.parametrize("training", [True, False])
def test_no_change_touches_the_user_s_model_optimizer_examples_or_random_numbers(name, training):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8),
        nn.BatchNorm1d(8),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(8, 1),
        nn.Sigmoid(),
    )
    model[0].bias.requires_grad_(False)
    model.train(training)
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters()}, {"params": model[4].parameters(), "lr": 1e-2}]
    )
    x, y = X.clone(), X[:, :1].clone()
    given = program(model, loss=F.mse_loss, train=(x, y), optimizer=optimizer)
    before = copy.deepcopy(
        (model.state_dict(), optimizer.state_dict(), x, y, torch.get_rng_state())
    )
    if name == "use_class_outputs":  # which an optimizer that holds the old last layer refuses
        given = replace(given, optimizer=sgd, train=replace(given.train, targets=y.round()))
    refused = ("use_cross_entropy", "use_binary_cross_entropy", "remove_example_norms")
    if name in refused:  # numbers are no classes, and no norm is of one example
        with pytest.raises(CannotTryError):
            train_program(CHANGES[name].apply(given), seed=0, steps=12)
    else:
        assert not train_program(CHANGES[name].apply(given), seed=0, steps=12).has_diverged
    after = (model.state_dict(), optimizer.state_dict(), x, y, torch.get_rng_state())
    assert all(torch.equal(v, after[0][k]) for k, v in before[0].items()) and before[1] == after[1]
    assert all(torch.equal(a, b) for a, b in zip(before[2:], after[2:], strict=True))
    assert (
        model.training == training
        and [p.requires_grad for p in model.parameters()] == [True, False] + [True] * 4
    )
    assert all(p.grad is None for p in model.parameters()) and isinstance(given.train, TensorData)


@pytest.mark.parametrize(
    ("change", "outputs", "targets"),
    [
        (use_cross_entropy, torch.randn(8, 1), torch.rand(8, 1)),  # of one class it is always 0
        (use_cross_entropy, torch.randn(8, 3), 5 * torch.randn(8, 3)),
        (use_cross_entropy, torch.randn(8), torch.zeros(8).long()),
        (use_binary_cross_entropy, torch.randn(8, 1), torch.tensor([[0.0], [7.0]] * 4)),
    ],
)
def test_a_loss_of_classes_refuses_targets_that_are_none(change, outputs, targets):
    loss = change.apply(program()).loss
    with pytest.raises(CannotTryError):
        loss(outputs, targets)


def test_a_share_for_each_class_is_as_good_as_its_number():
    loss = use_cross_entropy.apply(program()).loss
    outputs = torch.randn(len(Y), 2, generator=RNG)
    shares = F.one_hot(Y, 2).float()
    torch.testing.assert_close(loss(outputs, shares), F.cross_entropy(outputs, Y))
    with pytest.raises(CannotTryError, match="no classes"):  # of labels a row may have several
        loss(outputs, torch.ones(len(Y), 2))
