"""What Inductor must know to call operators from its C++ wrapper directly, and not through torch's dispatcher.

Through the dispatcher, a call takes some 80 lines of code in place of one: seconds to compile for a whole model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from qegraph.native.library import files

_HANDLE, _LIST = "AtenTensorHandle, ", "const int64_t*, int64_t, "
_GIVEN, _COMPUTED = f"{_HANDLE}double, int64_t, ", _HANDLE * 3
_WEIGHT = f"{_HANDLE * 2}const AtenTensorHandle*, const AtenTensorHandle*, double, int64_t, "
_WINDOWS = f"{_LIST * 3}int64_t, "
_RESULT = "double, int64_t, int32_t, const char*, const double*, int64_t, AtenTensorHandle*"

_Settings = Mapping[str, Any]


def call_settings() -> _Settings:
    """Inductor's, for its C++ code to call the operators directly; their library is loaded. See `source/shims.h`.

    What Inductor builds is linked against the library by its path, as one more word behind a library that is linked
    anyway: Inductor takes names only, and one would be looked for where it isn't. When it is loaded, the library is the
    one that is loaded already, or else the file beside it.
    """
    qegraph, max_pool2d = torch.ops.qegraph, torch.ops.quantized.max_pool2d.default
    functions = {
        qegraph.qlinear.default: f"qlinear({_GIVEN}{_WEIGHT}{_RESULT})",
        qegraph.qlinear_dynamic.default: f"qlinear_dynamic({_COMPUTED}{_WEIGHT}{_RESULT})",
        qegraph.qconv.default: f"qconv({_GIVEN}{_WEIGHT}{_WINDOWS}{_RESULT})",
        qegraph.qconv_dynamic.default: f"qconv_dynamic({_COMPUTED}{_WEIGHT}{_WINDOWS}{_RESULT})",
        max_pool2d: f"max_pool2d({_HANDLE}{_LIST * 4}bool, AtenTensorHandle*)",
    }
    return {
        "aot_inductor.custom_ops_to_c_shims": {
            operator: [f"AOTITorchError aoti_torch_cpu_{function}"] for operator, function in functions.items()
        },
        "aot_inductor.custom_op_libs": [f"c10 {files().operators} -Wl,-rpath,$ORIGIN"],
    }


def wrapper_settings() -> _Settings:
    """Inductor's, for graphs that call the operators to be compiled with the C++ wrapper.

    It is compiled apart from the kernels, as it is written: optimised, it takes a fifth longer to compile, and a call
    of 54 kernels about 10 µs less.
    """
    return {
        "cpp_wrapper": True,
        "cpp_wrapper_build_separate": True,
        "aot_inductor.compile_wrapper_opt_level": "O0",
        **call_settings(),
    }
