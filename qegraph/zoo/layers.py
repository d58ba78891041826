"""Blocks the convolution networks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Activation = Callable[[], nn.Module]


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def relu6() -> nn.Module:
    return nn.ReLU6(inplace=True)


def hardswish() -> nn.Module:
    return nn.Hardswish(inplace=True)


def silu() -> nn.Module:
    return nn.SiLU(inplace=True)


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activation: Activation | None = None
) -> nn.Sequential:
    """Convolution with "same" padding, BatchNorm and, if given, a fresh activation module."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    tail = [activation()] if activation else []
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *tail)


def rounded(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is not more than 10 % below `channels`."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor


class SqueezeExcite(nn.Module):
    """Channel gate: global mean -> 1x1 convolution -> activation -> 1x1 convolution -> gate, times the input."""

    def __init__(self, channels: int, squeezed: int, activation: Activation, gate: Activation) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gate(self.expand(self.activation(self.reduce(self.pool(x))))) * x


class InvertedResidual(nn.Module):
    """MobileNet/EfficientNet block: widen, depthwise, optional channel gate, narrow without activation."""

    def __init__(
        self,
        inputs: int,
        widened: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        activation: Activation,
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widen = [conv_norm(inputs, widened, activation=activation)] if widened != inputs else []
        depthwise = conv_norm(widened, widened, kernel, stride, groups=widened, activation=activation)
        self.body = nn.Sequential(*widen, depthwise, *([gate] if gate else []), conv_norm(widened, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return x + y if self.residual else y
