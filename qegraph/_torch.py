"""What qegraph uses of torch that changes between versions; private torch names are imported here and nowhere else."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._library.utils import is_impure
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot, make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv, statically_known_true
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.fx.traceback import preserve_node_meta
from torch.utils import _pytree as pytree
from torch.utils._sympy.interp import sympy_interp
from torch.utils._sympy.reference import PythonReferenceAnalysis

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the module warns that it moves to torchao, which registers the same operators
    from torch.ao.quantization.fx import _decomposed as quantizers  # registers quantized_decomposed

__all__ = [
    "FakeTensor",
    "FakeTensorMode",
    "HigherOrderOperator",
    "OpOverload",
    "OpOverloadPacket",
    "Parameter",
    "ShapeEnv",
    "Signature",
    "codegen_of",
    "computed_size",
    "enable_python_dispatcher",
    "enter_autocast",
    "exit_autocast",
    "fixed_symbols",
    "has_cpu_kernel",
    "has_side_effect",
    "hint",
    "is_guards_module",
    "is_mutated",
    "known_size",
    "layout_of",
    "pytree",
    "pytree_codegen",
    "pytree_info",
    "quantizer_decompositions",
    "register_fake",
    "register_log",
    "resolve_overload",
    "same_overload",
    "sets_autocast",
    "sets_grad_mode",
    "signature",
    "split_arguments",
    "storage_key",
    "symbols_of",
    "trace_functional",
    "traced_name",
    "unset_fake_temporarily",
    "version_of",
]

# known to torch, not to its stubs
_has_data_mutation = cast(Callable[[Any], bool], getattr(torch, "_functionalize_has_data_mutation"))  # noqa: B009
_has_metadata_mutation = cast(Callable[[Any], bool], torch._functionalize_has_metadata_mutation)

_MEMORY_FORMATS = (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)
_LIST_TYPES = ("List[", "Optional[List[")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One schema argument. `list_size` is n of `int[n]`, where a bare int means n times that int."""

    name: str
    type: str
    required: bool
    default: Any
    keyword_only: bool
    is_list: bool
    list_size: int | None
    is_written: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """An operator's schema, read once.

    aliases     a result may share memory with an argument, by annotation or by tag.
    is_random   the result depends on a random generator, unless the arguments switch that off.
    """

    parameters: tuple[Parameter, ...]
    text: str
    written: tuple[int, ...]
    returns: int
    aliases: bool
    is_random: bool


@functools.cache
def signature(op: OpOverload) -> Signature:
    """The schema of `op`."""
    schema = op._schema
    parameters = tuple(_parameter(argument) for argument in schema.arguments)
    return Signature(
        parameters=parameters,
        text=str(schema),
        written=tuple(i for i, parameter in enumerate(parameters) if parameter.is_written),
        returns=len(schema.returns),
        aliases=_may_alias(op) or any(r.alias_info for r in schema.returns),
        is_random=torch.Tag.nondeterministic_seeded in op.tags,
    )


def _may_alias(op: OpOverload) -> bool:
    """Tagged so; but batch_norm is for the statistics it writes in training, its result is always new."""
    return torch.Tag.maybe_aliasing_or_mutating in op.tags and op is not torch.ops.aten.batch_norm.default


def _parameter(argument: Any) -> Parameter:
    kind, default = str(argument.real_type), argument.default_value
    if kind == "MemoryFormat" and isinstance(default, int):
        default = _MEMORY_FORMATS[default]
    return Parameter(
        name=argument.name,
        type=kind,
        required=not argument.has_default_value(),
        default=default,
        keyword_only=argument.kwarg_only,
        is_list=kind.startswith(_LIST_TYPES),
        list_size=argument.N,
        is_written=argument.alias_info is not None and argument.alias_info.is_write,
    )


def resolve_overload(packet: OpOverloadPacket, args: Sequence[Any], kwargs: Mapping[str, Any]) -> OpOverload | None:
    """The overload `packet(*args, **kwargs)` would run, or None when torch finds none."""
    resolve = cast(Callable[..., str], torch._C._jit_resolve_packet)
    try:
        return getattr(packet, resolve(packet._qualified_op_name, *args, **kwargs))
    except (RuntimeError, AttributeError):
        return None


