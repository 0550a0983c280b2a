"""The architectures and their options. Imports no torch.

An architecture is called as ``target(shape, classes, options)`` and returns an ``nn.Module``; one of your own may take its
options as keyword-only arguments instead (`credit.core.registry.register`).
"""

from dataclasses import dataclass
from typing import Any, Literal

from credit.core.errors import UserError
from credit.core.options import opt, written
from credit.core.registry import component

ACTIVATIONS = (
    "relu", "leaky_relu", "relu6", "elu", "silu", "gelu", "sigmoid", "tanh", "hardtanh", "hardsigmoid", "hardswish", "softplus",
    "identity", "step", "sign",
)  # fmt: skip
"""Names of `credit.models.activations`."""

DEPTHS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks of the four stages of perturbative_resnet, by its depth."""


def _activation(default: str = "relu") -> Any:
    return opt(default, "activation function", choices=ACTIVATIONS)


def _init_std() -> Any:
    return opt(None, "standard deviation of the first weights, for example 0.05", gt=0, when="init=gaussian")


class _WithStd:
    """Refuses ``init=gaussian`` without a standard deviation."""

    init: str
    init_std: float | None

    def __post_init__(self) -> None:
        if self.init == "gaussian" and self.init_std is None:
            raise UserError(
                "arch.init=gaussian draws the weights with the standard deviation arch.init_std, which is null: write how large "
                "it is, for example arch.init_std=0.05"
            )


@component("arch", "mlp", "credit.models.dense.mlp:mlp")
@dataclass(frozen=True)
class MlpOptions(_WithStd):
    """Options of the multi-layer perceptron."""

    widths: list[int] = opt([256, 256], "units of each hidden layer; [] is a linear classifier", ge=1)
    activation: str = _activation()
    dropout: float = opt(0.0, "probability with which a hidden unit is dropped", ge=0, lt=1)
    norm: Literal["none", "batch"] = opt(
        "none", "normalization before the activation; with batch the linear layers have no bias"
    )
    init: Literal["torch", "lecun", "glorot", "gaussian"] = opt(
        "torch",
        "first weights: torch's default; variance 1 / inputs; 2 / (inputs + outputs); init_std; biases 0 but for torch",
    )
    init_std: float | None = _init_std()
    residual_gap: int = opt(
        0, "g: hidden layers g, 2g, ... add the output of the layer g below, where it is as wide; 0: none", ge=0, symbol="g",
        source="rec-LRA, section 3.3",
    )  # fmt: skip


@component("arch", "deep_mlp", "credit.models.dense.deep_mlp:deep_mlp")
@dataclass(frozen=True)
class DeepMlpOptions(_WithStd):
    """Options of the perceptron of equal hidden layers."""

    width: int = opt(64, "units of a hidden layer", ge=1)
    depth: int = opt(3, "hidden layers; 0 is a linear classifier", ge=0)
    activation: str = _activation()
    init: Literal["torch", "he", "gaussian"] = opt(
        "torch",
        "first weights: torch's default; variance 2 / inputs, which deep ReLU networks need to tell inputs apart; init_std",
    )
    init_std: float | None = _init_std()


@component("arch", "autoencoder", "credit.models.dense.autoencoder:autoencoder")
@dataclass(frozen=True)
class AutoencoderOptions:
    """Options of the autoencoder."""

    channels: list[int] = opt([], "channels of convolutions of stride 2 before the dense layers", ge=1)
    widths: list[int] = opt([256, 32], "units of the encoder's dense layers, of which the last is the code", ge=1)
    activation: str = _activation()

    def __post_init__(self) -> None:
        if not self.widths:
            raise UserError("arch.widths=[] leaves no code; write one width or more, for example arch.widths=[32]")


@component("arch", "gpt", "credit.models.sequence.gpt:gpt")
@dataclass(frozen=True)
class GptOptions:
    """Options of the decoder-only transformer; its context is the data's (data.context)."""

    layers: int = opt(2, "blocks of attention and perceptron", ge=1)
    heads: int = opt(4, "heads of attention, which divide the width", ge=1)
    width: int = opt(64, "features of a position", ge=1)
    activation: str = _activation("gelu")
    dropout: float = opt(0.0, "probability after embeddings, attention and perceptrons", ge=0, lt=1)
    init_std: float = opt(0.02, "standard deviation of the first weights", gt=0, source="GPT-2")

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(
                f"arch.heads={self.heads} does not divide arch.width={self.width}; write a width of {self.heads} times a number"
            )


