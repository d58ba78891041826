"""Embedding bags and attention: in floats, and torchao's kernels on codes, which are there or not."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from qegraph.cost import Rates, elements
from qegraph.lang.terms import Tensor
from qegraph.lang.vocabulary import embedding_bag, nothing, softmax
from qegraph.ops.quant import dequantized, dtype_in, quantized, scale_of, stored
from qegraph.ops.table import Emission, Reading, means, reads, reads_first_of, word
from qegraph.program import Value
from qegraph.snapshot import Data, ENode, Snapshot
from qegraph.torch_names import aten

_SUM = 0
"""The mode of an embedding bag that sums its rows."""


@reads_first_of(aten._embedding_bag_forward_only.default, aten._embedding_bag.default, aten.embedding_bag.padding_idx)
def read_embedding_bag(reading: Reading, value: Value) -> Tensor | None:
    """Sums of rows, all with weight 1, with the end of the last bag among the offsets."""
    w, indices, offsets, _, mode, _, weights, with_end, padding = value.args
    if mode != _SUM or weights is not None or not with_end or (padding is not None and padding >= 0):
        return None
    if len(reading.shape(indices)) != 1 or reading.dtype(indices) != reading.dtype(offsets):
        return None
    return embedding_bag(reading.tensor(w), reading.tensor(indices), reading.tensor(offsets))


@reads_first_of(aten.embedding_bag.default)
def read_plain_embedding_bag(reading: Reading, value: Value) -> Tensor | None:
    return read_embedding_bag(reading, _with_padding(value))


def _with_padding(value: Value) -> Value:
    """The same call with no row left out."""
    return Value(value.index, value.kind, value.target, (*value.args, None), {}, value.fake, value.name, value.meta)


@reads(aten.softmax.int, aten._softmax.default)
def read_softmax(reading: Reading, value: Value) -> Tensor | None:
    """Over the last dim, in one dtype; the third argument is the result's dtype, or whether that is float32."""
    x, dim, converts = value.args
    rank = len(reading.shape(x))
    if rank == 0 or dim % rank != rank - 1 or (converts not in (None, False)) or reading.dtype(x) != torch.float32:
        return None
    return softmax(reading.tensor(x), 1.0, nothing())


def _bag_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """Each index reads one row."""
    w, indices = node.args[0].number, node.args[-3 if node.op == "QEmbeddingBag" else -2].number
    rows, width = elements(snapshot, indices), (snapshot.shape.get(w) or (1,))[-1]
    item = rates.traffic(snapshot, w) / max(1, elements(snapshot, w))
    return rates.aten_call + rows * width * item + rates.traffic(snapshot, node.eclass)


@word("EmbeddingBag", _bag_cost)
def emit_embedding_bag(emission: Emission, node: ENode) -> fx.Node:
    w, indices, offsets = (emission.node(each.number) for each in node.args)
    sums = emission.call(aten.embedding_bag.default, w, indices, offsets, False, _SUM, False, None, True)
    return emission.call(operator.getitem, sums, 0)


@word("QEmbeddingBag", _bag_cost)
def emit_qembedding_bag(emission: Emission, node: ENode) -> fx.Node:
    w, qw, indices, offsets, out = node.args
    operands = [emission.call(aten.contiguous.default, emission.node(each.number)) for each in (w, indices, offsets)]
    scale = emission.buffer("scale", torch.tensor([scale_of(emission, qw)[0]], dtype=torch.float32))
    target: Any = torch.ops.torchao._scaled_embedding_bag.default
    return emission.call(target, *operands, scale, scale_of(emission, out)[0], _SUM, True, dtype_in(out))


def _softmax_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    """The scale and the mask are calls of their own."""
    _, scale, mask = node.args
    calls = 1 + (scale != 1.0) + (mask.number in snapshot.shape)
    return calls * (rates.aten_call + 2 * rates.traffic(snapshot, node.eclass))


@word("Softmax", _softmax_cost)
def emit_softmax(emission: Emission, node: ENode) -> fx.Node:
    x, scale, mask = node.args
    scores = emission.node(x.number)
    if scale != 1.0:
        scores = emission.call(aten.mul.Tensor, scores, scale)
    if mask.number in emission.snapshot.shape:
        scores = emission.call(aten.add.Tensor, scores, emission.node(mask.number))
    return emission.call(aten.softmax.int, scores, -1)


def _attention_cost(snapshot: Snapshot, node: ENode, rates: Rates) -> float:
    x, key = node.args[0].number, node.args[2].number
    tokens = (snapshot.shape.get(key) or (1, 1))[-2]
    work = 2 * elements(snapshot, x) * abs(tokens) / rates.int8_macs
    return rates.linear_call + max(work, rates.traffic(snapshot, node.eclass, *node.children))


@word("QAttention", _attention_cost)
def emit_qattention(emission: Emission, node: ENode) -> fx.Node:
    x, qx, key, qk, value, qv, scale, mask, qa, out = node.args
    operands = [emission.node(each.number) for each in (x, key, value, mask)]
    params = [number for q in (qx, qk, qv, qa, out) for number in scale_of(emission, q)]
    target: Any = torch.ops.torchao.qscaled_dot_product.default
    return emission.call(target, *operands, 0.0, False, scale, *params)


@means("EmbeddingBag")
def summed_rows(w: Any, indices: Any, offsets: Any) -> Any:
    return aten.embedding_bag.default(w, indices, offsets, False, _SUM, False, None, True)[0]


@means("QEmbeddingBag")
def summed_codes(w: Any, qw: Data, indices: Any, offsets: Any, out: Data) -> Any:
    return stored(summed_rows(dequantized(w, qw), indices, offsets), out)


@means("Softmax")
def probabilities(x: Any, scale: float, mask: Any) -> Any:
    scores = x * scale
    return aten.softmax.int(scores if mask is None else scores + mask, -1)


@means("QAttention")
def attended(
    x: Any, qx: Data, key: Any, qk: Data, value: Any, qv: Data, scale: float, mask: Any, qa: Data, out: Data
) -> Any:
    scores = dequantized(x, qx) @ dequantized(key, qk).transpose(-1, -2)
    kept = quantized(probabilities(scores, scale, mask), qa)
    return quantized(dequantized(kept, qa) @ dequantized(value, qv), out)
