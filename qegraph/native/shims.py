"""What Inductor must know to call operators from its C++ wrapper directly, and not through torch's dispatcher.

Through the dispatcher, a call takes some 80 lines of code in place of one: seconds to compile for a whole model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from qegraph.native.library import path

_LIST = "const int64_t*, int64_t, "
_BEFORE = (
    "AtenTensorHandle, double, int64_t, AtenTensorHandle, AtenTensorHandle, const AtenTensorHandle*, "
    "const AtenTensorHandle*, double, int64_t, "
)
_AFTER = "double, int64_t, int32_t, const char*, const double*, int64_t, AtenTensorHandle*"


def wrapper_settings() -> Mapping[str, Any]:
    """Inductor's for graphs that call operators of ours, whose library is loaded; see `source/shims.h`.

    What Inductor builds is linked against the library by its path, as one more word behind a library that is linked
    anyway: Inductor takes names only, and one would be looked for where it isn't.
    The wrapper is compiled apart from the kernels, as it is written: optimised, it takes a fifth longer to compile, and
    a call of 54 kernels about 10 µs less.
    """
    functions = {
        torch.ops.qegraph.qlinear.default: f"aoti_torch_cpu_qlinear({_BEFORE}{_AFTER})",
        torch.ops.qegraph.qconv.default: f"aoti_torch_cpu_qconv({_BEFORE}{_LIST * 3}int64_t, {_AFTER})",
        torch.ops.quantized.max_pool2d.default: (
            f"aoti_torch_cpu_max_pool2d(AtenTensorHandle, {_LIST * 4}bool, AtenTensorHandle*)"
        ),
    }
    return {
        "cpp_wrapper": True,
        "cpp_wrapper_build_separate": True,
        "aot_inductor.compile_wrapper_opt_level": "O0",
        "aot_inductor.custom_ops_to_c_shims": {each: [f"AOTITorchError {text}"] for each, text in functions.items()},
        "aot_inductor.custom_op_libs": [f"c10 {path()}"],
    }
