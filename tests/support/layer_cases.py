"""Test cases of the table's layers, by row; see ``test_kernels``."""

from typing import Any

import timm.layers as tl
import torch
import torch.nn.functional as F
from timm.layers.pool2d_same import MaxPool2dSame
from timm.models.vgg import ConvMlp
from torch import nn
from torchvision.ops import StochasticDepth

from credit.models.activations import Sign, Step
from credit.models.spiking.networks import LIF, SpikeCount
from tests.support.harness import case

PADDINGS: list[Any] = ["zeros", "reflect", "replicate", "circular"]
PADS = dict.fromkeys(("Zero", "Constant", "Reflection", "Replication", "Circular"), (1, 2, 0, 1, 2, 1))

MODULES: dict[type[nn.Module], list[Any]] = {
    nn.Linear: [
        case(nn.Linear(5, 3), 4, 5),
        case(nn.Linear(5, 3, bias=False), 2, 3, 5, linear=True),
        case(nn.Linear(1, 7), 1, 1),
        case(nn.Linear(5, 2), 2, 3, 4, 5, linear=True),
    ],
    nn.Conv1d: [
        case(nn.Conv1d(4, 6, 3, stride=2, padding=1), 2, 4, 9),
        case(nn.Conv1d(4, 6, 2, dilation=3, groups=2, bias=False), 2, 4, 9),
        case(nn.Conv1d(3, 3, 4, padding="same"), 2, 3, 9),
        case(nn.Conv1d(3, 3, 3, padding="same", dilation=2, padding_mode="reflect"), 2, 3, 9),
        case(nn.Conv1d(3, 2, 3, padding=2, padding_mode="circular"), 2, 3, 7),
    ],
    nn.Conv2d: [
        case(nn.Conv2d(3, 5, 3, padding=1), 2, 3, 7, 5),
        case(nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(2, 0), groups=2), 3, 4, 7, 9),
        case(nn.Conv2d(4, 4, 3, groups=4, dilation=(2, 1), bias=False), 2, 4, 8, 5),
        case(nn.Conv2d(3, 4, (2, 4), padding="same"), 2, 3, 5, 6),
        case(nn.Conv2d(3, 4, (3, 5), padding="same", dilation=(2, 1)), 2, 3, 7, 6),
        case(nn.Conv2d(3, 4, 3, padding="valid"), 2, 3, 5, 6),
        case(nn.Conv2d(3, 4, (2, 3), padding="same", padding_mode="replicate"), 2, 3, 5, 6),
        case(nn.Conv2d(3, 4, 2, padding="valid", padding_mode="reflect"), 2, 3, 5, 6),
        *[case(nn.Conv2d(2, 3, 3, stride=2, padding=(2, 1), padding_mode=mode), 2, 2, 5, 7) for mode in PADDINGS],
        case(nn.Conv2d(2, 3, 3, padding=0, padding_mode="reflect"), 2, 2, 5, 7),
        case(nn.Conv2d(2, 3, 1, stride=2), 1, 2, 5, 5),
    ],
    nn.Conv3d: [
        case(nn.Conv3d(2, 4, (1, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1), groups=2), 2, 2, 3, 5, 4),
        case(nn.Conv3d(2, 2, 3, padding="same", padding_mode="circular"), 1, 2, 3, 5, 4),
    ],
    nn.ConvTranspose1d: [case(nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1), 2, 4, 5)],
    nn.ConvTranspose2d: [
        case(nn.ConvTranspose2d(3, 5, 2, stride=2), 2, 3, 3, 4),
        case(
            nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(2, 0), groups=2, dilation=2, bias=False),
            3,
            4,
            4,
            3,
        ),
    ],
    nn.ConvTranspose3d: [case(nn.ConvTranspose3d(2, 4, (1, 3, 2), stride=(1, 2, 1), groups=2), 2, 2, 3, 2, 4)],
    nn.BatchNorm1d: [
        case(nn.BatchNorm1d(5), 7, 5),
        case(nn.BatchNorm1d(3, affine=False), 4, 3, 5),
        case(nn.BatchNorm1d(5, track_running_stats=False), 7, 5),
        case(nn.BatchNorm1d(5, momentum=None, eps=0.1), 7, 5),
        case(nn.BatchNorm1d(5, momentum=0.0), 7, 5),
    ],
    nn.BatchNorm2d: [
        case(nn.BatchNorm2d(3, momentum=0.3), 4, 3, 5, 2),
        case(nn.BatchNorm2d(3, affine=False, track_running_stats=False), 4, 3, 5, 2),
        case(nn.BatchNorm2d(3, momentum=None), 2, 3, 1, 3),
        case(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(inplace=True)), 4, 3, 5, 2),
    ],
    nn.BatchNorm3d: [case(nn.BatchNorm3d(2), 2, 2, 3, 1, 4)],
    nn.LayerNorm: [
        case(nn.LayerNorm(5), 4, 5),
        case(nn.LayerNorm((3, 5), eps=0.1), 2, 4, 3, 5),
        case(nn.LayerNorm(5, elementwise_affine=False), 2, 3, 5, linear=True),
        case(nn.LayerNorm(5, bias=False), 2, 3, 5, linear=True),
    ],
    nn.GroupNorm: [
        case(nn.GroupNorm(2, 4), 2, 4, 5, 3),
        case(nn.GroupNorm(1, 6, eps=0.1), 3, 6),
        case(nn.GroupNorm(4, 4, affine=False), 2, 4, 7),
    ],
    nn.RMSNorm: [
        case(nn.RMSNorm(5), 4, 5),
        case(nn.RMSNorm((3, 5), eps=0.1), 2, 4, 3, 5),
        case(nn.RMSNorm(5, elementwise_affine=False), 2, 3, 5, linear=True),
    ],
    nn.InstanceNorm1d: [case(nn.InstanceNorm1d(3), 2, 3, 7)],
    nn.InstanceNorm2d: [case(nn.InstanceNorm2d(3, affine=True, eps=0.1), 2, 3, 5, 4)],
    nn.InstanceNorm3d: [case(nn.InstanceNorm3d(2, affine=True), 2, 2, 3, 2, 4)],
    nn.MaxPool1d: [
        case(nn.MaxPool1d(3, stride=2, padding=1), 2, 3, 9),
        case(nn.MaxPool1d(2, dilation=3, ceil_mode=True), 2, 3, 10),
    ],
    nn.MaxPool2d: [
        case(nn.MaxPool2d(2), 2, 3, 5, 7),
        case(nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), 2, 3, 9, 7),
        case(nn.MaxPool2d(3, stride=2, ceil_mode=True), 2, 3, 6, 8),
    ],
    nn.AvgPool1d: [
        case(nn.AvgPool1d(3, stride=2, padding=1), 2, 3, 9),
        case(nn.AvgPool1d(2, ceil_mode=True, count_include_pad=False), 2, 3, 9),
    ],
    nn.AvgPool2d: [
        case(nn.AvgPool2d(2), 2, 3, 5, 7),
        case(nn.AvgPool2d((3, 2), stride=(2, 1), padding=1, count_include_pad=False), 2, 3, 7, 5),
        case(nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), 2, 3, 6, 8),
        case(nn.AvgPool2d(2, divisor_override=3), 2, 3, 5, 7),
    ],
    nn.MaxPool3d: [case(nn.MaxPool3d((2, 3, 2), stride=2, padding=1), 2, 3, 4, 5, 6)],
    nn.AvgPool3d: [
        case(nn.AvgPool3d(2), 2, 3, 4, 5, 6),
        case(nn.AvgPool3d((2, 3, 2), 2, padding=1, count_include_pad=False, divisor_override=3), 2, 3, 4, 5, 6),
    ],
    nn.LPPool3d: [case(nn.LPPool3d(2, 2), 2, 3, 4, 5, 6)],
    nn.AdaptiveAvgPool3d: [case(nn.AdaptiveAvgPool3d((1, None, 2)), 2, 3, 4, 5, 6)],
    nn.AdaptiveMaxPool3d: [case(nn.AdaptiveMaxPool3d(2), 2, 3, 4, 5, 6)],
    **{
        getattr(nn, f"{kind}Pad{dims}d"): [case(made, 2, 3, *(5, 4, 6)[:dims])]
        for kind, sizes in PADS.items()
        for dims in (1, 2, 3)
        for made in [getattr(nn, f"{kind}Pad{dims}d")(sizes[: 2 * dims], *((0.7,) if kind == "Constant" else ()))]
    },
    nn.LPPool1d: [case(nn.LPPool1d(2, 3, stride=2), 2, 3, 9), case(nn.LPPool1d(4, 2, ceil_mode=True), 2, 3, 9)],
    nn.LPPool2d: [
        case(nn.LPPool2d(2, 2), 2, 3, 5, 7),
        case(nn.LPPool2d(4, (3, 2), stride=(2, 1)), 2, 3, 7, 5),
        case(nn.LPPool2d(2, 3, stride=2, ceil_mode=True), 2, 3, 6, 8),
        case(nn.LPPool2d(1, 2), 2, 3, 5, 7),
    ],
    nn.AdaptiveAvgPool1d: [case(nn.AdaptiveAvgPool1d(3), 2, 3, 7), case(nn.AdaptiveAvgPool1d(7), 2, 3, 7)],
    nn.AdaptiveAvgPool2d: [
        case(nn.AdaptiveAvgPool2d(1), 2, 3, 5, 7),
        case(nn.AdaptiveAvgPool2d((2, 3)), 2, 3, 5, 7),
        case(nn.AdaptiveAvgPool2d((None, 9)), 2, 3, 5, 7),
    ],
    nn.AdaptiveMaxPool1d: [case(nn.AdaptiveMaxPool1d(3), 2, 3, 7)],
    nn.AdaptiveMaxPool2d: [case(nn.AdaptiveMaxPool2d((2, None)), 2, 3, 5, 7)],
    nn.Dropout: [
        case(nn.Dropout(0.4), 3, 5),
        case(nn.Dropout(0.0), 3, 5),
        case(nn.Dropout(1.0), 3, 5),
        case(nn.Sequential(nn.ReLU(), nn.Dropout(0.5, inplace=True)), 2, 3, 5, 2),
    ],
    nn.Dropout1d: [case(nn.Dropout1d(0.4), 3, 5, 4)],
    nn.Dropout2d: [case(nn.Dropout2d(0.4), 3, 5, 4, 2)],
    nn.Dropout3d: [case(nn.Dropout3d(0.4), 3, 5, 4, 2, 3)],
    StochasticDepth: [
        case(StochasticDepth(0.4, "row"), 6, 3, 4),
        case(StochasticDepth(0.4, "batch"), 6, 3),
        case(StochasticDepth(1.0, "row"), 6, 3),
        case(StochasticDepth(0.0, "row"), 6, 3),
    ],
    nn.Flatten: [case(nn.Flatten(), 2, 3, 4, 5), case(nn.Flatten(2, -2), 2, 3, 4, 5, 2)],
    nn.Unflatten: [case(nn.Unflatten(1, (2, 3)), 4, 6), case(nn.Unflatten(-1, (2, -1)), 3, 5, 6)],
    nn.Softmax: [case(nn.Softmax(dim=1), 4, 5), case(nn.Softmax(dim=-1), 2, 3, 5)],
    nn.LogSoftmax: [case(nn.LogSoftmax(dim=1), 4, 5)],
    nn.Unfold: [case(nn.Unfold(3, dilation=(1, 2), stride=2, padding=1), 2, 3, 5, 6)],
    nn.Fold: [case(nn.Fold((4, 5), 2, stride=(2, 1)), 2, 8, 8)],
    nn.Upsample: [
        case(nn.Upsample(scale_factor=2), 2, 3, 5, 4),
        case(nn.Upsample((7, 2), mode="bilinear", align_corners=True), 2, 3, 5, 4),
    ],
    nn.PixelShuffle: [case(nn.PixelShuffle(2), 2, 4, 3, 5)],
    nn.PixelUnshuffle: [case(nn.PixelUnshuffle(2), 2, 3, 4, 6)],
    nn.Identity: [case(nn.Sequential(nn.Identity(), nn.ReLU()), 3, 5)],
    nn.ReLU: [case(nn.ReLU(), 5, 7), case(nn.Sequential(nn.Hardtanh(-2, 2), nn.ReLU(inplace=True)), 2, 3, 5, 4)],
    nn.LeakyReLU: [case(nn.LeakyReLU(0.3), 5, 7), case(nn.LeakyReLU(), 5, 7)],
    nn.ReLU6: [case(nn.ReLU6(), 30, 7)],
    nn.Hardtanh: [case(nn.Hardtanh(), 5, 7), case(nn.Hardtanh(-0.3, 0.7), 5, 7)],
    nn.Hardsigmoid: [case(nn.Hardsigmoid(), 30, 7)],
    nn.ELU: [case(nn.ELU(), 5, 7), case(nn.ELU(0.4), 5, 7)],
    nn.SELU: [case(nn.SELU(), 5, 7)],
    # torch's gradient of CELU has 1 / alpha in single precision.
    nn.CELU: [case(nn.CELU(), 5, 7), case(nn.CELU(0.5), 5, 7), case(nn.CELU(-0.5), 5, 7)],
    nn.PReLU: [case(nn.PReLU(), 5, 7), case(nn.PReLU(3), 2, 3, 5, 4), case(nn.PReLU(7, init=-0.2), 5, 7)],
    nn.GLU: [case(nn.GLU(), 5, 8), case(nn.GLU(1), 2, 4, 5)],
    nn.Sigmoid: [case(nn.Sigmoid(), 5, 7)],
    nn.Tanh: [case(nn.Tanh(), 5, 7)],
    nn.Softplus: [case(nn.Softplus(), 5, 7), case(nn.Softplus(beta=2, threshold=1), 5, 7)],
    nn.GELU: [case(nn.GELU(), 5, 7), case(nn.GELU("tanh"), 5, 7)],
    nn.SiLU: [case(nn.SiLU(), 5, 7)],
    nn.Mish: [case(nn.Mish(), 5, 7)],
    nn.Hardswish: [case(nn.Hardswish(), 30, 7)],
    tl.DropPath: [case(tl.DropPath(0.4), 6, 3, 4), case(tl.DropPath(0.4, scale_by_keep=False), 6, 3, 4)],
    tl.BatchNormAct2d: [
        case(tl.BatchNormAct2d(3), 4, 3, 5, 2),
        case(tl.BatchNormAct2d(3, apply_act=False), 4, 3, 5, 2),
        case(tl.BatchNormAct2d(3, act_layer=nn.SiLU), 4, 3, 5, 2),
    ],
    tl.LayerNorm: [case(tl.LayerNorm(5, eps=1e-3), 2, 3, 5, linear=True)],
    tl.LayerNorm2d: [case(tl.LayerNorm2d(3), 2, 3, 5, 4), case(tl.LayerNorm2d(3, affine=False), 2, 3, 5, 4)],
    tl.GroupNorm: [case(tl.GroupNorm(4, 2), 2, 4, 5, 3)],
    tl.Conv2dSame: [
        case(tl.Conv2dSame(3, 4, 3, stride=2), 2, 3, 5, 8),
        case(tl.Conv2dSame(4, 4, (3, 2), stride=(1, 3), dilation=(2, 1), groups=2), 2, 4, 6, 7),
    ],
    tl.AvgPool2dSame: [
        case(tl.AvgPool2dSame(3, 2), 2, 3, 5, 8),
        case(tl.AvgPool2dSame((2, 3), (1, 2), count_include_pad=False), 2, 3, 5, 8),
    ],
    MaxPool2dSame: [
        case(MaxPool2dSame(3, 2), 2, 3, 5, 8),
        case(MaxPool2dSame(2, (2, 1), dilation=2), 2, 3, 5, 8),
    ],
    ConvMlp: [
        case(ConvMlp(3, 4, kernel_size=3, mlp_ratio=1.0, drop_rate=0.0), 2, 3, 5, 3),
        case(ConvMlp(3, 4, kernel_size=4, mlp_ratio=1.5, drop_rate=0.0), 2, 3, 2, 6),
    ],
    tl.GELU: [case(tl.GELU(), 5, 7)],
    tl.GELUTanh: [case(tl.GELUTanh(), 5, 7)],
    tl.Linear: [case(tl.Linear(5, 3), 4, 5)],
}

