"""OpenVINO's int8: the float module converted, quantized after training by NNCF, run on its CPU device."""

from __future__ import annotations

import time
from typing import Any

import torch

from qegraph import zoo
from qegraph.bench.subject import Built, Subject

from .conversion import arrays, conversion, has_attention, package, tensors


def build(subject: Subject) -> Built:
    """The compiled model at torch's number of threads. Its float parts are float32, as everybody's here.

    Unasked, OpenVINO would compute them in bfloat16 on processors that have it.
    """
    begin = time.perf_counter()
    with conversion():
        request = _compile(_quantized(subject)).create_infer_request()

    def run(*inputs: torch.Tensor) -> object:
        return tensors(request.infer(arrays(inputs), share_inputs=True, share_outputs=True).values())

    return Built(run, None, time.perf_counter() - begin)


def _quantized(subject: Subject) -> Any:
    openvino, nncf = package("openvino"), package("nncf")
    exported = torch.export.export(subject.model, subject.inputs)
    converted = openvino.convert_model(exported)
    batches = subject.calibration()

    def as_arrays(batch: zoo.Inputs) -> list[Any]:
        return arrays(batch)

    return nncf.quantize(
        converted,
        nncf.Dataset(batches, as_arrays),
        subset_size=len(batches),
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if has_attention(subject.quantized) else None,
    )


def _compile(model: Any) -> Any:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    return package("openvino").Core().compile_model(model, "CPU", settings)
