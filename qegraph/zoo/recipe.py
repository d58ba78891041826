"""`quantize`: the default torchao recipe for x86, from an eager module to a q/dq graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from qegraph.errors import QegraphError
from qegraph.kernels import highest_exact_code
from qegraph.quiet import quiet

from .entry import Inputs

CALIBRATION_BATCHES = 4
"""Random inputs that ranges are observed on, unless said otherwise."""


class MissingExtra(QegraphError, ImportError):
    """A package of an optional extra is not installed."""


def missing_extra(package: str, extra: str = "bench") -> MissingExtra:
    """The error to raise when importing `package` failed."""
    return MissingExtra(
        f"This needs {package}, which is not installed. Install the extra: pip install 'qegraph[{extra}]'"
    )


@quiet()
def quantize(
    model: nn.Module,
    example_inputs: Inputs,
    calibration_batches: int | Iterable[Inputs] = CALIBRATION_BATCHES,
    seed: int = 0,
    is_dynamic: bool = False,
) -> GraphModule:
    """Export, prepare, calibrate and convert `model` with torchao's x86 configuration for this machine.

    That is its default, with activations in 0..127 (reduce_range) where the kernels would saturate above.

    `calibration_batches` is the inputs to observe, or how many to `draw`; `is_dynamic` has the scales of activations
    (of linears) computed at run time. The model is not changed.
    """
    try:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    except ImportError as error:
        raise missing_extra("torchao") from error
    reduced = highest_exact_code() < 255
    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=is_dynamic, reduce_range=reduced)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    wanted = calibration_batches
    batches = draw(example_inputs, wanted, seed) if isinstance(wanted, int) else wanted
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)  # torchao itself draws random numbers while it folds BatchNorm
        exported: Any = torch.export.export(model, example_inputs, strict=True).module()
        prepared: Any = prepare_pt2e(exported, quantizer)
        for batch in batches:
            prepared(*batch)
        converted: Any = convert_pt2e(prepared)
    return converted


def draw(example_inputs: Inputs, count: int, seed: int = 0) -> list[Inputs]:
    """`count` random inputs in the likeness of the example: normal floats, integers uniform over its range."""
    generator = torch.Generator().manual_seed(seed)
    return [tuple(_alike(each, generator) for each in example_inputs) for _ in range(count)]


def _alike(example: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if example.is_floating_point():
        return torch.randn(example.shape, generator=generator, dtype=example.dtype)
    low, high = int(example.min()), int(example.max())
    return torch.randint(low, high + 1, example.shape, generator=generator, dtype=example.dtype)
