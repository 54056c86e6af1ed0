"""`ravine.testing` on models that are sound: every failure is a false one.

    python -m benchmarks.testing_zoo            # torch.nn, and timm and transformers if installed
    python -m benchmarks.testing_zoo torch bert

Three zoos: the layers of torch.nn in small networks, timm's families and transformers'
architectures, both built small with random weights. Words choose by zoo or by name.
"""

import importlib
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ravine.errors import InputError
from ravine.testing import (
    assert_causal,
    assert_eval_deterministic,
    assert_examples_independent,
    assert_gradients_reach_every_parameter,
    assert_learns_a_batch,
    assert_loss_at_chance,
    assert_same_when_resumed,
)

EXAMPLES, CLASSES, PLACES, WORDS = 16, 4, 6, 40
TIMM_CLASSES = 100  # heads of timm start by the number of classes: few begin far above chance


@dataclass(frozen=True)
class Animal:
    """A sound model with a batch; `inputs` are what its evaluation takes."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Any
    batch: Any
    loss: Any = F.cross_entropy
    chance: float | None = None
    causal: bool = False
    unused: tuple[str, ...] = ()  # parameters that its loss does not use, by design


class Classifier(nn.Module):
    """A body, and two layers on all of its output as one row."""

    def __init__(self, body: Any, pick: Callable[[Any], Any] = lambda out: out) -> None:
        super().__init__()
        self.body, self.pick = body, pick
        self.head = nn.Sequential(nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, CLASSES))

    def forward(self, *inputs: Any) -> Any:
        return self.head(self.pick(self.body(*inputs)).flatten(1))


class Wrapped(nn.Module):
    """Parts, and a forward pass that is written as a function of them and the inputs."""

    def __init__(self, call: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.call = nn.ModuleDict(parts), call

    def forward(self, *inputs: Any) -> Any:
        return self.call(self.parts, *inputs)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(EXAMPLES, *shape, generator=torch.Generator().manual_seed(1))


def words(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, WORDS, (EXAMPLES, *shape), generator=generator)


def labels() -> torch.Tensor:
    return torch.arange(EXAMPLES) % CLASSES


def torch_animals() -> Iterator[Animal]:
    """The layers of torch.nn, each in a small network."""
    first = lambda out: out[0]  # noqa: E731
    flat, line, image, cube = numbers(8), numbers(8, 6), numbers(8, 6, 6), numbers(8, 5, 5, 5)
    time_first = lambda layer: Wrapped(  # noqa: E731
        lambda m, x: m["layer"](x.transpose(0, 1))[0].transpose(0, 1), layer=layer
    )
    bodies: dict[str, tuple[Callable[[], Any], Any, Callable[[Any], Any] | None]] = {}

    def add(name: str, build: Callable[[], Any], x: Any, pick: Any = None) -> None:
        bodies[name] = build, x, pick

    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        for directions in (1, 2):
            name = f"{kind.__name__} x{directions}"
            make = lambda kind=kind, both=directions == 2: kind(  # noqa: E731
                6, 7, 2, batch_first=True, bidirectional=both, dropout=0.2
            )
            add(name, make, numbers(PLACES, 6), first)
        add(f"{kind.__name__} time first", lambda kind=kind: time_first(kind(6, 7)), numbers(5, 6))
        add(
            f"{kind.__name__}Cell",
            lambda k=kind: getattr(nn, f"{k.__name__}Cell")(8, 9),
            flat,
            first if kind is nn.LSTM else None,
        )
    add("LSTM proj", lambda: nn.LSTM(6, 8, proj_size=3, batch_first=True), numbers(5, 6), first)
    sequence = numbers(PLACES, 8)
    for norm_first in (False, True):
        encoder = lambda before=norm_first: nn.TransformerEncoderLayer(  # noqa: E731
            8, 2, 16, batch_first=True, norm_first=before
        )
        add(
            f"TransformerEncoder {norm_first}",
            lambda e=encoder: nn.TransformerEncoder(e(), 2, enable_nested_tensor=False),
            sequence,
        )
    add(
        "TransformerDecoder",
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2),
        (sequence, numbers(4, 8)),
    )
    add(
        "Transformer",
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        (sequence, numbers(4, 8)),
    )
    add(
        "MultiheadAttention",
        lambda: Wrapped(
            lambda m, x: m["a"](x, x, x)[0], a=nn.MultiheadAttention(8, 2, 0.1, batch_first=True)
        ),
        sequence,
    )
    for d, x in ((1, line), (2, image), (3, cube)):
        for name in ("Conv", "ConvTranspose"):
            add(f"{name}{d}d", lambda n=f"{name}{d}d": getattr(nn, n)(8, 4, 3, padding=1), x)
        for name in ("BatchNorm", "InstanceNorm"):
            add(f"{name}{d}d", lambda n=f"{name}{d}d": getattr(nn, n)(8, affine=True), x)
        for name in ("MaxPool", "AvgPool"):
            add(f"{name}{d}d", lambda n=f"{name}{d}d": getattr(nn, n)(2), x)
        for name in ("AdaptiveAvgPool", "AdaptiveMaxPool"):
            add(f"{name}{d}d", lambda n=f"{name}{d}d": getattr(nn, n)(2), x)
        add(f"Dropout{d}d", lambda n=f"Dropout{d}d": getattr(nn, n)(0.2), x)
    add("InstanceNorm2d tracked", lambda: nn.InstanceNorm2d(8, track_running_stats=True), image)
    add("depthwise", lambda: nn.Conv2d(8, 16, 3, groups=8), image)
    add("BatchNorm1d flat", lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8)), flat)
    add("LayerNorm", lambda: nn.LayerNorm(8), flat)
    add("RMSNorm", lambda: nn.RMSNorm(8), flat)
    add("GroupNorm", lambda: nn.GroupNorm(4, 8), image)
    add("LocalResponseNorm", lambda: nn.LocalResponseNorm(2), image)
    add("Bilinear", lambda: nn.Bilinear(8, 8, 8), (flat, numbers(8).flip(0)))
    add("Embedding", lambda: nn.Embedding(WORDS, 8, padding_idx=0), words(5))
    for mode in ("sum", "mean", "max"):
        add(f"EmbeddingBag {mode}", lambda m=mode: nn.EmbeddingBag(WORDS, 8, mode=m), words(5))
    add("PixelShuffle", lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.PixelShuffle(2)), image)
    add("Upsample", lambda: nn.Sequential(nn.Conv2d(8, 2, 1), nn.Upsample(scale_factor=2)), image)
    add("Fold", lambda: nn.Sequential(nn.Unfold(2), nn.Fold((6, 6), 2)), image)
    add("weight_norm", lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), flat)
    add("spectral_norm", lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), flat)
    add(
        "AlphaDropout",
        lambda: nn.Sequential(nn.Linear(8, 8), nn.SELU(), nn.AlphaDropout(0.2)),
        flat,
    )
    activations = "ReLU GELU ELU SELU CELU SiLU Mish Tanh Sigmoid Softplus PReLU LeakyReLU GLU "
    activations += "Hardtanh Hardswish LogSigmoid Softsign Tanhshrink ReLU6 RReLU Hardsigmoid"
    for name in activations.split():
        add(name, lambda n=name: nn.Sequential(nn.Linear(8, 64), getattr(nn, n)()), flat)
    add("Softmax", lambda: nn.Sequential(nn.Linear(8, 64), nn.Softmax(-1)), flat)
    for name, (build, x, pick) in bodies.items():
        make = lambda b=build, p=pick: Classifier(b(), p or (lambda out: out))  # noqa: E731
        batch = (*x, labels()) if isinstance(x, tuple) else (x, labels())
        yield Animal(f"torch {name}", make, x, batch)
    for name, kind in (("RNN", nn.RNN), ("LSTM", nn.LSTM), ("GRU", nn.GRU)):
        tokens = words(PLACES)
        make = lambda kind=kind: Wrapped(  # noqa: E731
            lambda m, x: m["out"](m["rnn"](m["table"](x))[0]).transpose(1, 2),
            table=nn.Embedding(WORDS, 16),
            rnn=kind(16, 32, batch_first=True),
            out=nn.Linear(32, WORDS),
        )
        yield Animal(f"torch {name} tokens", make, tokens, (tokens, words(PLACES)), causal=True)
    mask = nn.Transformer.generate_square_subsequent_mask(PLACES)
    make = lambda: Wrapped(  # noqa: E731
        lambda m, x: m["out"](m["body"](m["table"](x) + m["place"].weight, mask)).transpose(1, 2),
        table=nn.Embedding(WORDS, 16),
        place=nn.Embedding(PLACES, 16),
        body=nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
        ),
        out=nn.Linear(16, WORDS),
    )
    tokens = words(PLACES)
    yield Animal("torch causal transformer", make, tokens, (tokens, words(PLACES)), causal=True)


TIMM_MODELS = (
    "resnet10t resnet18 resnet26d seresnet18 resnext26ts mobilenetv2_050 mobilenetv3_small_050 "
    "efficientnet_lite0 efficientnet_b0 tf_efficientnetv2_b0 regnetx_002 regnety_002 "
    "vit_tiny_patch16_224 deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 "
    "swin_tiny_patch4_window7_224 convnext_atto convnextv2_atto mixer_s32_224 "
    "resmlp_12_224 gmlp_ti16_224 poolformer_s12 edgenext_xx_small mobilevit_xxs ghostnet_050 "
    "densenet121 vgg11_bn dla46_c hrnet_w18_small lcnet_035 rexnet_100 xcit_nano_12_p16_224 "
    "levit_128s repvgg_a0 mnasnet_small cait_xxs24_224 coat_tiny crossvit_tiny_240 tinynet_e"
)


def timm_animals() -> Iterator[Animal]:
    """timm's families, the smallest of each, at 64 pixels where that is possible."""
    try:
        timm = importlib.import_module("timm")
    except (ImportError, RuntimeError):
        return
    for name in TIMM_MODELS.split():
        for settings in ({"img_size": 64}, {}):
            try:
                make = lambda n=name, s=settings: timm.create_model(  # noqa: E731
                    n, num_classes=TIMM_CLASSES, **s
                )
                config = make().default_cfg
                break
            except (TypeError, AssertionError):
                continue
        fixed = config.get("fixed_input_size") and not settings
        size = config["input_size"][1] if fixed else 64
        images = numbers(3, size, size)[:8]
        yield Animal(f"timm {name}", make, images, (images, labels()[:8]), loss=distilled_loss)