def has_cpu_kernel(operator: str) -> bool:
    """Whether an operator ("namespace::name.overload") is registered with a kernel for the CPU."""
    has = cast(Callable[[str, str], bool], torch._C._dispatch_has_kernel_for_dispatch_key)
    try:
        return any(has(operator, key) for key in ("CPU", "CompositeImplicitAutograd", "CompositeExplicitAutograd"))
    except RuntimeError:
        return False  # no such operator


def register_fake(operator: str, function: Callable[..., Any]) -> None:
    """Give an operator a kernel for fake tensors, unless torch has one."""
    if has_cpu_kernel(operator) and not torch._C._dispatch_has_kernel_for_dispatch_key(operator, "Meta"):
        torch.library.register_fake(operator, function)


def same_overload(op: OpOverload, name: str) -> OpOverload | None:
    """The overload, of the same overload name, of another operator in the namespace of `op`; None if there is none."""
    packet = getattr(getattr(torch.ops, op.namespace), name, None)
    found = getattr(packet, op._overloadname, None)
    return found if isinstance(found, OpOverload) else None


def codegen_of(graph: torch.fx.Graph) -> Any:
    """How the arguments and results of a graph's function are flattened."""
    return graph._codegen


def pytree_info(codegen: Any) -> tuple[list[str], Any, Any] | None:
    """The arguments' names and the pytree specs of arguments and results, if `codegen` flattens them."""
    if not isinstance(codegen, _PyTreeCodeGen):
        return None
    info = codegen.pytree_info
    return info.orig_args, info.in_spec, info.out_spec


def pytree_codegen(names: list[str], in_spec: Any, out_spec: Any) -> Any:
    """The codegen that `pytree_info` describes."""
    return _PyTreeCodeGen(_PyTreeInfo(names, in_spec, out_spec))


def version_of(tensor: torch.Tensor) -> int:
    """A counter of the in-place writes to the tensor's memory; inference tensors have none."""
    return 0 if tensor.is_inference() else tensor._version


def layout_of(packed: torch.Tensor) -> bytes:
    """oneDNN's description of how an opaque tensor is laid out, as it stands in memory; empty for a plain one, which
    weights are to kernels that this CPU emulates.
    """
    return torch.ops.mkldnn._get_mkldnn_serialized_md(packed).numpy().tobytes() if packed.is_mkldnn else b""


def run_while_traced(function: Callable[..., None]) -> Callable[..., None]:
    """As `torch.compiler.assume_constant_result` does, which imports Dynamo: it is run, not traced."""
    vars(function)["_dynamo_marked_constant"] = True
    return function