@component("arch", "rnn", "credit.models.sequence.rnn:rnn")
@dataclass(frozen=True)
class RnnOptions:
    """Options of the recurrent network; its number of positions is the data's (data.context)."""

    cell: Literal["rnn", "gru", "lstm"] = opt("gru", "recurrent cell")
    layers: int = opt(1, "recurrent layers", ge=1)
    width: int = opt(64, "features of the embedding and of each state", ge=1)


@component("arch", "suc", "credit.models.dense.suc:suc")
@dataclass(frozen=True)
class SucOptions:
    """Options of the single unit classifier."""

    activation: str = _activation("sigmoid")


@component("arch", "lenet5", "credit.models.vision.lenet:lenet5")
@dataclass(frozen=True)
class LeNetOptions(_WithStd):
    """Options of LeNet-5."""

    variant: Literal["lfp", "untied"] = opt("lfp", "16 and 16 channels with max pools, or 6 and 16 with average pools")
    activation: str = _activation()
    pool: Literal["average", "quadratic", "max"] | None = opt(
        None, "of 2x2 windows; quadratic: root of the mean of squares; null: the variant's own"
    )
    norm: Literal["none", "batch"] = opt(
        "none", "normalization before each hidden activation; with batch there are no biases"
    )
    dropout: float = opt(0.0, "probability after each hidden dense layer", ge=0, lt=1)
    init: Literal["torch", "gaussian"] = opt("torch", "first weights: torch's default; init_std with biases 0")
    init_std: float | None = _init_std()


@component("arch", "plain_conv_bn", "credit.models.vision.plain_conv:plain_conv_bn")
@dataclass(frozen=True)
class PlainConvOptions:
    """Options of the six-convolution network of the LISP paper."""

    widths: list[int] = opt([64, 64, 128, 128, 256, 256], "channels of the six convolutions", ge=1)
    hidden: int = opt(256, "units of the dense layer before the head", ge=1)
    activation: str = _activation()
    dropout: float = opt(0.0, "probability after each pool and after the hidden dense layer", ge=0, lt=1)
    dense_norm: Literal["batch", "none"] = opt("batch", "normalization after the hidden dense layer")

    def __post_init__(self) -> None:
        if len(self.widths) != 6:
            raise UserError(
                f"arch.widths={written(self.widths)} has {len(self.widths)} entries, but arch plain_conv_bn has six convolutions; "
                "write six, for example arch.widths=[64,64,128,128,256,256] (the dense layer's size is arch.hidden)"
            )


@component("arch", "cifar_resnet", "credit.models.vision.cifar_resnet:cifar_resnet")
@dataclass(frozen=True)
class CifarResNetOptions(_WithStd):
    """Options of the residual network for small images."""

    depth: int = opt(20, "6n + 2 layers: 8, 14, 20, 32, 44, 56, 110", ge=8)
    width: int = opt(16, "channels of the first stage", ge=1)
    norm: Literal["batch", "none", "frozen"] = opt(
        "batch", "none: a Fixup-like start; frozen: running statistics in training too, whose scale and shift learn"
    )
    activation: str = _activation()
    init: Literal["he", "gaussian"] = opt(
        "he", "first weights: variance 2 / outputs, without batch norm Fixup-like; init_std with biases 0"
    )
    init_std: float | None = _init_std()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth % 6 != 2:
            closest = round((self.depth - 2) / 6) * 6 + 2
            raise UserError(
                f"arch.depth={self.depth}: arch cifar_resnet has three stages of n two-layer blocks, a stem and a head, so depth "
                f"must be 6n+2; the nearest is arch.depth={closest}"
            )


