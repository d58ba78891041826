"""A finding as a script that shows it on its own."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

from qegraph.errors import QegraphError
from qegraph.load_rules import RuleItem
from qegraph.prove.script import literal

from .check import Finding
from .draft import Program
from .respell import Spelling


def script(program: Program, finding: Finding, rules: Sequence[RuleItem] | None = None, spelling: Spelling = "") -> str:
    """Python source; it exits with 1, and says why, as long as the finding is there.

    Raises QegraphError for rules that aren't given as text.
    """
    return "\n".join(_lines(program, finding, rules, spelling)) + "\n"


def _lines(program: Program, finding: Finding, rules: Sequence[RuleItem] | None, spelling: Spelling) -> Iterator[str]:
    if not all(isinstance(each, str) for each in rules or ()):
        raise QegraphError("a script can only name rules given as text: names, paths, modules, packs")
    yield f'"""{finding.form}: {" ".join(finding.what.split())[:200]}"""'.replace("\\", "/")
    yield from ("import operator", "import sys", "", "import torch", "", "from qegraph.fuzz import shows", "")
    yield from ("inf, device = float('inf'), torch.device", "graph = torch.fx.Graph()")
    for node in program.module.graph.nodes:
        yield _statement(node)
    yield "constants = {"
    for name, tensor in program.module.named_buffers():
        yield f"    {name!r}: {literal(tensor)},"
    yield "}"
    yield "inputs = ("
    for tensor in program.inputs:
        yield f"    {literal(tensor)},"
    yield ")"
    yield "module = torch.fx.GraphModule(constants, graph)"
    named = None if rules is None else list(rules)
    yield f"sys.exit(shows(module, inputs, form={finding.form!r}, rules={named!r}, spelling={spelling!r}))"


def _statement(node: fx.Node) -> str:
    if node.op == "placeholder":
        return f"{node.name} = graph.placeholder({str(node.target)!r})"
    if node.op == "get_attr":
        return f"{node.name} = graph.get_attr({str(node.target)!r})"
    if node.op == "output":
        return f"graph.output({_text(node.args[0])})"
    target = "operator.getitem" if node.target is operator.getitem else f"torch.ops.{node.target}"
    return f"{node.name} = graph.call_function({target}, {_text(node.args)}, {_text(dict(node.kwargs))})"


def _text(arg: Any) -> str:
    if isinstance(arg, fx.Node):
        return arg.name
    if isinstance(arg, (list, tuple)):
        inner = ", ".join(map(_text, arg))
        if isinstance(arg, list):
            return f"[{inner}]"
        return f"({inner}{',' if len(arg) == 1 else ''})"
    if isinstance(arg, dict):
        return "{" + ", ".join(f"{name!r}: {_text(each)}" for name, each in arg.items()) + "}"
    if isinstance(arg, (torch.dtype, torch.device)):
        return str(arg) if isinstance(arg, torch.dtype) else repr(arg)
    return repr(arg)