def split_arguments(op: OpOverload, args: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Schema-ordered `args` as the positional and keyword arguments of a call: `op(*positional, **keyword)`."""
    parameters = signature(op).parameters
    positional = tuple(arg for arg, parameter in zip(args, parameters, strict=True) if not parameter.keyword_only)
    keyword = {p.name: arg for arg, p in zip(args, parameters, strict=True) if p.keyword_only}
    return positional, keyword


def register_log(name: str, logger: str) -> None:
    """Let `TORCH_LOGS` switch `logger` by `name`, and list it.

    torch reads the variable when it is imported itself, and knows a package's name as well as a registered one: so what
    is registered later is switched on by then.
    """
    torch._logging._internal.register_log(name, logger)


def hint(size: torch.SymInt) -> int | None:
    """The number that a size has for the inputs its graph was traced with; None if it depends on data."""
    number = size.node.hint
    return None if number is None else int(number)


def known_size(size: torch.SymInt) -> int | None:
    """The number that a size has under the guards of its graph, such as 8*s*s under the guard 8*s*s == 392, or None.

    No guard is added.
    """
    number = hint(size)
    return number if number is not None and statically_known_true(size == number) else None


def symbols_of(size: torch.SymInt) -> AbstractSet[str]:
    """The names of the symbols that a size is computed from."""
    return {str(symbol) for symbol in size.node.expr.free_symbols}


def computed_size(size: torch.SymInt, symbols: Mapping[str, fx.Node]) -> fx.Node | int:
    """Nodes that compute a size from its symbols, which are nodes of the graph they are added to; the last one. A
    number, where the size has become one.
    """
    expression = size.node.expr
    proxies = {symbol: fx.Proxy(symbols[str(symbol)]) for symbol in expression.free_symbols}
    found: fx.Proxy | int = sympy_interp(PythonReferenceAnalysis, proxies, expression)
    return found.node if isinstance(found, fx.Proxy) else int(found)


def fixed_symbols(mode: FakeTensorMode) -> AbstractSet[str]:
    """The symbols that stand for something else by now, in a graph whose guards are settled; none in others."""
    shapes = mode.shape_env
    return {str(symbol) for symbol in shapes.replacements} if shapes is not None and shapes.frozen else frozenset()


def quantizer_decompositions() -> Mapping[OpOverload, Callable[..., Any]]:
    """Of quantize and dequantize into arithmetic, as torch's own functions define them."""
    operators = torch.ops.quantized_decomposed
    return {
        getattr(operators, name).default: getattr(quantizers, name)
        for direction in ("quantize", "dequantize")
        for name in (f"{direction}_per_tensor", f"{direction}_per_channel")
    }


def storage_key(tensor: torch.Tensor) -> int | None:
    """What tensors that share memory have in common while they live; None for tensors without a storage."""
    try:
        return tensor.untyped_storage()._cdata
    except NotImplementedError:
        return None


def is_guards_module(module: torch.nn.Module) -> bool:
    """True for the module `torch.export` adds to check input shapes; it returns nothing."""
    return type(module).__name__ == "GuardsFn"


def has_side_effect(target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether torch knows that a call does more than return a value; random numbers of operators don't count."""
    return is_impure(target, args=args, kwargs=dict(kwargs), impure_random=not isinstance(target, OpOverload))


def trace_functional(
    function: Callable[..., Any], inputs: Sequence[Any], *, pre_dispatch: bool
) -> torch.fx.GraphModule:
    """The graph of `function(*inputs)` without in-place operators.

    With `pre_dispatch`, `aten.linear` and `aten.conv2d` are kept whole and autocast is recorded as calls that switch
    it; without, both are expanded into the operators that run. `function` sees tensors that record writes
    (`is_mutated`, `traced_name`). Writes to `inputs` are not in the graph.
    The current fake mode must be that of `inputs`.
    """
    mode = FunctionalTensorMode(pre_dispatch=pre_dispatch, export=True)

    def unwrap(tensor: FunctionalTensor) -> torch.Tensor:
        torch._sync(tensor)
        return torch._from_functional_tensor(tensor.elem)

    def functional(*args: Any) -> Any:
        # functionalization happens in `mode`; the dispatch key of the same purpose must not do it a second time
        key = torch._C.DispatchKeySet(torch._C.DispatchKey.Functionalize)
        with torch._C._ExcludeDispatchKeyGuard(key), mode:
            outputs = function(*pytree.tree_map_only(torch.Tensor, FunctionalTensor.to_functional, args))
            return pytree.tree_map_only(FunctionalTensor, unwrap, outputs)

    with preserve_node_meta():
        return make_fx(functional, pre_dispatch=pre_dispatch, tracing_mode="real")(*inputs)


def is_mutated(tensor: Any) -> bool:
    """Inside `trace_functional`: whether an input's data or shape was written."""
    if not isinstance(tensor, FunctionalTensor):
        return False
    inner = tensor.elem
    return _has_data_mutation(inner) or _has_metadata_mutation(inner)


def traced_name(value: Any) -> str | None:
    """Inside `trace_functional`: the name of the node that computes the current value of a tensor, if there is one."""
    mode = get_proxy_mode()
    if mode is None or not isinstance(value, FunctionalTensor):
        return None
    torch._sync(value)
    slot: Any = get_proxy_slot(torch._from_functional_tensor(value.elem), mode.tracer, None)
    return slot.proxy.node.name if slot is not None else None


def sets_grad_mode(target: Any) -> bool:
    """True for the function that turns gradients on or off for the calls after it."""
    return target is torch._C._set_grad_enabled


def enter_autocast(graph: torch.fx.Graph) -> torch.fx.Node | None:
    """Record the autocast that is on for the CPU as a call that turns it on; None if there is none."""
    if not torch.is_autocast_enabled("cpu"):
        return None
    args = ("cpu", torch.get_autocast_dtype("cpu"), True, torch.is_autocast_cache_enabled())
    return graph.call_function(torch.amp._enter_autocast, args)


def exit_autocast(graph: torch.fx.Graph, entered: torch.fx.Node) -> None:
    """Record the call that turns it off again."""
    graph.call_function(torch.amp._exit_autocast, (entered,))


def sets_autocast(target: Any) -> bool:
    """True for the functions that turn autocast on or off, for the calls after them or for a graph they are given."""
    return target in (torch.amp._enter_autocast, torch.amp._exit_autocast, torch.ops.higher_order.wrap_with_autocast)
