"""What Inductor is about to generate code for, counted."""

from __future__ import annotations

from typing import Any

from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.fx import Graph

from .counts import Counts, count


class Recorder(CustomGraphPass):
    """Counts each graph Inductor is about to generate code for, after its quantization passes; changes nothing.

    Inductor keeps quantize and dequantize as calls up to code generation, so they can be counted here.
    """

    def __init__(self) -> None:
        self.counts: list[Counts] = []

    def __call__(self, graph: Graph) -> None:
        self.counts.append(count(graph))

    def uuid(self) -> None:
        """No caching: a cached graph would never be shown to the pass."""
        return

    def frozen(self) -> dict[str, Any]:
        """Inductor's settings for freezing, without which it makes no int8 op, and for being counted."""
        return {"freezing": True, "post_grad_custom_post_pass": self}
