"""The callbacks of `examples/`, each in a small run of its framework, sound and with a fault;
skipped without it.
"""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

import ravine

EXAMPLES = Path(ravine.__file__).parent.parent / "examples"
pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def data():
    torch.manual_seed(0)
    x = torch.randn(256, 8)
    return x, (x[:, 0] > x[:, 1]).long()


def codes(watch):
    report = watch.watcher.report()
    assert report.checks.failed == ()
    return [f.code for f in report.findings if f.severity != "note"]


def test_the_plain_loop_shows_its_fault(capsys, monkeypatch):
    example("watch_plain_loop").main()
    assert "RVN-L01" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [False, True])
def test_lightning(fault, capsys):
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

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

    watch = example("watch_lightning").WatchCallback()
    assert all(torch.equal(a, b) for a, b in zip(trained(watch), trained(), strict=True))
    assert codes(watch) == (["RVN-H01"] if fault else [])


@pytest.mark.parametrize("fault", [False, True])
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

    watch = example("watch_hugging_face").WatchCallback()
    assert all(torch.equal(a, b) for a, b in zip(trained(watch), trained(), strict=True))
    assert codes(watch) == (["RVN-H01"] if fault else [])


@pytest.mark.parametrize("fault", [False, True])
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

    watch = example("watch_keras").WatchCallback()
    assert all(torch.equal(a, b) for a, b in zip(trained(watch), trained(), strict=True))
    assert codes(watch) == (["RVN-N01"] if fault else [])
    assert {"RVN-L18", "RVN-H01"} <= set(watch.watcher.report().checks.not_measured)
