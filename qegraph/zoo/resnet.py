"""ResNet (He et al. 2015) with the stride in the 3x3 convolution: resnet18 and resnet50."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .entry import Entry, images
from .layers import conv_norm, relu


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)); `bottleneck` selects 1x1-3x3-1x1 with a fourfold output over 3x3-3x3."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        if bottleneck:
            stages = [
                conv_norm(inputs, width, activation=relu),
                conv_norm(width, width, 3, stride, activation=relu),
                conv_norm(width, outputs),
            ]
        else:
            stages = [conv_norm(inputs, width, 3, stride, activation=relu), conv_norm(width, width, 3)]
        self.body = nn.Sequential(*stages)
        straight = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if straight else conv_norm(inputs, outputs, stride=stride)
        self.relu = relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        y += self.shortcut(x)
        return self.relu(y)


class ResNet(nn.Module):
    """Image (N, 3, image, image) -> logits (N, classes). `blocks` per stage; stage i is `width * 2**i` wide."""

    def __init__(self, blocks: Sequence[int], bottleneck: bool, width: int, classes: int, image: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, width, 7, 2, activation=relu), nn.MaxPool2d(3, 2, 1))
        stages: list[nn.Module] = []
        channels = width
        for depth, count in enumerate(blocks):
            inner = width * 2**depth
            for index in range(count):
                stages.append(Residual(channels, inner, 2 if index == 0 and depth > 0 else 1, bottleneck))
                channels = inner * 4 if bottleneck else inner
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.stages(self.stem(x))), 1))


_FULL = {"width": 64, "classes": 1000, "image": 224}
_SMALL = {"width": 16, "classes": 10, "image": 64}

MODELS = {
    "resnet18": Entry(
        ResNet,
        full={"blocks": (2, 2, 2, 2), "bottleneck": False, **_FULL},
        small={"blocks": (1, 2), "bottleneck": False, **_SMALL},
        inputs=images,
    ),
    "resnet50": Entry(
        ResNet,
        full={"blocks": (3, 4, 6, 3), "bottleneck": True, **_FULL},
        small={"blocks": (1, 2), "bottleneck": True, **_SMALL},
        inputs=images,
    ),
}
