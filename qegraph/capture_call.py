"""One node's call, read into schema order: targets resolved, defaults filled, nodes replaced by `Ref`s."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from qegraph._torch import OpOverload, OpOverloadPacket, Parameter, resolve_overload, signature, split_arguments
from qegraph.borders import OPERATORS
from qegraph.errors import CaptureError, Unsupported
from qegraph.program import Ref, map_refs


@dataclass(frozen=True, slots=True)
class Method:
    """Target of a tensor method call; emitted with `graph.call_method(name, args, kwargs)`."""

    name: str

    def __call__(self, receiver: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(receiver, self.name)(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Attribute:
    """Target of a sub-module read as a value (the body of a control-flow operator); `Program.modules` holds it.

    It takes no arguments and is emitted with `graph.get_attr(name)`.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A callable and its arguments, nodes given as `Ref`s; for an `OpOverload`, `args` follows the schema."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def run(self, read: Callable[[Ref], Any]) -> Any:
        """Call the target, with what `read` gives for each operand."""

        def change(item: Any) -> Any:
            return read(item) if isinstance(item, Ref) else item

        args = tuple(map_refs(arg, change) for arg in self.args)
        kwargs = {name: map_refs(arg, change) for name, arg in self.kwargs.items()}
        if isinstance(self.target, OpOverload):
            args, kwargs = split_arguments(self.target, args)
        return self.target(*args, **kwargs)


def references(item: Any) -> list[Ref]:
    """The `Ref`s in a nested argument, in order, repeats kept."""
    found: list[Ref] = []

    def visit(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            found.append(leaf)
        return leaf

    map_refs(item, visit)
    return found


def where(node: fx.Node) -> str:
    """The node in words: name, target and the source line it came from."""
    lines = [line.strip() for line in str(node.meta.get("stack_trace") or "").splitlines() if line.strip()]
    source = f" (from: {lines[-1]})" if lines else ""
    return f"node '{node.name}' [{node.op} {node.target}]{source}"


def read_call(node: fx.Node, refer: Callable[[fx.Node], Ref], fake: Callable[[Ref], Any]) -> Call:
    """The call a `call_function` or `call_method` node makes.

    Raises `CaptureError` when the arguments don't fit the operator's schema.
    """
    args = tuple(plain(arg, refer) for arg in node.args)
    kwargs = {name: plain(arg, refer) for name, arg in node.kwargs.items()}
    if node.op == "call_method":
        return Call(Method(str(node.target)), args, kwargs)
    target: Any = OPERATORS.get(node.target, node.target)
    if isinstance(target, OpOverloadPacket):
        target = _overload(target, args, kwargs, fake) or target
    if not isinstance(target, OpOverload):
        return Call(target, args, kwargs)
    return Call(target, schema_arguments(target, args, kwargs, node))


def _overload(packet: OpOverloadPacket, args: Any, kwargs: Any, fake: Callable[[Ref], Any]) -> OpOverload | None:
    def change(item: Any) -> Any:
        return fake(item) if isinstance(item, Ref) else item

    return resolve_overload(packet, map_refs(args, change), map_refs(kwargs, change))


def schema_arguments(
    op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], node: fx.Node | None = None
) -> tuple[Any, ...]:
    """One entry per schema argument of `op`, in schema order, defaults filled in; `node` only names the culprit."""
    at = where(node) if node is not None else str(op)
    parameters = signature(op).parameters
    names = {parameter.name for parameter in parameters[len(args) :]}
    if len(args) > len(parameters) or not kwargs.keys() <= names:
        raise CaptureError(
            f"{at}: {len(args)} positional arguments and {sorted(kwargs)} don't fit {signature(op).text}"
        )
    given = {parameter.name: arg for parameter, arg in zip(parameters, args, strict=False)} | dict(kwargs)
    missing = [p.name for p in parameters if p.required and p.name not in given]
    if missing:
        raise CaptureError(f"{at}: arguments {missing} are missing for {signature(op).text}")
    return tuple(_coerced(given.get(p.name, p.default), p) for p in parameters)


def _coerced(value: Any, parameter: Parameter) -> Any:
    """`value` in the one spelling used for its schema type, so that equal calls compare equal."""
    if parameter.is_list:
        if isinstance(value, (list, tuple)):
            return list(value)
        if value is not None and parameter.list_size:
            return [value] * parameter.list_size
    if parameter.type == "float" and type(value) is int:
        return float(value)
    return value


def plain(item: Any, refer: Callable[[fx.Node], Ref]) -> Any:
    """An FX argument with `Ref`s for nodes and ordinary containers for FX's immutable ones.

    Raises `Unsupported` for named tuples, whose type a rebuilt graph would lose.
    """
    if isinstance(item, fx.Node):
        return refer(item)
    if isinstance(item, tuple):
        if hasattr(item, "_fields"):
            raise Unsupported(f"a named tuple ({type(item).__name__}) in the graph: return a tuple or a dict instead")
        return tuple(plain(each, refer) for each in item)
    if isinstance(item, list):
        return [plain(each, refer) for each in item]
    if isinstance(item, dict):
        return {key: plain(each, refer) for key, each in item.items()}
    if isinstance(item, slice):
        return slice(plain(item.start, refer), plain(item.stop, refer), plain(item.step, refer))
    return item
