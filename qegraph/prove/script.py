"""A case as a script that runs on its own: both sides as plain calls, the inputs as literals, and what differs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import fx

from qegraph.lang.rule import Rule
from qegraph.packing import PackedWeight
from qegraph.prove.judge import Case, Verdict

_LONG = 100


def script(rule: Rule, case: Case, verdict: Verdict) -> str:
    """Python source; printing both sides' values and their largest difference."""
    lines = [
        f'"""{rule.name}: {rule.law}',
        "",
        f"{rule.where}",
        f"{verdict.reason}",
        '"""',
        "import torch",
        "import qegraph",
        "",
        "inf, nan, device = float('inf'), float('nan'), torch.device",
        "",
    ]
    lines += [f"x{index} = {literal(tensor)}" for index, tensor in case.values.items()]
    lines += ["", *_function("left", case.sample.left)]
    if isinstance(case.right, Exception):
        lines += ["", f"# the right side can't be built: {case.right}", "print(left())"]
        return "\n".join(lines) + "\n"
    lines += ["", *_function("right", case.right)]
    lines += [
        "",
        "with torch.no_grad():",
        "    for one, other in zip(left(), right()):",
        "        print('left ', one.dtype, tuple(one.shape), one.flatten()[:8].tolist())",
        "        print('right', other.dtype, tuple(other.shape), other.flatten()[:8].tolist())",
        "        if one.shape == other.shape and one.numel():",
        "            print('largest difference', float((one.double() - other.double()).abs().max()))",
    ]
    return "\n".join(lines) + "\n"


def literal(tensor: torch.Tensor) -> str:
    """With the strides it has; numbers of narrow floats as float32, which has them all; long equal rows, once."""
    if tensor.dim() and tensor.shape[-1] > _LONG and bool((tensor == tensor[..., :1]).all()):
        return f"{literal(tensor[..., :1])}.repeat({[1] * (tensor.dim() - 1) + [tensor.shape[-1]]})"
    dtype = str(tensor.dtype)
    values = tensor.float() if tensor.dtype.is_floating_point else tensor
    text = f"torch.tensor({values.tolist()}, dtype={'torch.float32' if tensor.dtype.is_floating_point else dtype})"
    text += f".reshape({list(tensor.shape)})" if 0 in tensor.shape else ""
    text += f".to({dtype})" if tensor.dtype.is_floating_point and dtype != "torch.float32" else ""
    if tensor.is_contiguous():
        return text
    strided = f"torch.empty_strided({tuple(tensor.shape)}, {tensor.stride()}, dtype={dtype})"
    return f"{strided}.copy_({text})"


def _function(name: str, module: fx.GraphModule) -> Iterator[str]:
    """The graph's own code without its module: constants by name, packed weights by the call that packs them."""
    body = module.graph.python_code("self")
    source = body.src[body.src.index("def forward") :]
    source = re.sub(r";  .* = None", "", source)
    for child, packed in module.named_children():
        if isinstance(packed, PackedWeight):
            source = source.replace(f"self.{child}()", _packing(packed))
    tensors = {**dict(module.named_buffers()), **dict(module.named_parameters())}
    for buffer, tensor in tensors.items():
        known = re.fullmatch(r"x\d+", buffer)
        source = re.sub(rf"self\.{buffer}\b", buffer if known else literal(tensor), source)
    source = re.sub(r"^(\s*)(x\d+) = \2$", r"\1pass", source, flags=re.M)
    for alias, target in body.globals.items():
        if alias not in ("torch", "inf", "nan", "device", "NoneType", "None") and hasattr(target, "__module__"):
            source = re.sub(rf"\b{alias}\b", f"{target.__module__}.{target.__qualname__}", source)
    source = re.sub(r"^ *pass\n", "", source, flags=re.M)
    yield from re.sub(r"^def forward\(.*?\)( ->.*?)?:", f"def {name}():", source).rstrip().splitlines()


def _packing(packed: PackedWeight) -> str:
    """The call of the operator that packs, with its operands written out."""
    operands = [literal(packed.weight), *map(repr, packed.layout)]
    return f"{type(packed).__module__}.{type(packed).__name__}.prepack({', '.join(operands)})"
