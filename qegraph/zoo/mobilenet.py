"""MobileNetV2 (Sandler et al. 2018), MobileNetV3-Large (Howard et al. 2019) and EfficientNet-B0 (Tan and Le 2019).

Each is a stem, a list of inverted residuals, a 1x1 head and a classifier; they differ in a table and an activation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .entry import Entry, images
from .layers import InvertedResidual, SqueezeExcite, conv_norm, hardswish, relu, relu6, rounded, silu

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": relu, "relu6": relu6, "hardswish": hardswish, "silu": silu}


@dataclass(frozen=True)
class Block:
    """One inverted residual; `squeezed` is the width inside the channel gate, 0 for none."""

    kernel: int
    widened: int
    outputs: int
    stride: int
    activation: str
    squeezed: int = 0


@dataclass(frozen=True)
class Family:
    """What a network has beside its blocks; `hidden` is the width of an extra linear in the classifier, 0 for none."""

    stem: int
    head: int
    hidden: int
    activation: str
    gate: Callable[[], nn.Module] = nn.Sigmoid


def _gate(block: Block, family: Family) -> nn.Module | None:
    if not block.squeezed:
        return None
    inner = silu if block.activation == "silu" else relu
    return SqueezeExcite(block.widened, block.squeezed, inner, family.gate)


class MobileNet(nn.Module):
    """Image (N, 3, image, image) -> logits (N, classes)."""

    def __init__(self, family: Family, blocks: Sequence[Block], classes: int, image: int) -> None:
        super().__init__()
        activation = _ACTIVATIONS[family.activation]
        layers: list[nn.Module] = [conv_norm(3, family.stem, 3, 2, activation=activation)]
        channels = family.stem
        for block in blocks:
            layers.append(
                InvertedResidual(
                    channels,
                    block.widened,
                    block.outputs,
                    kernel=block.kernel,
                    stride=block.stride,
                    activation=_ACTIVATIONS[block.activation],
                    gate=_gate(block, family),
                )
            )
            channels = block.outputs
        self.features = nn.Sequential(*layers, conv_norm(channels, family.head, activation=activation))
        self.pool = nn.AdaptiveAvgPool2d(1)
        hidden = [nn.Linear(family.head, family.hidden), activation()] if family.hidden else []
        self.classifier = nn.Sequential(*hidden, nn.Dropout(0.2), nn.Linear(family.hidden or family.head, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


def _expanded(
    rows: Sequence[tuple[int, int, int, int, int]], stem: int, activation: str, squeeze: bool
) -> tuple[Block, ...]:
    """Blocks from (expansion, kernel, outputs, repeats, stride) rows; the stride belongs to the first of a row."""
    blocks: list[Block] = []
    channels = stem
    for expansion, kernel, outputs, repeats, stride in rows:
        for index in range(repeats):
            squeezed = max(1, channels // 4) if squeeze else 0
            step = stride if index == 0 else 1
            blocks.append(Block(kernel, channels * expansion, outputs, step, activation, squeezed))
            channels = outputs
    return tuple(blocks)


def _v3(*rows: tuple[int, int, int, bool, str, int]) -> tuple[Block, ...]:
    """Blocks from (kernel, widened, outputs, gated, activation, stride) rows, as the paper prints them."""
    return tuple(
        Block(kernel, widened, outputs, stride, activation, rounded(widened / 4) if gated else 0)
        for kernel, widened, outputs, gated, activation, stride in rows
    )


_V2 = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 3, 32, 3, 2),
    (6, 3, 64, 4, 2),
    (6, 3, 96, 3, 1),
    (6, 3, 160, 3, 2),
    (6, 3, 320, 1, 1),
)
_V3 = _v3(
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2),
    (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1),
    (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2),
    (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)
_B0 = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
_SMALL_ROWS = ((1, 3, 8, 1, 1), (4, 5, 16, 2, 2))
_SMALL_V3 = _v3((3, 8, 8, False, "relu", 1), (5, 32, 16, True, "relu", 2), (3, 64, 16, True, "hardswish", 1))
_FULL = {"classes": 1000, "image": 224}
_SMALL = {"classes": 10, "image": 32}

MODELS = {
    "mobilenet_v2": Entry(
        MobileNet,
        full={"family": Family(32, 1280, 0, "relu6"), "blocks": _expanded(_V2, 32, "relu6", False), **_FULL},
        small={"family": Family(8, 32, 0, "relu6"), "blocks": _expanded(_SMALL_ROWS, 8, "relu6", False), **_SMALL},
        inputs=images,
    ),
    "mobilenet_v3_large": Entry(
        MobileNet,
        full={"family": Family(16, 960, 1280, "hardswish", nn.Hardsigmoid), "blocks": _V3, **_FULL},
        small={"family": Family(8, 32, 32, "hardswish", nn.Hardsigmoid), "blocks": _SMALL_V3, **_SMALL},
        inputs=images,
    ),
    "efficientnet_b0": Entry(
        MobileNet,
        full={"family": Family(32, 1280, 0, "silu"), "blocks": _expanded(_B0, 32, "silu", True), **_FULL},
        small={"family": Family(8, 32, 0, "silu"), "blocks": _expanded(_SMALL_ROWS, 8, "silu", True), **_SMALL},
        inputs=images,
    ),
}
