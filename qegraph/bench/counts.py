"""What is left in a graph: quantize, dequantize, float activations, GEMMs. One definition for every route.

The routes stop at different levels: one leaves `silu`, another has it spelled as `x / (exp(-x) + 1)`. So an activation
is counted by its *signature*, the one operator that occurs exactly once in every spelling of it (`exp` of a `neg` for
silu, `clamp_max` for relu6 and hardswish, `erf` for gelu). An activation inside a oneDNN op's post-op is no node, and
isn't counted; nor is one on integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

_CLAMPS = {"relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "clamp", "clamp_max"}
_SMOOTH = {"silu", "gelu", "tanh", "sigmoid", "elu", "mish", "leaky_relu", "erf"}
_ACTIVATIONS = _CLAMPS | _SMOOTH
_LINEARS = {"linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "_linear_pointwise", "_mkl_linear"}
_CONVOLUTIONS = {"convolution", "conv1d", "conv2d", "conv3d", "_convolution_pointwise"}
_FLOAT_GEMMS = _LINEARS | _CONVOLUTIONS
_PACKED = {
    "linear_dynamic_fp16",
    "linear_relu_dynamic_fp16",
    "_weight_int8pack_mm",
    "_weight_int4pack_mm_for_cpu",
}
_ARITHMETIC = {"add", "sub", "rsub", "mul", "div"}
_CASTS = {"to", "_to_copy", "convert_element_type"}


@dataclass(frozen=True)
class Counts:
    """Nodes of one graph by kind; `nodes` is all calls, without inputs, constants and the output.

    int8_gemms  by a oneDNN kernel of quantized weights; `packed_gemms` of float activations and narrow weights.
    arithmetic  other float sums and products, casts of floats that are no constants, and integer products whose
                scales are still to be applied.
    """

    nodes: int = 0
    quantize: int = 0
    dequantize: int = 0
    activations: int = 0
    int8_gemms: int = 0
    float_gemms: int = 0
    packed_gemms: int = 0
    arithmetic: int = 0

    @property
    def leftovers(self) -> int:
        """What a perfect lowering would have folded into the int8 ops."""
        return self.quantize + self.dequantize + self.activations


def count(graph: Graph | GraphModule) -> Counts:
    """Count one graph."""
    module, graph = (graph, graph.graph) if isinstance(graph, GraphModule) else (None, graph)
    calls = [node for node in graph.nodes if node.op in ("call_function", "call_method", "call_module")]
    kinds = Counter(kind for node in calls if (kind := _kind(node, module)))
    return Counts(nodes=len(calls), **kinds)


def total(parts: Iterable[Counts]) -> Counts:
    """The sum over the pieces of a graph that was compiled in pieces."""
    fields = Counter[str]()
    for part in parts:
        fields.update(vars(part))
    return Counts(**fields)


def _kind(node: Node, module: GraphModule | None) -> str | None:
    name = operator_name(node, module)
    tests: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("quantize", lambda: name.startswith(("quantize_per_", "quantize_affine_"))),
        ("dequantize", lambda: name.startswith(("dequantize_per_", "dequantize_affine_"))),
        ("int8_gemms", lambda: name.startswith(("qlinear", "qconv")) and "prepack" not in name),
        ("float_gemms", lambda: name in _FLOAT_GEMMS),
        ("packed_gemms", lambda: name in _PACKED),
        ("activations", lambda: _is_activation(node, name, module) and not _on_integers(node)),
        ("arithmetic", lambda: _is_arithmetic(node, name)),
    )
    return next((kind for kind, test in tests if test()), None)


def operator_name(node: Node, module: GraphModule | None = None) -> str:
    """The bare name of what a node calls: no namespace, no overload, no in-place underscore, lower case."""
    target: Any = node.target
    if node.op == "call_module" and module is not None:
        target = type(module.get_submodule(str(target)))
    name = str(getattr(target, "__name__", target)).split(".")[0]
    return (name if name.startswith("__") else name.removesuffix("_")).lower()


def _is_activation(node: Node, name: str, module: GraphModule | None) -> bool:
    if name in _ACTIVATIONS:
        return True
    if name == "clamp_min":
        return not any(operator_name(user, module) == "clamp_max" for user in node.users)
    if name == "exp":
        return any(operator_name(source, module) == "neg" for source in node.all_input_nodes)
    if name == "where":
        return any(operator_name(source, module) == "gt" for source in node.all_input_nodes)
    return False


def _is_arithmetic(node: Node, name: str) -> bool:
    if name in _CASTS:
        sources = node.all_input_nodes
        return (
            not _on_integers(node) and bool(sources) and not _is_constant(sources[0]) and not _on_integers(sources[0])
        )
    return name == "_int_mm" or (name in _ARITHMETIC and not _on_integers(node))


def _is_constant(node: Node) -> bool:
    return node.op == "get_attr" or (bool(node.all_input_nodes) and all(map(_is_constant, node.all_input_nodes)))


def _on_integers(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and not value.dtype.is_floating_point
