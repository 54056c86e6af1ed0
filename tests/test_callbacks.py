"""The callbacks of `ravine.callbacks`: each in a small run of its library, sound and with a fault,
skipped without it; and each with a stand-in for the library, which calls the hooks as it does.
"""

import sys
import types

import pytest
import torch
import torch.optim.optimizer as optimizer_hooks
from torch import nn

from ravine import callbacks
from ravine.errors import InputError


def data():
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    return x, (x[:, 0] > x[:, 1]).long()


def codes(callback):
    report = callback.report()
    assert report.checks.failed == ()
    return [f.code for f in report.findings if f.severity != "note"]


# Stand-ins


class StandIn:
    """A class that a callback derives from, as any of the libraries has it."""

    def __init__(self):
        self.is_library_ready = True


@pytest.fixture
def fresh_callbacks():
    """Callbacks that are made anew, before and after the test."""

    def forget():
        for name in callbacks.__all__:
            callbacks.__dict__.pop(name, None)

    forget()
    yield
    forget()


@pytest.fixture
def stand_in(monkeypatch, fresh_callbacks):
    """Make a library of one class, and the callback that is built on it."""

    def make(name, module, base):
        made = types.ModuleType(module)
        setattr(made, base, StandIn)
        monkeypatch.setitem(sys.modules, module.partition(".")[0], made)
        monkeypatch.setitem(sys.modules, module, made)
        return getattr(callbacks, name)

    return make


def loop(begin, step_loss, end, *, clear):
    """A training loop that calls hooks; without `clear` it forgets to clear gradients."""
    x, y = data()
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    begin(model, optimizer)
    for inputs, targets in zip(x.split(32), y.split(32), strict=True):
        if clear:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        step_loss(loss)
        loss.backward()
        optimizer.step()
    end()


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("library", ["lightning", "pytorch_lightning"])
def test_lightnings_hooks(stand_in, library, clear, capsys):
    made = stand_in("LightningCallback", library, "Callback")(quiet=True)
    assert StandIn in type(made).mro() and made.is_library_ready
    loop(
        lambda model, optimizer: made.on_train_start(
            types.SimpleNamespace(optimizers=[optimizer]), model
        ),
        lambda loss: made.on_before_backward(None, None, loss),
        lambda: made.on_train_end(None, None),
        clear=clear,
    )
    assert codes(made) == ([] if clear else ["RVN-L01"])
    assert capsys.readouterr().err == ""


