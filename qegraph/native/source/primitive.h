// One oneDNN primitive with the memory objects it runs on, and what it is made for.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weights.h"

namespace qegraph {

// What a primitive is made for, besides the weight and the shapes of the operands.
struct Problem {
  bool isConv;
  ScalarType x, out;
  bool xZeroPoint, outZeroPoint, perChannel;
  std::optional<ScalarType> bias, other;
  float otherScale;
  int64_t otherZeroPoint;
  std::string postOp;
  std::vector<double> parameters;
  Dims weight, stride, padding, dilation;
  int64_t groups;
  int threads;
  bool operator==(const Problem&) const = default;
  // The result starts as a copy of the residual, and the kernel adds to it: it reads codes and images faster so.
  bool accumulates() const { return other && *other == out && (isConv || isCode(out)); }
  bool scalesOther() const { return other && isCode(*other) && (otherScale != 1.f || otherZeroPoint != 0); }
};

inline dnnl::post_ops postOps(const Problem& p, const memory::desc* other) {
  using dnnl::algorithm;
  dnnl::post_ops ops;
  const float a = p.parameters.size() > 0 ? static_cast<float>(p.parameters[0]) : 0.f;
  const float b = p.parameters.size() > 1 ? static_cast<float>(p.parameters[1]) : 0.f;
  if (p.accumulates()) {
    const bool scales = isCode(p.out);
    ops.append_sum(scales ? p.otherScale : 1.f, scales ? static_cast<int32_t>(p.otherZeroPoint) : 0, typeOf(p.out));
  } else if (other) {
    // codes are added as plain numbers, so the sum is in their units meanwhile
    if (p.scalesOther())
      ops.append_eltwise(algorithm::eltwise_linear, 1.f / p.otherScale, -static_cast<float>(p.otherZeroPoint));
    ops.append_binary(algorithm::binary_add, *other);
    if (p.scalesOther()) ops.append_eltwise(algorithm::eltwise_linear, p.otherScale, 0.f);
  }
  if (p.postOp == "relu") ops.append_eltwise(algorithm::eltwise_relu, 0.f, 0.f);
  else if (p.postOp == "clamp") ops.append_eltwise(algorithm::eltwise_clip, a, b);
  else if (p.postOp == "gelu") ops.append_eltwise(algorithm::eltwise_gelu_erf, 0.f, 0.f);
  else if (p.postOp == "gelu-tanh") ops.append_eltwise(algorithm::eltwise_gelu_tanh, 0.f, 0.f);
  else if (p.postOp == "silu") ops.append_eltwise(algorithm::eltwise_swish, 1.f, 0.f);
  else if (p.postOp == "hardswish") ops.append_eltwise(algorithm::eltwise_hardswish, 1.f / 6.f, 1.f / 2.f);
  else if (p.postOp == "leaky_relu") ops.append_eltwise(algorithm::eltwise_relu, a, 0.f);
  else if (p.postOp == "tanh") ops.append_eltwise(algorithm::eltwise_tanh, 0.f, 0.f);
  else TORCH_CHECK(p.postOp == "identity", "qegraph: there is no post-op '", p.postOp, "'");
  return ops;
}

inline dnnl::primitive_attr attributes(const Problem& p, const memory::desc* other) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  attr.set_scales_mask(DNNL_ARG_SRC, 0);
  const int channel = p.isConv ? (p.groups > 1 ? 3 : 1) : 2;  // the dims of a weight that its scales go along
  attr.set_scales_mask(DNNL_ARG_WEIGHTS, p.perChannel ? channel : 0);
  if (isCode(p.out)) attr.set_scales_mask(DNNL_ARG_DST, 0);
  if (p.xZeroPoint) attr.set_zero_points_mask(DNNL_ARG_SRC, 0);
  if (p.outZeroPoint) attr.set_zero_points_mask(DNNL_ARG_DST, 0);
  attr.set_post_ops(postOps(p, other));
  return attr;
}

