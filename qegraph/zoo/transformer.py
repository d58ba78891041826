"""Encoders: BERT-base (Devlin et al. 2018, post-norm) and ViT-S/16 (Dosovitskiy et al. 2020, pre-norm)."""

from __future__ import annotations

import torch
from torch import nn

from .attention import Attention
from .entry import Entry, images, tokens


class EncoderLayer(nn.Module):
    """Attention and a GELU MLP, each with a residual; LayerNorm before each branch, or after each sum."""

    def __init__(self, width: int, heads: int, hidden: int, *, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(width, heads, bias=True, causal=False)
        self.attention_norm = nn.LayerNorm(width, eps=1e-6 if norm_first else 1e-12)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(0.1))
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6 if norm_first else 1e-12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.norm_first:
            x = x + self.attention(self.attention_norm(x))
            return x + self.mlp(self.mlp_norm(x))
        x = self.attention_norm(self.attention(x) + x)
        return self.mlp_norm(self.mlp(x) + x)


class Bert(nn.Module):
    """Token numbers (N, length) -> hidden states (N, length, width) and the pooled first token (N, width)."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, hidden, norm_first=False) for _ in range(layers)))
        self.pooler = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.register_buffer("position_ids", torch.arange(length)[None], persistent=False)

    def forward(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedded = self.words(numbers) + self.types(torch.zeros_like(numbers)) + self.positions(self.position_ids)
        states = self.layers(self.dropout(self.norm(embedded)))
        return states, self.pooler(states[:, 0])


class Vit(nn.Module):
    """Image (N, 3, image, image) -> logits (N, classes), through a class token."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, patch: int, classes: int, image: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, (image // patch) ** 2 + 1, width) * 0.02)
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, hidden, norm_first=True) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], 1) + self.positions
        return self.classifier(self.norm(self.layers(x))[:, 0])


MODELS = {
    "bert_base": Entry(
        Bert,
        full={"layers": 12, "width": 768, "heads": 12, "hidden": 3072, "vocabulary": 30522, "length": 128},
        small={"layers": 2, "width": 32, "heads": 2, "hidden": 64, "vocabulary": 100, "length": 16},
        inputs=tokens,
    ),
    "vit_s": Entry(
        Vit,
        full={"layers": 12, "width": 384, "heads": 6, "hidden": 1536, "patch": 16, "classes": 1000, "image": 224},
        small={"layers": 2, "width": 32, "heads": 2, "hidden": 64, "patch": 8, "classes": 10, "image": 32},
        inputs=images,
    ),
}
