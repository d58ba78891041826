"""DenseNet-121 (Huang et al. 2016): every layer reads the concatenation of all earlier ones of its block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .entry import Entry, images
from .layers import conv_norm, relu


def _norm_relu_conv(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(inputs), relu(), conv]


class DenseBlock(nn.Module):
    """`layers` layers that add `growth` channels each; the result has `channels + layers * growth`."""

    def __init__(self, channels: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                *_norm_relu_conv(channels + index * growth, 4 * growth, 1),
                *_norm_relu_conv(4 * growth, growth, 3),
            )
            for index in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """Image (N, 3, image, image) -> logits (N, classes)."""

    def __init__(self, blocks: Sequence[int], growth: int, classes: int, image: int) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [conv_norm(3, channels, 7, 2, activation=relu), nn.MaxPool2d(3, 2, 1)]
        for index, count in enumerate(blocks):
            layers.append(DenseBlock(channels, count, growth))
            channels += count * growth
            if index < len(blocks) - 1:
                layers += [*_norm_relu_conv(channels, channels // 2, 1), nn.AvgPool2d(2, 2)]
                channels //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), relu())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


MODELS = {
    "densenet121": Entry(
        DenseNet,
        full={"blocks": (6, 12, 24, 16), "growth": 32, "classes": 1000, "image": 224},
        small={"blocks": (2, 3), "growth": 8, "classes": 10, "image": 32},
        inputs=images,
    ),
}