struct Kernel {
  Problem problem;
  Dims xSizes;
  Owner owner;
  int64_t version;
  Dims outSizes = {}, outStrides = {};
  dnnl::primitive primitive = {};
  std::shared_ptr<Tensor> weight = {};
  int64_t scratchpad = 0;
  bool accumulates = false;
  std::vector<memory> memories = {};
  std::vector<dnnl_exec_arg_t> arguments = {};
  int xAt = -1, outAt = -1, scratchAt = -1, wScaleAt = -1, xScaleAt = -1, xZeroAt = -1, outScaleAt = -1, outZeroAt = -1,
      biasAt = -1, otherAt = -1;

  int add(int argument, const memory::desc& desc) {
    memories.emplace_back(desc, engine(), nullptr);
    arguments.push_back({argument, memories.back().get()});
    return static_cast<int>(memories.size()) - 1;
  }
};

inline memory::desc vectorOf(int64_t length, memory::data_type type) { return {{length}, type, memory::dims{1}}; }

inline int64_t sumOut(const Problem& p, int64_t in, int64_t window, size_t dim) {
  return (in + 2 * p.padding[dim] - p.dilation[dim] * (window - 1) - 1) / p.stride[dim] + 1;
}

inline Dims resultSizes(const Problem& p, const Dims& x) {
  Dims sizes{x[0], p.weight[0]};
  for (size_t dim = 2; dim < x.size(); ++dim) sizes.push_back(sumOut(p, x[dim], p.weight[dim], dim - 2));
  return sizes;
}

// The operands as a primitive is told of them; the weight as it lies, and in whatever form the primitive chooses.
struct Operands {
  memory::desc x, plain, weight, out;
  std::optional<memory::desc> bias, other;
  dnnl::primitive_attr attr;

  Operands(const Problem& p, const Dims& xSizes) {
    const Dims outSizes = resultSizes(p, xSizes);
    x = memory::desc(xSizes, typeOf(p.x), channelsLast(xSizes));
    out = memory::desc(outSizes, typeOf(p.out), channelsLast(outSizes));
    if (p.other) other.emplace(outSizes, typeOf(*p.other), channelsLast(outSizes));
    Dims sizes = p.weight;
    if (p.groups > 1) {
      sizes[0] /= p.groups;
      sizes.insert(sizes.begin(), p.groups);
    }
    Dims strides(sizes.size(), 1);
    for (size_t dim = sizes.size() - 1; dim-- > 0;) strides[dim] = strides[dim + 1] * sizes[dim + 1];
    if (!p.isConv) {  // K x N
      std::swap(sizes[0], sizes[1]);
      std::swap(strides[0], strides[1]);
    }
    plain = memory::desc(sizes, memory::data_type::s8, strides);
    weight = memory::desc(sizes, memory::data_type::s8, memory::format_tag::any);
    const int64_t n = p.weight[0];
    if (p.bias) bias = p.isConv ? vectorOf(n, typeOf(*p.bias)) : memory::desc({1, n}, typeOf(*p.bias), Dims{n, 1});
    attr = attributes(p, other ? &*other : nullptr);
  }

  dnnl::matmul::primitive_desc matmul() const {
    return bias ? dnnl::matmul::primitive_desc(engine(), x, weight, *bias, out, attr)
                : dnnl::matmul::primitive_desc(engine(), x, weight, out, attr);
  }

  // Empty, if it may be, where oneDNN has no kernel.
  dnnl::convolution_forward::primitive_desc convolution(const Problem& p, bool mayBeEmpty = false) const {
    using Description = dnnl::convolution_forward::primitive_desc;
    const auto mode = dnnl::prop_kind::forward_inference;
    const auto direct = dnnl::algorithm::convolution_direct;
    Dims dilation = p.dilation;
    for (auto& each : dilation) --each;  // oneDNN counts what lies between
    return bias ? Description(engine(), mode, direct, x, weight, *bias, out, p.stride, dilation, p.padding, p.padding,
                              attr, mayBeEmpty)
                : Description(engine(), mode, direct, x, weight, out, p.stride, dilation, p.padding, p.padding, attr,
                              mayBeEmpty);
  }
};

