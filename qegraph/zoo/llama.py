"""A decoder in Llama's manner (Touvron et al. 2023): RMSNorm, rotary positions, causal attention, SiLU-gated MLP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention import Attention
from .entry import Entry, tokens


class RmsNorm(nn.Module):
    """x / rms(x) over the last dimension, times a learned weight; spelled out, as model code does."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class DecoderLayer(nn.Module):
    """Pre-norm attention and MLP; `cos` and `sin` are (length, head width) tables."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = RmsNorm(width)
        self.attention = Attention(width, heads, bias=False, causal=True)
        self.mlp_norm = RmsNorm(width)
        self.mlp = GatedMlp(width, hidden)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        def rotate(part: torch.Tensor) -> torch.Tensor:
            left, right = part.chunk(2, dim=-1)
            return part * cos + torch.cat((-right, left), dim=-1) * sin

        x = x + self.attention(self.attention_norm(x), rotate)
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    """Token numbers (N, length) -> logits (N, length, vocabulary)."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, vocabulary: int, length: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(layers))
        self.norm = RmsNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        inner = width // heads
        frequencies = 1.0 / 10000 ** (torch.arange(0, inner, 2) / inner)
        angles = torch.arange(length)[:, None] * frequencies[None, :]
        self.register_buffer("cos", angles.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", angles.sin().repeat(1, 2), persistent=False)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        x = self.words(numbers)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return self.head(self.norm(x))


MODELS = {
    "llama_style": Entry(
        Llama,
        full={"layers": 6, "width": 768, "heads": 12, "hidden": 2048, "vocabulary": 8192, "length": 128},
        small={"layers": 2, "width": 32, "heads": 2, "hidden": 64, "vocabulary": 64, "length": 16},
        inputs=tokens,
    ),
}
