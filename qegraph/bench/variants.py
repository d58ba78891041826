"""The ways to run one quantized model that the benchmark compares. A new one is an entry of `BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import compiled, packages, routes
from .peers import onnxruntime, openvino
from .subject import Built, Subject

BUILDERS: Mapping[str, Callable[[Subject], Built]] = {
    "fp32": routes.fp32,
    "qdq": routes.qdq,
    "torchao": routes.torchao,
    "inductor": compiled.inductor,
    "inductor-tuned": compiled.inductor_tuned,
    "openvino": openvino.build,
    "onnxruntime": onnxruntime.build,
    "qegraph": routes.eager("estimated"),
    "qegraph-measured": routes.eager("measured"),
    "native": routes.eager("estimated", "native"),
    "native-measured": routes.eager("measured", "native"),
    "qegraph+compile": compiled.optimized,
    "backend": compiled.backend("default"),
    "backend-tuned": compiled.backend("tuned"),
    "inductor-package": packages.rival,
    "package": packages.ours,
}
"""Variant name -> how to build it. The first two are the baseline and the oracle; they are always built."""

BASELINE, ORACLE = "fp32", "qdq"
OURS = (
    "qegraph", "qegraph-measured", "native", "native-measured", "qegraph+compile", "backend", "backend-tuned", "package"
)  # fmt: skip
ASKED = (
    "qegraph-measured", "native", "native-measured", "inductor-tuned", "backend-tuned", "inductor-package", "package"
)  # fmt: skip
"""Take minutes to build, or run elsewhere: built only when asked for by name."""
DEFAULT = tuple(name for name in BUILDERS if name not in ASKED)
OWN_QUANTIZATION = ("fp32", "openvino", "onnxruntime")
"""Don't run the q/dq graph: float, or quantized by a recipe of their own. Their errors are those against fp32."""

RATIOS = (
    ("torchao", "qegraph"),
    ("qegraph", "qegraph-measured"),
    ("qegraph", "native"),
    ("native", "native-measured"),
    ("inductor", "qegraph+compile"),
    ("inductor", "backend"),
    ("inductor-tuned", "backend-tuned"),
    ("inductor-package", "package"),
    ("openvino", "backend"),
    ("onnxruntime", "backend"),
)
"""Pairs whose times are divided: the rival's by ours, or estimated costs' choice by that of measured ones."""
COMPILE_RATIOS = (
    ("qegraph+compile", "inductor"),
    ("backend", "inductor"),
    ("backend-tuned", "inductor-tuned"),
    ("package", "inductor-package"),
)
"""Pairs whose seconds to compile are divided: ours by the rival's."""
