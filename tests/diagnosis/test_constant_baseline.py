"""The best constant answer against closed forms."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.constant_baseline import find_best_constant
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_results import constant_losses

RNG = torch.Generator().manual_seed(0)
X = torch.randn(90, 4, generator=RNG)
Y = (X[:, 0] + 0.3 * torch.randn(90, generator=RNG) > 0).long()


def network(outputs=2, *more):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs), *more)


def program(model=None, *, loss=F.cross_entropy, train=(X, Y), **more):
    given = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), "batch_size": 10, "epochs": 3}
    return read_program(network() if model is None else model, loss, train, **given | more)


def constant_loss_of(targets, loss, outputs, *head):
    """Examples are evaluated in groups of one size, so that their mean is the loss."""
    examples = torch.randn(len(targets), 4, generator=RNG), targets
    given = program(network(outputs, *head), loss=loss, train=examples, validation=examples)
    return constant_losses(given)[1]


def entropy(shares):
    return -sum(p * math.log(p) for p in shares if p > 0)


RARE = torch.zeros(640).long().index_fill(0, torch.arange(0, 640, 160), 1)
THREE = torch.arange(640) % 8 // 4 + (torch.arange(640) % 8 == 7)  # shares 4/8, 3/8, 1/8
COUNTS = torch.poisson(torch.full((640, 1), 200.0), generator=RNG)
NUMBERS = torch.randn(640, 1, generator=RNG).exp() * 50 + 1000
YES = (torch.arange(640)[:, None] % 10 == 0).float()


def picked(out, y):
    return -out.gather(1, y[:, None]).log().mean()


@pytest.mark.parametrize(
    ("targets", "loss", "outputs", "head", "known"),
    [
        (THREE, F.cross_entropy, 3, (), entropy([0.5, 0.375, 0.125])),
        (RARE, F.cross_entropy, 2, (), entropy([1 / 160, 159 / 160])),
        (THREE, F.nll_loss, 3, (nn.LogSoftmax(1),), entropy([0.5, 0.375, 0.125])),
        (THREE, picked, 3, (nn.Softmax(1),), entropy([0.5, 0.375, 0.125])),
        (NUMBERS, F.mse_loss, 1, (), float(NUMBERS.var(correction=0))),
        (NUMBERS, F.l1_loss, 1, (), float((NUMBERS - NUMBERS.median()).abs().mean())),
        (
            COUNTS,
            nn.PoissonNLLLoss(),
            1,
            (),
            float(COUNTS.mean() - COUNTS.mean() * COUNTS.mean().log()),
        ),
        (YES, nn.BCELoss(), 1, (nn.Sigmoid(),), entropy([0.1, 0.9])),
        (YES, nn.BCEWithLogitsLoss(), 1, (), entropy([0.1, 0.9])),
        (YES.squeeze(1), lambda o, t: F.mse_loss(o.squeeze(1), t), 1, (), 0.09),
    ],
)
def test_the_best_constant_has_the_loss_of_the_closed_form(targets, loss, outputs, head, known):
    assert constant_loss_of(targets, loss, outputs, *head) == pytest.approx(known, rel=2e-3)


def test_weights_of_a_loss_count_in_its_best_constant():
    """Found inexactly, a constant that is easy to beat makes any remedy look good."""
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([25.0, 1.0]))
    best = find_best_constant(weighted, torch.zeros(640, 2), RARE)
    share = 1 / (25 * 159 + 1)
    assert best is not None and best.loss == pytest.approx(entropy([share, 1 - share]), rel=2e-3)
    light = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.02]))
    best = find_best_constant(light, torch.zeros(640, 1), YES)
    share = 0.02 * 0.1 / (0.02 * 0.1 + 0.9)
    known = entropy([share, 1 - share]) * (0.02 * 0.1 + 0.9)
    assert best is not None and best.loss == pytest.approx(known, rel=2e-3)


def test_it_is_fitted_on_training_examples_and_evaluated_on_the_others():
    train = torch.randn(640, 4, generator=RNG), torch.full((640, 1), 2.0)
    others = torch.randn(64, 4, generator=RNG), torch.full((64, 1), 5.0)
    given = program(network(1), loss=F.mse_loss, train=train, validation=others)
    assert constant_losses(given)[1] == pytest.approx(9.0, rel=2e-3)


def test_no_constant_where_the_loss_has_no_gradient_or_takes_several_outputs():
    assert math.isnan(constant_loss_of(NUMBERS, lambda o, t: F.mse_loss(o.detach(), t), 1))

    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    one = program(Two(4, 2), loss=lambda o, t: F.cross_entropy(o[0], t))
    assert constant_losses(one) == constant_losses(program(nn.Linear(4, 2)))
    both = program(Two(4, 2), loss=lambda o, t: F.cross_entropy(o[0], t) + o[1].square().mean())
    assert all(map(math.isnan, constant_losses(both)))


def test_looking_for_a_constant_leaves_model_and_random_numbers_as_they_are():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    given = program(model)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    constant_losses(given)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_answer_keeps_to_the_kind_of_the_outputs():
    logits = torch.randn(640, 3, generator=RNG)
    best = find_best_constant(
        F.cross_entropy, logits.softmax(1), THREE, output_kind="probabilities"
    )
    assert best is not None and best.output.sum() == pytest.approx(1)
    assert best.loss > entropy([0.5, 0.375, 0.125]) + 0.01  # that of free logits
    squares = find_best_constant(F.mse_loss, torch.rand(640, 1), NUMBERS, output_kind="0 to 1")
    assert squares is not None and squares.loss == pytest.approx(
        float((NUMBERS - 1).square().mean()), rel=1e-3
    )


def test_of_tokens_one_answer_holds_for_all_places():
    tokens = torch.arange(64).reshape(16, 4) % 4
    best = find_best_constant(
        lambda out, y: F.cross_entropy(out.movedim(-1, 1), y), torch.zeros(16, 4, 4), tokens
    )
    assert best is not None and best.output.shape == (1, 4)
    assert best.loss == pytest.approx(math.log(4), rel=1e-4)  # by place it would be 0


def test_there_is_no_best_constant_of_a_loss_that_falls_without_end():
    assert find_best_constant(lambda out, y: -F.mse_loss(out, y), NUMBERS, NUMBERS) is None
    assert find_best_constant(lambda out, y: out.mean(), torch.zeros(640, 2), THREE) is None


def test_training_examples_have_a_constant_answer_s_loss_of_their_own():
    """One positive of four in training, one of two elsewhere."""
    x = torch.zeros(40, 1)
    y, other = (torch.arange(40) % 4 == 0).float(), (torch.arange(40) % 2).float()
    given = read_program(
        nn.Sequential(nn.Linear(1, 1), nn.Flatten(0)),
        nn.BCEWithLogitsLoss(),
        (x, y),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        validation=(x, other),
        batch_size=8,
        epochs=1,
    )
    train = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    elsewhere = -(0.5 * math.log(0.25) + 0.5 * math.log(0.75))
    assert constant_losses(given) == pytest.approx((train, elsewhere), rel=1e-3)
