// oneDNN's engine and streams, and how it sees tensors of torch.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <vector>

namespace qegraph {

using at::IntArrayRef;
using at::ScalarType;
using at::Tensor;
using dnnl::memory;
using Dims = std::vector<int64_t>;

inline dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

inline dnnl::stream& stream() {
  thread_local dnnl::stream inOrder(engine());
  return inOrder;
}

inline memory::data_type typeOf(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Byte: return memory::data_type::u8;
    case ScalarType::Char: return memory::data_type::s8;
    case ScalarType::Float: return memory::data_type::f32;
    case ScalarType::BFloat16: return memory::data_type::bf16;
    case ScalarType::Half: return memory::data_type::f16;
    default: TORCH_CHECK(false, "qegraph: no int8 kernel reads or writes ", dtype);
  }
}

inline bool isCode(ScalarType dtype) { return dtype == ScalarType::Byte || dtype == ScalarType::Char; }

// Strides of a dense tensor whose channels, dim 1, are innermost; of a plain one if it has fewer than three dims.
inline Dims channelsLast(IntArrayRef sizes) {
  Dims strides(sizes.size());
  int64_t step = 1;
  auto place = [&](size_t dim) {
    strides[dim] = step;
    step *= std::max<int64_t>(sizes[dim], 1);
  };
  if (sizes.size() >= 3) place(1);
  for (size_t dim = sizes.size(); dim-- > 0;)
    if (sizes.size() < 3 || dim != 1) place(dim);
  return strides;
}

inline bool isDense(const Tensor& x, const Dims& strides) {
  for (int64_t dim = 0; dim < x.dim(); ++dim)
    if (x.size(dim) > 1 && x.stride(dim) != strides[dim]) return false;
  return true;
}

inline Tensor channelsLastCopy(const Tensor& x) {
  Tensor copy = at::empty(x.sizes(), x.options());
  copy = copy.as_strided(x.sizes(), channelsLast(x.sizes()));
  return copy.copy_(x);
}

}  // namespace qegraph
