"""ONNX Runtime's int8: the float module exported, quantized statically into QDQ form, run by its CPU provider."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from qegraph import zoo
from qegraph.bench.subject import Built, Subject

from .conversion import arrays, conversion, package, tensors


def build(subject: Subject) -> Built:
    """A session at torch's number of threads, for models of any kind quantized as its guide says for x86 with VNNI:

    shapes inferred first, QDQ format, u8 activations, s8 weights per channel. It has no other static recipe for
    transformers (dynamic is what it advises there, which is another comparison).
    """
    begin = time.perf_counter()
    with conversion(), tempfile.TemporaryDirectory() as folder:
        session = _session(_quantized(subject, Path(folder)))
        names = [each.name for each in session.get_inputs()]

    def run(*inputs: torch.Tensor) -> object:
        return tensors(session.run(None, dict(zip(names, arrays(inputs), strict=True))))

    return Built(run, None, time.perf_counter() - begin)


class _Batches:
    """Calibration batches as its quantizer asks for them: by input name, one after another, then None."""

    def __init__(self, names: Sequence[str], batches: Sequence[zoo.Inputs]) -> None:
        self.rest = iter([dict(zip(names, arrays(each), strict=True)) for each in batches])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rest, None)


def _quantized(subject: Subject, folder: Path) -> Path:
    runtime, quantization = package("onnxruntime"), package("onnxruntime.quantization")
    package("onnxscript")  # torch's exporter needs it, and says so less clearly
    plain, inferred, quantized = (folder / f"{name}.onnx" for name in ("plain", "inferred", "quantized"))
    torch.onnx.export(subject.model, subject.inputs, plain, dynamo=True, verbose=False)
    package("onnxruntime.quantization.shape_inference").quant_pre_process(plain, inferred)
    names = [each.name for each in runtime.InferenceSession(plain).get_inputs()]
    quantization.quantize_static(
        inferred,
        quantized,
        _Batches(names, subject.calibration()),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
    )
    return quantized


def _session(path: Path) -> Any:
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # its threads would otherwise spin on into the next variant's turn
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