// The primitive and the arguments of its calls, for the problem as it is solved.
template <class Primitive>
void finish(Kernel& k, const Problem& p, const typename Primitive::primitive_desc& d, const Operands& operands,
            const Tensor& w, int64_t scales) {
  k.primitive = Primitive(d);
  k.accumulates = p.accumulates();
  k.weight = packedWeights().get(w, operands.plain, d.weights_desc());
  k.scratchpad = static_cast<int64_t>(d.scratchpad_desc().get_size());
  k.xAt = k.add(DNNL_ARG_SRC, d.src_desc());
  k.memories[k.add(DNNL_ARG_WEIGHTS, d.weights_desc())].set_data_handle(k.weight->data_ptr());
  k.outAt = k.add(DNNL_ARG_DST, d.dst_desc());
  k.scratchAt = k.add(DNNL_ARG_SCRATCHPAD, d.scratchpad_desc());
  k.xScaleAt = k.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, vectorOf(1, memory::data_type::f32));
  k.wScaleAt = k.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, vectorOf(scales, memory::data_type::f32));
  if (isCode(p.out)) k.outScaleAt = k.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, vectorOf(1, memory::data_type::f32));
  if (p.xZeroPoint) k.xZeroAt = k.add(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, vectorOf(1, memory::data_type::s32));
  if (p.outZeroPoint)
    k.outZeroAt = k.add(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_DST, vectorOf(1, memory::data_type::s32));
  if (operands.bias) k.biasAt = k.add(DNNL_ARG_BIAS, *operands.bias);
  if (operands.other && !k.accumulates)
    k.otherAt = k.add(DNNL_ARG_ATTR_MULTIPLE_POST_OP(p.scalesOther() ? 1 : 0) | DNNL_ARG_SRC_1, *operands.other);
}

// Of oneDNN's kernels the one that it takes where it has none for the instructions of this CPU.
template <class Description>
bool isGeneric(const Description& d) {
  const std::string_view name = d.impl_info_str();
  return name.starts_with("gemm") || name.starts_with("ref");
}

// A linear is a convolution by a window of one, of an image whose pixels are the rows. Without VNNI oneDNN has a kernel
// of its own for that one only: 1.1 to 1.3 times as fast on a hundred rows, 3 to 8 times on one, and the same numbers.
inline bool makeAsConvolution(Kernel& k, const Tensor& w, int64_t scales) {
  Problem p = k.problem;
  const int64_t rows = k.xSizes[0], depth = k.xSizes[1];
  if (p.x != ScalarType::Byte || rows == 0 || depth == 0) return false;  // int8 it halves the weights for
  p.isConv = true;
  p.weight.insert(p.weight.end(), {1, 1});
  p.stride = p.dilation = {1, 1};
  p.padding = {0, 0};
  const Operands operands(p, {1, depth, rows, 1});
  const auto d = operands.convolution(p, true);
  if (!d || isGeneric(d)) return false;
  finish<dnnl::convolution_forward>(k, p, d, operands, w, scales);
  return true;
}

inline std::unique_ptr<Kernel> make(const Problem& p, const Dims& xSizes, const Tensor& w, int64_t scales) {
  auto k = std::make_unique<Kernel>(Kernel{p, xSizes, ownerOf(w), versionOf(w)});
  k->outSizes = resultSizes(p, xSizes);
  k->outStrides = channelsLast(k->outSizes);
  const Operands operands(p, xSizes);
  if (p.isConv) {
    finish<dnnl::convolution_forward>(*k, p, operands.convolution(p), operands, w, scales);
  } else {
    const auto d = operands.matmul();
    if (!isGeneric(d) || !makeAsConvolution(*k, w, scales)) finish<dnnl::matmul>(*k, p, d, operands, w, scales);
  }
  return k;
}

}  // namespace qegraph
