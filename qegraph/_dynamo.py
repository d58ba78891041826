"""What qegraph uses of the internals of Dynamo, and of Inductor behind it; imported only once torch.compile runs."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch


def compile_graph(
    module: torch.fx.GraphModule, inputs: Sequence[Any], settings: Mapping[str, Any]
) -> Callable[..., Any]:
    """What Inductor makes of a graph with these settings of its own; those in force otherwise stay as they are.

    Inside a backend called by Dynamo, with the inputs it gave or some of them. `module` is Inductor's from then on.
    """
    from torch._inductor.compile_fx import compile_fx

    return cast(Callable[..., Any], compile_fx(module, inputs, config_patches=dict(settings)))


def compile_package(
    program: torch.export.ExportedProgram, file: BinaryIO, settings: Mapping[str, Any], beside: Sequence[Path]
) -> None:
    """Write a package of AOTInductor, compiled with these settings, to `file`; with the files `beside`, that its loader
    puts into one folder with the code.
    """
    from torch._inductor import aot_compile
    from torch._inductor.package import package_aoti

    module: Any = program.module(check_guards=False)
    args, kwargs = cast(tuple[Any, Any], program.example_inputs)
    made: Any = aot_compile(module, args, kwargs, options={**settings, "aot_inductor.package": True})
    package_aoti(file, [*made, *map(str, beside)])


def is_state(placeholder: torch.fx.Node, example: Any) -> bool:
    """Whether an input of a graph by Dynamo is a parameter, a buffer or another tensor held by a module."""
    source: Any = getattr(placeholder, "_dynamo_source", None)
    return source is not None and isinstance(example, torch.Tensor) and source.guard_source.is_unspecialized_nn_module()


def make_constants(constants: Mapping[torch.fx.Node, torch.fx.Node]) -> None:
    """Replace inputs of a graph by Dynamo by constants, inside a backend that Dynamo called with the graph.

    Dynamo reads what it has to pass off the graph once the backend is done: so it won't look the tensors up on each
    call (137 µs for the 212 of a mobilenet). It compiles again if another tensor stands in the place of one; that it is
    the same one makes checks of its type needless.
    """
    from torch._dynamo.guards import GuardBuilder, install_guard
    from torch._guards import GuardsSet, TracingContext
    from torch.utils._ordered_set import OrderedSet

    sources: list[Any] = [getattr(node, "_dynamo_source") for node in constants]  # noqa: B009
    context, known = TracingContext.get().guards_context, frozenset(sources)
    others = (each for each in context.dynamo_guards if each.originating_source not in known)
    context.dynamo_guards = GuardsSet(OrderedSet(others))
    install_guard(*(source.make_guard(GuardBuilder.ID_MATCH) for source in sources))
    for node, constant in constants.items():
        node.replace_all_uses_with(constant)
        node.graph.erase_node(node)


def compiled_module(module: Any) -> torch.nn.Module | None:
    """The module that a result of `torch.compile(module)` stands for; None for anything else."""
    original = getattr(module, "_orig_mod", None)
    return original if isinstance(original, torch.nn.Module) else None
