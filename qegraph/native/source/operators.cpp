// The operators as torch knows them; code that calls them by their C functions, as a package's does, needs none of this.
#include "operators.h"

#include <torch/library.h>

#include "shims.h"

namespace qegraph {

inline void define(torch::Library& m) {
  const std::string
      given = "(Tensor x, float x_scale, int x_zero_point, ",
      computed = "(Tensor x, Tensor x_scale, Tensor x_zero_point, ",
      weight = "Tensor weight, Tensor w_scale, Tensor? bias, Tensor? other, float other_scale, int other_zero_point, ",
      windows = "int[] stride, int[] padding, int[] dilation, int groups, ",
      result = "float out_scale, int out_zero_point, ScalarType out_dtype, str post_op, float[] parameters) -> Tensor";
  auto add = [&](const std::string& schema, auto function) {
    m.def(schema.c_str(), torch::dispatch(c10::DispatchKey::CPU, function));
  };
  add("qlinear" + given + weight + result, TORCH_FN(qlinear));
  add("qlinear_dynamic" + computed + weight + result, TORCH_FN(qlinearDynamic));
  add("qconv" + given + weight + windows + result, TORCH_FN(qconv));
  add("qconv_dynamic" + computed + weight + windows + result, TORCH_FN(qconvDynamic));
}

}  // namespace qegraph

// Once in a process, however often it is called. Null, or what went wrong.
extern "C" QEGRAPH_EXPORT const char* qegraph_define() {
  static const std::string problem = [] {
    try {
      static torch::Library library(torch::Library::FRAGMENT, "qegraph", std::nullopt, __FILE__, __LINE__);
      qegraph::define(library);
      return std::string();
    } catch (const std::exception& error) {
      return std::string(error.what());
    }
  }();
  return problem.empty() ? nullptr : problem.c_str();
}
