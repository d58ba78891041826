"""What the time of an e-node depends on, as a string: equal signatures are measured once, in any model."""

from __future__ import annotations

from typing import Any

from qegraph.program import Program
from qegraph.snapshot import ClassRef, Data, ENode, Snapshot


def signature(snapshot: Snapshot, node: ENode, program: Program) -> str:
    """Op, shapes and dtypes of operands and result, attributes; no values but whether a zero point is 0."""
    if node.op == "Opaque":
        value = program.values[snapshot.sources[node.eclass][0]]
        name, parts = str(value.target), [_operand(snapshot, child) for child in node.children]
    else:
        name, parts = node.op, [_argument(snapshot, arg) for arg in node.args]
    return f"{name}({', '.join(parts)}) -> {_operand(snapshot, node.eclass)}"


def _argument(snapshot: Snapshot, arg: Any) -> str:
    if isinstance(arg, ClassRef):
        return _operand(snapshot, arg.number)
    if isinstance(arg, Data):
        return _data(snapshot, arg)
    if isinstance(arg, tuple):
        return f"[{' '.join(_argument(snapshot, each) for each in arg)}]"
    if isinstance(arg, float):
        return "f"
    return "s" if isinstance(arg, int) and arg < -1 else str(arg)


def _data(snapshot: Snapshot, data: Data) -> str:
    args = list(data.args)
    if data.name == "PerTensor":
        args = ["zp" if data.args[1] else "0", *data.args[2:]]
    return f"{data.name}({' '.join(_argument(snapshot, each) for each in args)})"


def _operand(snapshot: Snapshot, eclass: int) -> str:
    """E.g. "uint8[1 64 56 56]", "int8[64 3 7 7]!" for a constant, "-" for what is no tensor."""
    shape = snapshot.shape.get(eclass)
    if shape is None:
        return "-"
    dims = " ".join(str(d) if d >= 0 else "s" for d in shape)
    return f"{snapshot.dtype.get(eclass, '?')}[{dims}]{'!' if eclass in snapshot.constants else ''}"