# Modules of any class that name their function.
NAMED = [case(Step(), 5, 7), case(Sign(), 5, 7)]


def _spiking(*layers: nn.Module, steps: int = 4) -> nn.Module:
    """Return ``layers`` with units before and after them, most of which fire at some step and not at all."""
    return nn.Sequential(
        LIF(steps, 0.7, 0.3, constant=True, surrogate_slope=2), *layers, LIF(steps, 0.9, 0.2), SpikeCount(steps)
    )


# Modules of any class that name what they do over time.
SPIKING = [
    case(nn.Sequential(LIF(1, 1.0, 0.5, constant=True), SpikeCount(1)), 3, 5),
    case(_spiking(nn.Linear(5, 6)), 4, 5),
    case(_spiking(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), 3, 3, 6, 7),
    *[
        case(
            nn.Sequential(
                LIF(5, 0.8, 0.2, reset, delay, constant=True, surrogate_slope=3),
                nn.Conv1d(3, 4, 2),
                LIF(5, 0.6, 0.1, reset, delay),
                SpikeCount(5),
            ),
            3,
            3,
            5,
        )
        for reset in ("subtract", "zero")
        for delay in (True, False)
    ],
]


def _functions(**calls: Any) -> dict[Any, list[Any]]:
    return {getattr(F, name): [case(call, 30, 7) for call in made] for name, made in calls.items()}


