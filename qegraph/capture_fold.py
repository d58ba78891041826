"""What capture decides about one call by itself: is it pure, is it its own operand, is it a constant."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from qegraph._torch import (
    FakeTensor,
    HigherOrderOperator,
    OpOverload,
    has_side_effect,
    signature,
    unset_fake_temporarily,
)
from qegraph.capture_call import Call, references
from qegraph.program import Ref

_aten = torch.ops.aten
_quantized = torch.ops.quantized_decomposed

_IDENTITIES: frozenset[Any] = frozenset({_aten.alias.default, _aten.detach.default, _aten.lift_fresh.default})
_DROPOUTS: frozenset[Any] = frozenset(
    getattr(_aten, name + suffix).default
    for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    for suffix in ("", "_")
)

_FOLDED_VIEWS: frozenset[Any] = frozenset(
    {_aten.t.default, _aten.transpose.int, _aten.permute.default, _aten.view.default, _aten.reshape.default}
    | {_aten._unsafe_view.default, _aten.contiguous.default}
)
_FOLDED_COPIES: frozenset[Any] = frozenset(
    {_aten.clone.default, _aten.lift_fresh_copy.default, _quantized.quantize_per_tensor.default}
    | {_quantized.quantize_per_tensor.tensor, _quantized.quantize_per_tensor.tensor2}
    | {_quantized.quantize_per_channel.default}
)
_FOLDED_CASTS: frozenset[Any] = frozenset({_aten.to.dtype, _aten._to_copy.default})
FOLDABLE = _FOLDED_VIEWS | _FOLDED_COPIES | _FOLDED_CASTS

_MAX_CAST = 1 << 16  # elements; a larger cast constant costs memory that the source graph doesn't spend


def identity_operand(call: Call, fake_of: Callable[[Ref], Any]) -> Ref | None:
    """The operand that `call` returns itself, if it does: `detach`, `alias`, `lift_fresh`, dropout in eval mode, `to`
    the dtype it has.
    """
    first = call.args[0] if call.args else None
    if not isinstance(first, Ref):
        return None
    same = call.target in _IDENTITIES or is_dropout_off(call.target, call.args)
    return first if same or _keeps_dtype(call, fake_of(first)) else None


def _keeps_dtype(call: Call, operand: Any) -> bool:
    if call.target is not _aten.to.dtype or not isinstance(operand, torch.Tensor):
        return False
    _, dtype, _, copy, memory_format = call.args
    return dtype == operand.dtype and not copy and memory_format in (None, torch.preserve_format)


def is_dropout_off(op: Any, args: Sequence[Any]) -> bool:
    """Whether a call with arguments in schema order is a dropout that returns its very operand."""
    return op in _DROPOUTS and (args[2] is False or args[1] == 0.0)


def checked_operand(call: Call) -> Ref | None:
    """The operand of which the call only checks metadata, as exported graphs do before each conversion."""
    return call.args[0] if call.target is _aten._assert_tensor_metadata.default else None


def is_pure(call: Call, fake: Any) -> bool:
    """Whether the call may be merged, dropped and reordered: no effect, no random numbers, a result."""
    op = call.target
    if has_side_effect(op, call.args, call.kwargs):
        return False
    if not isinstance(op, OpOverload):
        return fake is not None or op is operator.getitem
    return bool(signature(op).returns) and (not signature(op).is_random or _randomness_is_off(op, call))


def writing_body(node: fx.Node, module: torch.nn.Module) -> bool:
    """Whether a higher-order operator's body, read as an attribute of `module`, has an in-place operator."""
    if not isinstance(node.target, HigherOrderOperator):
        return False
    bodies = [getattr(module, str(each.target), None) for each in node.all_input_nodes if each.op == "get_attr"]
    return any(_writes(inner) for body in bodies if isinstance(body, fx.GraphModule) for inner in body.graph.nodes)


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and bool(signature(node.target).written)


def _randomness_is_off(op: OpOverload, call: Call) -> bool:
    """Dropout of probability 0 or outside training draws no number."""
    given = dict(zip((p.name for p in signature(op).parameters), call.args, strict=True))
    probability = given.get("dropout_p", given.get("p", given.get("dropout")))
    training = given.get("train", given.get("training", given.get("is_training")))
    return (type(probability) is float and probability == 0.0) or training is False


def returned_nodes(graph: fx.Graph) -> set[fx.Node]:
    """Nodes whose own memory the graph may return.

    A folded copy would hand the same tensor to the caller on every call, where the source made a new one.
    """
    returned: set[fx.Node] = set()
    pending = list(graph.output_node().all_input_nodes)
    while pending:
        node = pending.pop()
        if node not in returned:
            returned.add(node)
            if _may_alias(node):
                pending.extend(node.all_input_nodes)
    return returned


def _may_alias(node: fx.Node) -> bool:
    return not isinstance(node.target, OpOverload) or signature(node.target).aliases or node.target in _FOLDED_VIEWS


def fold(call: Call, constants: Mapping[int, torch.Tensor]) -> torch.Tensor | None:
    """The tensor `call` always returns, or None when it has an operand outside `constants` or isn't worth folding.

    Evaluated once, on the real tensors. Views share the memory of their constant. Nothing that dequantizes is here:
    the quantized form is what the rules need.
    """
    if call.target not in FOLDABLE:
        return None
    refs = references(call.args)
    tensors = [constants.get(ref.index) for ref in refs]
    if not tensors or any(tensor is None or not _is_real(tensor) for tensor in tensors):
        return None
    if call.target in _FOLDED_CASTS and not _is_worth(call, constants[refs[0].index]):
        return None
    with unset_fake_temporarily(), torch.no_grad():
        return call.run(lambda ref: constants[ref.index])


def _is_worth(cast: Call, source: torch.Tensor) -> bool:
    """Codes and half floats that become floats are what the rules need; emission folds them if no rule does."""
    widens = source.dtype in (torch.int8, torch.float16) and cast.args[1:2] != (source.dtype,)
    is_float = any(isinstance(each, torch.dtype) and each.is_floating_point for each in cast.args)
    return source.numel() <= _MAX_CAST and not (widens and is_float)


def _is_real(tensor: torch.Tensor) -> bool:
    return not isinstance(tensor, FakeTensor) and tensor.device.type != "meta"
