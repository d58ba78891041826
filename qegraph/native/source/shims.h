// Operators as C functions, which code by Inductor's C++ wrapper calls without going through torch's dispatcher.
//
// Lists are a pointer and a length, what is optional a pointer that may be null; the result is the caller's to free.
// An error comes back as the code that torch's own shims give.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>

#include "operators.h"

#define QEGRAPH_EXPORT __attribute__((visibility("default")))  // all else is the library's own

namespace qegraph {

inline const Tensor& given(AtenTensorHandle handle) {
  return *torch::aot_inductor::tensor_handle_to_tensor_pointer(handle);
}

inline IntArrayRef list(const int64_t* numbers, int64_t count) { return {numbers, static_cast<size_t>(count)}; }

inline std::optional<Tensor> optional(const AtenTensorHandle* handle) {
  return handle ? std::optional<Tensor>(given(*handle)) : std::nullopt;
}

inline double scaleIn(AtenTensorHandle handle) { return given(handle).item<double>(); }

inline int64_t zeroPointIn(AtenTensorHandle handle) { return given(handle).item<int64_t>(); }

}  // namespace qegraph

extern "C" {

QEGRAPH_EXPORT
AOTITorchError aoti_torch_cpu_qlinear(AtenTensorHandle x, double xScale, int64_t xZeroPoint, AtenTensorHandle w,
                                      AtenTensorHandle wScale, const AtenTensorHandle* bias,
                                      const AtenTensorHandle* other, double otherScale, int64_t otherZeroPoint,
                                      double outScale, int64_t outZeroPoint, int32_t outDtype, const char* postOp,
                                      const double* parameters, int64_t parameterCount, AtenTensorHandle* result) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    using namespace qegraph;
    *result = torch::aot_inductor::new_tensor_handle(
        qlinear(given(x), xScale, xZeroPoint, given(w), given(wScale), optional(bias), optional(other), otherScale,
                otherZeroPoint, outScale, outZeroPoint, static_cast<ScalarType>(outDtype), postOp,
                {parameters, static_cast<size_t>(parameterCount)}));
  });
}

QEGRAPH_EXPORT
AOTITorchError aoti_torch_cpu_qlinear_dynamic(AtenTensorHandle x, AtenTensorHandle xScale, AtenTensorHandle xZeroPoint,
                                              AtenTensorHandle w, AtenTensorHandle wScale, const AtenTensorHandle* bias,
                                              const AtenTensorHandle* other, double otherScale, int64_t otherZeroPoint,
                                              double outScale, int64_t outZeroPoint, int32_t outDtype,
                                              const char* postOp, const double* parameters, int64_t parameterCount,
                                              AtenTensorHandle* result) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    return aoti_torch_cpu_qlinear(x, qegraph::scaleIn(xScale), qegraph::zeroPointIn(xZeroPoint), w, wScale, bias, other,
                                  otherScale, otherZeroPoint, outScale, outZeroPoint, outDtype, postOp, parameters,
                                  parameterCount, result);
  });
}

QEGRAPH_EXPORT
AOTITorchError aoti_torch_cpu_qconv(AtenTensorHandle x, double xScale, int64_t xZeroPoint, AtenTensorHandle w,
                                    AtenTensorHandle wScale, const AtenTensorHandle* bias,
                                    const AtenTensorHandle* other, double otherScale, int64_t otherZeroPoint,
                                    const int64_t* stride, int64_t dims, const int64_t* padding, int64_t,
                                    const int64_t* dilation, int64_t, int64_t groups, double outScale,
                                    int64_t outZeroPoint, int32_t outDtype, const char* postOp,
                                    const double* parameters, int64_t parameterCount, AtenTensorHandle* result) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    using namespace qegraph;
    *result = torch::aot_inductor::new_tensor_handle(qconv(
        given(x), xScale, xZeroPoint, given(w), given(wScale), optional(bias), optional(other), otherScale,
        otherZeroPoint, list(stride, dims), list(padding, dims), list(dilation, dims), groups, outScale, outZeroPoint,
        static_cast<ScalarType>(outDtype), postOp, {parameters, static_cast<size_t>(parameterCount)}));
  });
}

QEGRAPH_EXPORT
AOTITorchError aoti_torch_cpu_qconv_dynamic(AtenTensorHandle x, AtenTensorHandle xScale, AtenTensorHandle xZeroPoint,
                                            AtenTensorHandle w, AtenTensorHandle wScale, const AtenTensorHandle* bias,
                                            const AtenTensorHandle* other, double otherScale, int64_t otherZeroPoint,
                                            const int64_t* stride, int64_t strides, const int64_t* padding,
                                            int64_t paddings, const int64_t* dilation, int64_t dilations,
                                            int64_t groups, double outScale, int64_t outZeroPoint, int32_t outDtype,
                                            const char* postOp, const double* parameters, int64_t parameterCount,
                                            AtenTensorHandle* result) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    return aoti_torch_cpu_qconv(x, qegraph::scaleIn(xScale), qegraph::zeroPointIn(xZeroPoint), w, wScale, bias, other,
                                otherScale, otherZeroPoint, stride, strides, padding, paddings, dilation, dilations,
                                groups, outScale, outZeroPoint, outDtype, postOp, parameters, parameterCount, result);
  });
}

// torch's, which has no C function of its own.
QEGRAPH_EXPORT
AOTITorchError aoti_torch_cpu_max_pool2d(AtenTensorHandle x, const int64_t* window, int64_t windows,
                                         const int64_t* stride, int64_t strides, const int64_t* padding,
                                         int64_t paddings, const int64_t* dilation, int64_t dilations, bool ceil,
                                         AtenTensorHandle* result) {
  AOTI_TORCH_CONVERT_EXCEPTION_TO_ERROR_CODE({
    using namespace qegraph;
    static const auto pool = c10::Dispatcher::singleton().findSchemaOrThrow("quantized::max_pool2d", "");
    torch::jit::Stack stack{
        given(x), list(window, windows), list(stride, strides), list(padding, paddings), list(dilation, dilations),
        ceil};
    pool.callBoxed(&stack);
    *result = torch::aot_inductor::new_tensor_handle(std::move(stack[0]).toTensor());
  });
}

}  // extern "C"