def distilled_loss(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy, of each output where there are several."""
    several = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return sum((F.cross_entropy(out, targets) for out in several), torch.zeros(()))


# name of the configuration and of the model, unused parameters
TRANSFORMERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "bert": ("BertConfig", "BertForSequenceClassification", ()),
    "bert-lm": ("BertConfig", "BertForMaskedLM", ()),
    "bert-tokens": ("BertConfig", "BertForTokenClassification", ()),
    "distilbert": ("DistilBertConfig", "DistilBertForSequenceClassification", ()),
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification", ()),
    "albert": ("AlbertConfig", "AlbertForSequenceClassification", ()),
    "electra": ("ElectraConfig", "ElectraForSequenceClassification", ()),
    "mobilebert": ("MobileBertConfig", "MobileBertForSequenceClassification", ()),
    "deberta-v2": ("DebertaV2Config", "DebertaV2ForSequenceClassification", ()),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaForSequenceClassification", ()),
    "camembert": ("CamembertConfig", "CamembertForSequenceClassification", ()),
    "mpnet": ("MPNetConfig", "MPNetForSequenceClassification", ()),
    "fnet": ("FNetConfig", "FNetForSequenceClassification", ()),
    "convbert": ("ConvBertConfig", "ConvBertForSequenceClassification", ()),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", ()),
    "gpt-neo": ("GPTNeoConfig", "GPTNeoForCausalLM", ()),
    "gpt-neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", ()),
    "opt": ("OPTConfig", "OPTForCausalLM", ()),
    "bloom": ("BloomConfig", "BloomForCausalLM", ()),
    "llama": ("LlamaConfig", "LlamaForCausalLM", ()),
    "mistral": ("MistralConfig", "MistralForCausalLM", ()),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", ()),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", ()),
    "phi": ("PhiConfig", "PhiForCausalLM", ()),
    "mamba": ("MambaConfig", "MambaForCausalLM", ()),
    "t5": ("T5Config", "T5ForConditionalGeneration", ()),
    "bart": ("BartConfig", "BartForConditionalGeneration", ()),
    "vit": ("ViTConfig", "ViTForImageClassification", ()),
    "deit": ("DeiTConfig", "DeiTForImageClassification", ()),
    "beit": ("BeitConfig", "BeitForImageClassification", ()),
    "convnext": ("ConvNextConfig", "ConvNextForImageClassification", ()),
    "resnet": ("ResNetConfig", "ResNetForImageClassification", ()),
}
SMALL_SETTINGS: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "num_attention_heads": 2,
    "num_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "num_labels": CLASSES,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SETTINGS_BY_MODEL: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "gpt-neo": {"attention_types": [[["global", "local"], 1]]},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "gemma": {"head_dim": 16, "num_key_value_heads": 1},
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "mobilebert": {"embedding_size": 16, "true_hidden_size": 32, "intra_bottleneck_size": 32},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "decoder_start_token_id": 0},
    "bart": {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "decoder_start_token_id": 2, "forced_eos_token_id": None,
    },
    "convnext": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "patch_size": 4},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
}  # fmt: off


def transformers_animals() -> Iterator[Animal]:
    """transformers' architectures, built small from their configurations."""
    try:
        transformers: Any = importlib.import_module("transformers")
        transformers.LlamaConfig  # noqa: B018  a broken torchvision shows here
    except (ImportError, RuntimeError):
        return
    transformers.logging.set_verbosity_error()
    for name, (config_name, model_name, unused) in TRANSFORMERS.items():
        settings = SMALL_SETTINGS | {"image_size": 32, "patch_size": 8}
        if name in ("convnext", "resnet"):
            settings = {"num_labels": CLASSES}
        settings |= SETTINGS_BY_MODEL.get(name, {})
        config = getattr(transformers, config_name)(**settings)
        make = lambda c=config, m=model_name: getattr(transformers, m)(c)  # noqa: E731
        causal = model_name.endswith(("CausalLM", "LMHeadModel"))
        if model_name.endswith("ImageClassification"):
            inputs: dict[str, Any] = {"pixel_values": numbers(3, 32, 32)}
            batch, chance = {**inputs, "labels": labels()}, math.log(CLASSES)
        elif model_name.endswith("SequenceClassification"):
            inputs = {"input_ids": words(PLACES), "attention_mask": torch.ones(EXAMPLES, PLACES)}
            batch, chance = {**inputs, "labels": labels()}, math.log(CLASSES)
        elif model_name.endswith("TokenClassification"):
            inputs = {"input_ids": words(PLACES)}
            batch = {**inputs, "labels": words(PLACES) % CLASSES}
            chance = math.log(CLASSES)
        else:
            inputs = {"input_ids": words(PLACES)}
            batch, chance = {**inputs, "labels": inputs["input_ids"]}, math.log(WORDS)
            if model_name.endswith("ConditionalGeneration"):
                inputs = {**inputs, "decoder_input_ids": words(PLACES).flip(0)}
        yield Animal(f"transformers {name}", make, inputs, batch, None, chance, causal, unused)


def checks_of(animal: Animal) -> Iterator[tuple[str, Callable[[nn.Module], None]]]:
    """The assertions that hold of an animal, by name."""
    loss, batch, inputs = animal.loss, animal.batch, animal.inputs
    yield (
        "gradients",
        lambda model: assert_gradients_reach_every_parameter(
            model, loss, batch, except_for=animal.unused
        ),
    )
    yield "examples", lambda model: assert_examples_independent(model, inputs)
    yield "evaluation", lambda model: assert_eval_deterministic(model, inputs)
    yield "chance", lambda model: assert_loss_at_chance(model, loss, batch, chance=animal.chance)
    yield "batch", lambda model: assert_learns_a_batch(model, loss, batch)
    yield "resume", lambda model: assert_same_when_resumed(model, loss, batch)
    if animal.causal:
        yield "causal", lambda model: assert_causal(model, inputs)


def main(wanted: list[str]) -> None:
    """Print every failure, and counts and seconds by assertion."""
    zoos = (torch_animals, timm_animals, transformers_animals)
    counts: dict[str, list[float]] = {}
    for animal in (a for zoo in zoos for a in zoo()):
        if wanted and not any(word in animal.name for word in wanted):
            continue
        torch.manual_seed(0)
        model = animal.build()
        with torch.no_grad():  # lazy layers get their shapes
            inputs: Any = animal.inputs
            if isinstance(inputs, dict):
                model(**inputs)
            else:
                model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
        for name, check in checks_of(animal):
            began = time.perf_counter()
            try:
                check(model)
                result = ""
            except (AssertionError, InputError) as error:
                result = str(error)
            except Exception:  # a fault of ours
                result = traceback.format_exc()
            seconds = time.perf_counter() - began
            entry = counts.setdefault(f"{animal.name.split()[0]} {name}", [0, 0, 0.0, 0.0])
            entry[0] += 1
            entry[1] += bool(result)
            entry[2] += seconds
            entry[3] = max(entry[3], seconds)
            if result:
                print(f"== {animal.name}: {name} ({seconds:.1f} s)\n{result.strip()}\n", flush=True)
    print(f"{'assertion':28}{'models':>8}{'failures':>10}{'mean s':>9}{'worst s':>9}")
    for name, (models, failures, seconds, worst) in counts.items():
        print(f"{name:28}{models:8}{failures:10}{seconds / models:9.2f}{worst:9.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