ACTIVATION_FUNCTIONS: dict[Any, list[Any]] = {
    **_functions(
        relu=[lambda x: F.relu(x), lambda x: F.relu(2 * x, inplace=True)],
        relu6=[lambda x: F.relu6(x)],
        silu=[lambda x: F.silu(x * 2, inplace=True)],
        mish=[lambda x: F.mish(x)],
        hardswish=[lambda x: F.hardswish(x)],
        hardsigmoid=[lambda x: F.hardsigmoid(x)],
        leaky_relu=[lambda x: F.leaky_relu(x), lambda x: F.leaky_relu(x, 0.2)],
        gelu=[lambda x: F.gelu(x), lambda x: F.gelu(x, approximate="tanh")],
        elu=[lambda x: F.elu(x, alpha=0.5)],
        selu=[lambda x: F.selu(x), lambda x: F.selu(x * 2, inplace=True)],
        celu=[lambda x: F.celu(x, 0.5)],
        hardtanh=[lambda x: F.hardtanh(x, -0.2, 0.4)],
        softplus=[lambda x: F.softplus(x), lambda x: F.softplus(x, 3, 2)],
        softmax=[lambda x: F.softmax(x, dim=0), lambda x: F.softmax(x, dim=-1)],
        dropout=[lambda x: F.dropout(x, 0.3), lambda x: F.dropout(x, 0.3, training=False)],
    ),
    F.dropout1d: [case(lambda x: F.dropout1d(x, 0.4), 3, 5, 4)],
    F.dropout2d: [case(lambda x: F.dropout2d(x, 0.4), 3, 5, 4, 2)],
    F.dropout3d: [case(lambda x: F.dropout3d(x, 0.4), 3, 5, 4, 2, 3)],
    F.glu: [case(lambda x: F.glu(x, 1), 2, 4, 5)],
    torch.selu: [case(lambda x: torch.selu(x), 5, 7)],
    torch.celu: [case(lambda x: torch.celu(x, 0.5), 5, 7)],
    torch.relu: [case(lambda x: torch.relu(x), 5, 7)],
    torch.sigmoid: [case(lambda x: torch.sigmoid(x), 5, 7)],
    torch.tanh: [case(lambda x: torch.tanh(x), 5, 7)],
    torch.sign: [case(lambda x: torch.sign(x), 5, 7)],
    torch.heaviside: [
        case(lambda x: torch.heaviside(x.sigmoid() - 0.5, torch.zeros((), dtype=torch.float64)) + x, 5, 7)
    ],
    torch.softmax: [case(lambda x: torch.softmax(x, 1), 2, 5, 3)],
}