@component("arch", "perturbative_resnet", "credit.models.vision.perturbative:perturbative_resnet")
@dataclass(frozen=True)
class PerturbativeOptions(_WithStd):
    """Options of the ResNet of perturbative layers."""

    depth: int = opt(18, "10, 18 or 34: blocks of 1-1-1-1, 2-2-2-2, 3-4-6-3")
    masks: int = opt(160, "channels of the first stage, a noise map each; 256 for ImageNet in the paper", ge=1)
    layers: Literal["perturbative", "conv"] = opt("perturbative", "conv: 3x3 convolutions instead, all else the same")
    noise_level: float = opt(0.1, "of the noise maps; 0: none", ge=0, when="layers=perturbative")
    distribution: Literal["uniform", "gaussian"] = opt(
        "uniform", "noise in [-level, level] (the authors' code), or of standard deviation level (the paper's text)",
        when="layers=perturbative",
    )  # fmt: skip
    stem: Literal["auto", "cifar", "imagenet"] = opt(
        "auto", "3x3 convolution; 7x7 of stride 2 and a max pool; auto: imagenet from 64 pixels on"
    )
    activation: str = _activation()
    init: Literal["he", "gaussian"] = opt(
        "he", "first weights: variance 2 / inputs; init_std (1 in the paper); biases 0"
    )
    init_std: float | None = _init_std()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in DEPTHS:
            closest = min(DEPTHS, key=lambda known: abs(known - self.depth))
            raise UserError(
                f"arch.depth={self.depth}: arch perturbative_resnet has one, two, or 3-4-6-3 two-layer blocks in its four stages, "
                f"which makes 10, 18 or 34 layers; the nearest is arch.depth={closest}"
            )


@component("arch", "vgg16", "credit.models.vision.vgg:vgg16")
@dataclass(frozen=True)
class VggOptions:
    """Options of VGG-16."""

    norm: Literal["batch", "none"] = opt("batch", "normalization after each convolution, which then has no bias")
    dense: list[int] = opt([512], "units of each hidden dense layer; [4096,4096] is the original", ge=1)
    activation: str = _activation()
    dropout: float = opt(0.0, "probability after each hidden dense layer", ge=0, lt=1)
    init: Literal["he", "lecun"] = opt("he", "first weights: variance 2 / inputs, or 1 / inputs; biases 0")
    pretrained: bool | str = opt(
        False,
        "true: download torchvision's weights (norm=none dense=[4096,4096]); or path of a .safetensors, .pt or .pth file",
    )


@component("arch", "timm", "credit.models.vision.timm_models:timm_model")
@dataclass(frozen=True)
class TimmOptions:
    """Options of timm's classifiers."""

    name: str = opt("resnet18", "a name of timm.list_models(), with a weights tag where wanted")
    stem: Literal["native", "cifar"] = opt(
        "native", "cifar: 3x3 stride 1 and no max pool in place of a 7x7 stride-2 stem"
    )
    pretrained: bool | str = opt(False, "true: download timm's weights; or path of a .safetensors, .pt or .pth file")
    patch_size: int | None = opt(
        None, "pixels, of transformers and ConvNeXt; null: the model's own, made for larger images", ge=1
    )
    zero_init_last: bool | None = opt(
        None,
        "ResNets: start each block's last BatchNorm at 0 (null: timm does); false: at 1, which LFP needs to move it",
    )


@dataclass(frozen=True)
class LifOptions:
    """Options of leaky integrate-and-fire units."""

    steps: int = opt(25, "time steps, each shown the same image", ge=1, symbol="T", source="LFP, A.6.3")
    beta: float = opt(0.9, "share of the membrane potential kept a step", gt=0, le=1, source="LFP, Eq. A.14")
    threshold: float = opt(1.0, "potential above which a unit fires", gt=0, symbol="theta", source="LFP, Eq. A.15")
    reset: Literal["subtract", "zero", "none"] = opt(
        "subtract",
        "of a unit that fired: the threshold is taken off; to 0; none: it fires at every step while above threshold",
    )
    reset_delay: bool = opt(
        True, "a spike resets the step after it, as in snnTorch; false: at once", when="reset!=none"
    )
    surrogate: Literal["fast_sigmoid", "sigmoid", "atan", "straight_through"] = opt(
        "fast_sigmoid", "surrogate derivative of spikes in backpropagation (LFP reads none)"
    )
    surrogate_slope: float | None = opt(
        None, "how fast the surrogate derivative falls; null: snnTorch's (25, 25, 2)", ge=0, symbol="k",
        when="surrogate!=straight_through",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.surrogate_slope == 0 and self.surrogate != "fast_sigmoid":
            raise UserError(
                f"surrogate_slope=0 with surrogate={self.surrogate}: its derivative is 0 everywhere then; write a slope above 0"
            )


@component("arch", "spiking_lenet", "credit.models.spiking.networks:spiking_lenet")
@dataclass(frozen=True)
class SpikingLeNetOptions(LifOptions):
    """Options of the spiking LeNet."""


@component("arch", "spiking_mlp", "credit.models.spiking.networks:spiking_mlp")
@dataclass(frozen=True)
class SpikingMlpOptions(LifOptions):
    """Options of the spiking perceptron."""

    widths: list[int] = opt([1000, 1000], "units of each hidden layer", ge=1)
