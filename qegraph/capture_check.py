"""What capture refuses or remarks on before it reads: malformed graphs, and quantization parameters no one can mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx

from qegraph._torch import OpOverload, is_guards_module
from qegraph.capture_call import Call, where
from qegraph.errors import CaptureError
from qegraph.packing import InputChecks, PackedWeight
from qegraph.program import Ref
from qegraph.torch_names import quantized_decomposed

_STORES = (
    *(torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int32),
    *(torch.float8_e5m2, torch.float8_e4m3fn),
)
"""What torch's quantize stores codes as."""

_AGAIN = "quantize the model again, with calibration inputs that reach this node"

MAX_ZERO_POINT = 1 << 10
"""Beyond which a kernel that adds the zero point before it rounds, in float32, would round too many codes elsewhere."""


def check_graph(module: Any) -> fx.Graph:
    """The graph of a module. Raises CaptureError for what has none, or one that can't be run in its order."""
    if not isinstance(module, fx.GraphModule):
        raise CaptureError(
            f"expected an fx.GraphModule or ExportedProgram with quantize/dequantize operators, got a "
            f"{type(module).__name__}: export and quantize the model first (torch.export, prepare_pt2e, convert_pt2e)"
        )
    seen: set[fx.Node] = set()
    names: dict[str, fx.Node] = {}
    last = None
    for node in module.graph.nodes:
        for operand in node.all_input_nodes:
            if operand not in seen:
                raise CaptureError(
                    f"{where(node)} reads '{operand.name}', which isn't computed before it in this graph"
                )
        if node.name in names:
            raise CaptureError(
                f"two nodes are named '{node.name}': {where(names[node.name])} and {where(node)}; rename one"
            )
        if node.op == "call_module":
            _check_module(module, node)
        names[node.name] = node
        seen.add(node)
        last = node
    if last is None or last.op != "output":
        raise CaptureError("the graph has no output node at its end: nothing says what it returns")
    return module.graph


def _check_module(module: fx.GraphModule, node: fx.Node) -> None:
    try:
        module.get_submodule(str(node.target))
    except AttributeError as error:
        raise CaptureError(f"{where(node)}: the module has no sub-module '{node.target}': {error}") from error


def check_parameters(node: fx.Node, call: Call, fake: Callable[[Ref], Any]) -> None:
    """Raises CaptureError for a quantize or dequantize that raises whatever it is run on."""
    op = call.target
    if not isinstance(op, OpOverload) or op.namespace != "quantized_decomposed":
        return
    values = [fake(each) if isinstance(each, Ref) else each for each in call.args]
    if not isinstance(values[0], torch.Tensor):
        return  # the call on fake values says so
    if op.overloadpacket in (quantized_decomposed.quantize_per_channel, quantized_decomposed.dequantize_per_channel):
        _check_channels(node, *values[:4])
    if op.overloadpacket is quantized_decomposed.quantize_per_tensor:
        _check_stored(node, *values[1:])
    if op.overloadpacket in (quantized_decomposed.dequantize_per_tensor, quantized_decomposed.dequantize_per_channel):
        stored = values[-2]
        if values[0].dtype != stored:
            raise CaptureError(f"{where(node)} expects codes of {stored}, and reads {values[0].dtype}")


def _check_channels(node: fx.Node, x: torch.Tensor, scales: Any, zero_points: Any, axis: int) -> None:
    if not -x.dim() <= axis < x.dim():
        raise CaptureError(f"{where(node)}: there is no dim {axis} among the {x.dim()} of its operand")
    channels: Any = x.shape[axis]
    if not isinstance(channels, int):
        return  # symbolic
    for name, given in (("scales", scales), ("zero points", zero_points)):
        if isinstance(given, torch.Tensor) and given.dim() == 1 and given.shape[0] not in (1, channels):
            raise CaptureError(
                f"{where(node)} has {given.shape[0]} {name} for the {channels} channels of dim {axis}; expected "
                f"one for each; {_AGAIN}"
            )


def _check_stored(node: fx.Node, scale: Any, _: Any, low: Any, high: Any, dtype: torch.dtype) -> None:
    if isinstance(scale, float) and scale == 0.0:
        raise CaptureError(f"{where(node)} divides by its scale, which is 0; {_AGAIN}")
    if dtype not in _STORES:
        raise CaptureError(
            f"{where(node)} can't store codes as {dtype}; quantize to one of {', '.join(map(str, _STORES))}"
        )
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    if isinstance(low, int) and (low < info.min or high > info.max):
        raise CaptureError(
            f"{where(node)}: {low}..{high} goes beyond {dtype}, which holds {info.min:.0f}..{info.max:.0f}"
        )


def remarks(node: fx.Node, call: Call) -> Iterator[str]:
    """What is odd about per-tensor parameters given as numbers. The node is kept as it is, and computes what it did."""
    if not isinstance(call.target, OpOverload) or call.target.overloadpacket not in (
        quantized_decomposed.quantize_per_tensor,
        quantized_decomposed.dequantize_per_tensor,
    ):
        return
    _, scale, zero_point, low, high, dtype, *_ = call.args
    if isinstance(scale, float) and not (0 < scale < math.inf):
        yield f"{where(node)}: its scale is {scale:g}, not positive and finite: no rule reads it; {_AGAIN}"
    if isinstance(zero_point, int) and is_far(zero_point, dtype):
        yield f"{where(node)}: its zero point is {zero_point}, far outside {dtype}: no rule reads it; {_AGAIN}"
    if isinstance(low, int) and low > high:
        yield f"{where(node)}: its range is empty: {low}..{high}; {_AGAIN}"


def is_far(zero_point: int, dtype: torch.dtype) -> bool:
    """For codes of 8 bits, the zero point is too far outside to be exact in the kernels."""
    return dtype in (torch.uint8, torch.int8) and abs(zero_point) > MAX_ZERO_POINT


def unread_module(node: fx.Node, module: torch.nn.Module) -> Iterator[str]:
    """That what a sub-module does is not looked into, if it does anything but hold a weight or check inputs."""
    if not is_guards_module(module) and not isinstance(module, (PackedWeight, InputChecks)):
        kind = "the body of an operator" if node.op == "get_attr" else "called as a whole"
        yield (
            f"{where(node)}: sub-module '{node.target}' is {kind} and stays as it is: only operators of the graph "
            "itself are optimised; torch.export makes one graph of what is called, a body can be optimised by itself"
        )