class Labelled(nn.Module):
    """A model that returns its loss where it is given labels."""

    def __init__(self, as_tuple=False):
        super().__init__()
        self.net, self.as_tuple = nn.Linear(8, 2), as_tuple

    def forward(self, x, labels=None):
        logits = self.net(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        if self.as_tuple:
            return (logits,) if loss is None else (loss, logits)
        return {"loss": loss, "logits": logits}


@pytest.mark.parametrize("as_tuple", [True, False])
@pytest.mark.parametrize("clear", [True, False])
def test_hugging_faces_hooks(stand_in, clear, as_tuple, capsys):
    made = stand_in("HuggingFaceCallback", "transformers", "TrainerCallback")(quiet=True)
    (x, y), model = data(), Labelled(as_tuple)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    wrapper = types.SimpleNamespace(optimizer=optimizer)  # as accelerate does
    made.on_train_begin(None, None, None, model=model, optimizer=wrapper, lr_scheduler=None)
    for inputs, targets in zip(x.split(32), y.split(32), strict=True):
        if clear:
            optimizer.zero_grad()
        out = model(inputs, targets)
        (out[0] if as_tuple else out["loss"]).backward()
        optimizer.step()
    model(x[:2])  # without labels there is no loss
    made.on_train_end(None, None, None)
    assert codes(made) == ([] if clear else ["RVN-L01"])
    assert made.watcher.history.loss.summary.count == 8
    assert not model._forward_hooks


@pytest.mark.parametrize("fault", [False, True])
def test_keras_hooks(stand_in, fault):
    made = stand_in("KerasCallback", "keras.callbacks", "Callback")(quiet=True)
    made.model = nn.Linear(2, 1)
    made.on_train_begin()
    for step in range(20):
        made.model.zero_grad()
        made.model(torch.randn(3, 2)).sum().backward()
        with torch.no_grad():
            made.model.weight.add_(0.01)
        made.on_train_batch_end(
            step, {"loss": float("nan") if fault and step > 5 else 1 / (step + 1)}
        )
    made.on_train_end()
    assert codes(made) == (["RVN-N01"] if fault else [])
    made.model = object()
    with pytest.raises(InputError, match="KERAS_BACKEND=torch"):
        made.on_train_begin()


def test_an_exception_ends_watching(stand_in):
    made = stand_in("LightningCallback", "lightning", "Callback")(quiet=True)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    made.on_train_start(types.SimpleNamespace(optimizers=[optimizer]), model)
    made.on_exception(None, model, KeyboardInterrupt())
    made.on_train_end(None, model)
    assert not optimizer_hooks._global_optimizer_post_hooks
    assert made.report().findings == ()


def test_a_report_needs_a_training(stand_in):
    made = stand_in("LightningCallback", "lightning", "Callback")()
    with pytest.raises(InputError, match="training has not begun"):
        made.report()


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("LightningCallback", ("lightning", "pytorch_lightning")),
        ("HuggingFaceCallback", ("transformers",)),
        ("KerasCallback", ("keras", "keras.callbacks")),
    ],
)
def test_a_missing_library_is_named(monkeypatch, fresh_callbacks, name, modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    library = modules[-1].partition(".")[0].replace("_", "-")
    with pytest.raises(InputError, match=f"pip install {library}"):
        getattr(callbacks, name)


def test_a_callback_that_does_not_exist_is_no_attribute():
    assert not hasattr(callbacks, "SkorchCallback")
    assert set(callbacks.__all__) == {"LightningCallback", "HuggingFaceCallback", "KerasCallback"}


# The libraries themselves

foreign_warnings = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("fault", [False, True])
@foreign_warnings
@pytest.mark.parametrize("library", ["lightning", "pytorch_lightning"])
def test_lightning(library, fault, capsys):
    lightning = pytest.importorskip(library, reason=f"{library} is not installed")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))

        def step(self, batch):
            out = self.net(batch[0])
            return nn.functional.cross_entropy(out.softmax(1) if fault else out, batch[1])

        def training_step(self, batch, _):
            return self.step(batch)

        def validation_step(self, batch, _):
            self.log("loss", self.step(batch))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-2)

    def trained(*callbacks):
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(*data()), batch_size=32, shuffle=True
        )
        torch.manual_seed(1)
        module = Module()
        trainer = lightning.Trainer(
            max_epochs=3,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader, loader)
        return list(module.parameters())

    watch = callbacks.LightningCallback()
    assert all(torch.equal(a, b) for a, b in zip(trained(watch), trained(), strict=True))
    assert codes(watch) == (["RVN-H01"] if fault else [])


@pytest.mark.parametrize("fault", [False, True])
@foreign_warnings
def test_hugging_face(fault, tmp_path, capsys):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    ids = torch.randint(5, 50, (128, 6), generator=torch.Generator().manual_seed(0))
    examples = [{"input_ids": a, "labels": (a[0] > 25).long()} for a in ids]

    def trained(*callbacks):
        torch.manual_seed(1)
        small = transformers.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=2,
            max_position_embeddings=16,
        )
        model = transformers.BertForSequenceClassification(small)
        if fault:
            model.classifier = nn.Sequential(model.classifier, nn.Softmax(dim=1))
        settings = transformers.TrainingArguments(
            str(tmp_path),
            num_train_epochs=3,
            per_device_train_batch_size=16,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            learning_rate=5e-3,
            logging_strategy="no",
            disable_tqdm=True,
            seed=1,
        )
        transformers.Trainer(
            model=model, args=settings, train_dataset=examples, callbacks=list(callbacks)
        ).train()
        return list(model.parameters())

    watch = callbacks.HuggingFaceCallback()
    assert all(torch.equal(a, b) for a, b in zip(trained(watch), trained(), strict=True))
    assert codes(watch) == (["RVN-H01"] if fault else [])


@pytest.mark.parametrize("fault", [False, True])
@foreign_warnings
def test_keras(fault, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="keras is not installed")
    if keras.backend.backend() != "torch":
        pytest.skip("keras was imported with another backend")
    x, y = data()

    def trained(*callbacks):
        keras.utils.set_random_seed(1)
        dense = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2)]
        model = keras.Sequential([keras.layers.Input((8,)), *dense])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(1e30 if fault else 0.05), loss=loss)
        model.fit(
            x.numpy(), y.numpy(), batch_size=32, epochs=5, verbose=0, callbacks=list(callbacks)
        )
        return [torch.as_tensor(w).nan_to_num(7.0) for w in model.get_weights()]

    watch = callbacks.KerasCallback()
    assert all(torch.equal(a, b) for a, b in zip(trained(watch), trained(), strict=True))
    assert codes(watch) == (["RVN-N01"] if fault else [])
    assert {"RVN-L18", "RVN-H01"} <= set(watch.report().checks.not_measured)
