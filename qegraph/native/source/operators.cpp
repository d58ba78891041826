// The operators as torch knows them.
#include "operators.h"

#include <torch/library.h>

#include "shims.h"

TORCH_LIBRARY_FRAGMENT(qegraph, m) {
  const std::string
      given = "(Tensor x, float x_scale, int x_zero_point, ",
      computed = "(Tensor x, Tensor x_scale, Tensor x_zero_point, ",
      weight = "Tensor weight, Tensor w_scale, Tensor? bias, Tensor? other, float other_scale, int other_zero_point, ",
      windows = "int[] stride, int[] padding, int[] dilation, int groups, ",
      result = "float out_scale, int out_zero_point, ScalarType out_dtype, str post_op, float[] parameters) -> Tensor";
  m.def(("qlinear" + given + weight + result).c_str());
  m.def(("qlinear.tensor" + computed + weight + result).c_str());
  m.def(("qconv" + given + weight + windows + result).c_str());
  m.def(("qconv.tensor" + computed + weight + windows + result).c_str());
}

TORCH_LIBRARY_IMPL(qegraph, CPU, m) {
  m.impl("qlinear", qegraph::qlinear);
  m.impl("qlinear.tensor", qegraph::qlinearDynamic);
  m.impl("qconv", qegraph::qconv);
  m.impl("qconv.tensor", qegraph::qconvDynamic);
}
