// int8 linear and convolution as operators that keep the oneDNN primitive they made.
//
// torch's own onednn operators build the description of their primitive on every call, 20 to 30 µs; these look it up.
// An operator is a pure function of its operands: the weight is the plain int8 tensor, the residual is only read.
//
//   y = sum((x - x_zp) w) x_scale w_scale[n] + bias[n] + (other - other_zp) other_scale,   post-op,
//   and for an integer result sat(rne(y / out_scale + out_zp))
//
// What is kept, per thread: a primitive for each weight, activation shape, set of attributes and number of threads, and
// the memory objects it runs on. Packed weights are shared by threads. A weight is known by its storage, to which a weak
// reference is kept, so that no other can take its place, and by its version: one that was written to is packed anew.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <oneapi/dnnl/dnnl.hpp>
#include <torch/library.h>

#include <cmath>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using at::IntArrayRef;
using at::ScalarType;
using at::Tensor;
using dnnl::memory;
using Dims = std::vector<int64_t>;

constexpr size_t kShapesPerWeight = 32;  // activation shapes remembered for a weight, the latest ones

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  thread_local dnnl::stream inOrder(engine());
  return inOrder;
}

memory::data_type typeOf(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Byte: return memory::data_type::u8;
    case ScalarType::Char: return memory::data_type::s8;
    case ScalarType::Float: return memory::data_type::f32;
    case ScalarType::BFloat16: return memory::data_type::bf16;
    case ScalarType::Half: return memory::data_type::f16;
    default: TORCH_CHECK(false, "qegraph: no int8 kernel reads or writes ", dtype);
  }
}

bool isCode(ScalarType dtype) { return dtype == ScalarType::Byte || dtype == ScalarType::Char; }

// Strides of a dense tensor whose channels, dim 1, are innermost; of a plain one if it has fewer than three dims.
Dims channelsLast(IntArrayRef sizes) {
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

bool isDense(const Tensor& x, const Dims& strides) {
  for (int64_t dim = 0; dim < x.dim(); ++dim)
    if (x.size(dim) > 1 && x.stride(dim) != strides[dim]) return false;
  return true;
}

Tensor channelsLastCopy(const Tensor& x) {
  Tensor copy = at::empty(x.sizes(), x.options());
  copy = copy.as_strided(x.sizes(), channelsLast(x.sizes()));
  return copy.copy_(x);
}

// What a primitive is made for, besides the weight and the shapes of the operands.
struct Problem {
  bool isConv;
  ScalarType x, out;
  bool xZeroPoint, outZeroPoint, perChannel, hasBias;
  std::optional<ScalarType> bias, other;
  float otherScale;
  int64_t otherZeroPoint;
  std::string postOp;
  std::vector<double> parameters;
  Dims weight, stride, padding, dilation;
  int64_t groups;
  int threads;
  bool operator==(const Problem&) const = default;
};

dnnl::post_ops postOps(const Problem& p, const memory::desc* other) {
  using dnnl::algorithm;
  dnnl::post_ops ops;
  const float a = p.parameters.size() > 0 ? static_cast<float>(p.parameters[0]) : 0.f;
  const float b = p.parameters.size() > 1 ? static_cast<float>(p.parameters[1]) : 0.f;
  if (other) {
    // codes are added as plain numbers, so the sum is in their units meanwhile
    const bool isScaled = isCode(*p.other) && (p.otherScale != 1.f || p.otherZeroPoint != 0);
    if (isScaled) ops.append_eltwise(algorithm::eltwise_linear, 1.f / p.otherScale, -static_cast<float>(p.otherZeroPoint));
    ops.append_binary(algorithm::binary_add, *other);
    if (isScaled) ops.append_eltwise(algorithm::eltwise_linear, p.otherScale, 0.f);
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

dnnl::primitive_attr attributes(const Problem& p, const memory::desc* other) {
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

// -- weights ----------------------------------------------------------------------------------------------------------

struct Identity {
  const void* storage;
  int64_t offset;
  bool operator==(const Identity&) const = default;
};

struct IdentityHash {
  size_t operator()(const Identity& id) const {
    return std::hash<const void*>()(id.storage) ^ static_cast<size_t>(id.offset) * 0x9e3779b97f4a7c15ULL;
  }
};

Identity identityOf(const Tensor& w) { return {w.storage().unsafeGetStorageImpl(), w.storage_offset()}; }

int64_t versionOf(const Tensor& w) { return w.is_inference() ? 0 : static_cast<int64_t>(w._version()); }

using Owner = c10::weak_intrusive_ptr<c10::StorageImpl>;

Owner ownerOf(const Tensor& w) { return Owner(w.storage().getWeakStorageImpl()); }

struct Packed {
  Owner owner;
  int64_t version;
  memory::desc desc;
  std::shared_ptr<Tensor> bytes;
};

struct PackedWeights {
  std::mutex mutex;
  std::unordered_map<Identity, std::list<Packed>, IdentityHash> table;

  // The weight in the form a primitive wants it, made if there is none. Forgets those whose owner is gone.
  std::shared_ptr<Tensor> get(const Tensor& w, const memory::desc& plain, const memory::desc& wanted) {
    std::lock_guard<std::mutex> lock(mutex);
    const int64_t version = versionOf(w);
    auto& forms = table[identityOf(w)];
    forms.remove_if([&](const Packed& each) { return each.owner.expired() || each.version != version; });
    for (auto& each : forms)
      if (each.desc == wanted) return each.bytes;
    sweep();
    auto bytes = std::make_shared<Tensor>(at::empty({static_cast<int64_t>(wanted.get_size())}, at::kByte));
    memory from(plain, engine(), w.data_ptr()), to(wanted, engine(), bytes->data_ptr());
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
    table[identityOf(w)].push_back({ownerOf(w), version, wanted, bytes});
    return bytes;
  }

  void sweep() {
    for (auto it = table.begin(); it != table.end();) {
      it->second.remove_if([](const Packed& each) { return each.owner.expired(); });
      it = it->second.empty() ? table.erase(it) : std::next(it);
    }
  }
};

PackedWeights& packedWeights() {
  static PackedWeights* all = new PackedWeights();  // outlives threads that end after main
  return *all;
}

// -- primitives -------------------------------------------------------------------------------------------------------

struct Kernel {
  Problem problem;
  Dims xSizes, otherSizes;
  Owner owner;
  int64_t version;
  Dims outSizes = {}, outStrides = {};
  dnnl::primitive primitive = {};
  std::shared_ptr<Tensor> weight = {};
  int64_t scratchpad = 0;
  std::vector<memory> memories = {};
  std::vector<dnnl_exec_arg_t> arguments = {};
  int xAt = -1, outAt = -1, scratchAt = -1, wScaleAt = -1, xScaleAt = -1, xZeroAt = -1, outScaleAt = -1, outZeroAt = -1, biasAt = -1, otherAt = -1;

  int add(int argument, const memory::desc& desc) {
    memories.emplace_back(desc, engine(), nullptr);
    arguments.push_back({argument, memories.back().get()});
    return static_cast<int>(memories.size()) - 1;
  }
};

memory::desc vectorOf(int64_t length, memory::data_type type) { return {{length}, type, memory::dims{1}}; }

int64_t sumOut(const Problem& p, int64_t in, int64_t window, size_t dim) {
  return (in + 2 * p.padding[dim] - p.dilation[dim] * (window - 1) - 1) / p.stride[dim] + 1;
}

// (sizes of the result, in the form of the primitive's activation)
Dims resultSizes(const Problem& p, const Dims& x, IntArrayRef w) {
  if (!p.isConv) return {x[0], w[0]};
  Dims sizes{x[0], w[0]};
  for (size_t dim = 2; dim < x.size(); ++dim) sizes.push_back(sumOut(p, x[dim], w[dim], dim - 2));
  return sizes;
}

template <class Description>
void finish(Kernel& k, const Description& d, const Tensor& w, const memory::desc& plain, int64_t scales) {
  const Problem& p = k.problem;
  k.weight = packedWeights().get(w, plain, d.weights_desc());
  k.scratchpad = static_cast<int64_t>(d.scratchpad_desc().get_size());
  k.xAt = k.add(DNNL_ARG_SRC, d.src_desc());
  k.memories[k.add(DNNL_ARG_WEIGHTS, d.weights_desc())].set_data_handle(k.weight->data_ptr());
  k.outAt = k.add(DNNL_ARG_DST, d.dst_desc());
  k.scratchAt = k.add(DNNL_ARG_SCRATCHPAD, d.scratchpad_desc());
  k.xScaleAt = k.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, vectorOf(1, memory::data_type::f32));
  k.wScaleAt = k.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, vectorOf(scales, memory::data_type::f32));
  if (isCode(p.out)) k.outScaleAt = k.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, vectorOf(1, memory::data_type::f32));
  if (p.xZeroPoint) k.xZeroAt = k.add(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, vectorOf(1, memory::data_type::s32));
  if (p.outZeroPoint) k.outZeroAt = k.add(DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_DST, vectorOf(1, memory::data_type::s32));
}

std::unique_ptr<Kernel> make(const Problem& p, const Dims& xSizes, const Dims& otherSizes, const Tensor& w, int64_t scales) {
  auto k = std::make_unique<Kernel>(Kernel{p, xSizes, otherSizes, ownerOf(w), versionOf(w)});
  k->outSizes = resultSizes(p, xSizes, w.sizes());
  k->outStrides = channelsLast(k->outSizes);
  const memory::desc x(xSizes, typeOf(p.x), channelsLast(xSizes));
  const memory::desc out(k->outSizes, typeOf(p.out), k->outStrides);
  std::optional<memory::desc> other, bias;
  if (p.other) other.emplace(otherSizes, typeOf(*p.other), channelsLast(otherSizes));
  const auto attr = attributes(p, other ? &*other : nullptr);
  const auto mode = dnnl::prop_kind::forward_inference;
  if (p.isConv) {
    Dims sizes = w.sizes().vec();
    if (p.groups > 1) {
      sizes[0] /= p.groups;
      sizes.insert(sizes.begin(), p.groups);
    }
    Dims strides(sizes.size(), 1);
    for (size_t dim = sizes.size() - 1; dim-- > 0;) strides[dim] = strides[dim + 1] * sizes[dim + 1];
    const memory::desc plain(sizes, memory::data_type::s8, strides);
    const memory::desc any(sizes, memory::data_type::s8, memory::format_tag::any);
    if (p.bias) bias = vectorOf(w.size(0), typeOf(*p.bias));
    Dims dilation = p.dilation;
    for (auto& each : dilation) --each;  // oneDNN counts what lies between
    const dnnl::convolution_forward::primitive_desc d =
        bias ? dnnl::convolution_forward::primitive_desc(engine(), mode, dnnl::algorithm::convolution_direct, x, any, *bias, out, p.stride, dilation, p.padding, p.padding, attr)
             : dnnl::convolution_forward::primitive_desc(engine(), mode, dnnl::algorithm::convolution_direct, x, any, out, p.stride, dilation, p.padding, p.padding, attr);
    k->primitive = dnnl::convolution_forward(d);
    finish(*k, d, w, plain, scales);
  } else {
    const Dims sizes{w.size(1), w.size(0)};
    const memory::desc plain(sizes, memory::data_type::s8, Dims{1, w.size(1)});
    const memory::desc any(sizes, memory::data_type::s8, memory::format_tag::any);
    if (p.bias) bias.emplace(Dims{1, w.size(0)}, typeOf(*p.bias), Dims{w.size(0), 1});
    const dnnl::matmul::primitive_desc d = bias ? dnnl::matmul::primitive_desc(engine(), x, any, *bias, out, attr)
                                                : dnnl::matmul::primitive_desc(engine(), x, any, out, attr);
    k->primitive = dnnl::matmul(d);
    finish(*k, d, w, plain, scales);
  }
  if (bias) k->biasAt = k->add(DNNL_ARG_BIAS, *bias);
  if (other) {
    const int at = p.otherScale != 1.f || p.otherZeroPoint != 0 ? (isCode(*p.other) ? 1 : 0) : 0;
    k->otherAt = k->add(DNNL_ARG_ATTR_MULTIPLE_POST_OP(at) | DNNL_ARG_SRC_1, *other);
  }
  return k;
}

using Kernels = std::list<std::unique_ptr<Kernel>>;

struct ThreadState {
  std::unordered_map<Identity, Kernels, IdentityHash> kernels;
  Tensor scratchpad;

  Kernel& get(const Problem& p, const Dims& x, const Dims& other, const Tensor& w, int64_t scales) {
    auto& all = kernels[identityOf(w)];
    const int64_t version = versionOf(w);
    for (auto it = all.begin(); it != all.end(); ++it) {
      Kernel& each = **it;
      if (each.xSizes == x && each.otherSizes == other && each.version == version && each.problem == p && !each.owner.expired()) {
        if (it != all.begin()) all.splice(all.begin(), all, it);
        return each;
      }
    }
    sweep();
    auto& here = kernels[identityOf(w)];
    here.remove_if([&](const std::unique_ptr<Kernel>& each) { return each->version != version; });
    here.push_front(make(p, x, other, w, scales));
    if (here.size() > kShapesPerWeight) here.pop_back();
    return *here.front();
  }

  void sweep() {
    for (auto it = kernels.begin(); it != kernels.end();) {
      it->second.remove_if([](const std::unique_ptr<Kernel>& each) { return each->owner.expired(); });
      it = it->second.empty() ? kernels.erase(it) : std::next(it);
    }
  }

  void* scratch(int64_t bytes) {
    if (bytes == 0) return nullptr;
    if (!scratchpad.defined() || scratchpad.numel() < bytes) scratchpad = at::empty({bytes}, at::kByte);
    return scratchpad.data_ptr();
  }
};

ThreadState& state() {
  thread_local ThreadState here;
  return here;
}

// -- operators --------------------------------------------------------------------------------------------------------

struct Numbers {
  float xScale;
  int32_t xZeroPoint;
  float outScale;
  int32_t outZeroPoint;
};

Tensor run(Kernel& k, const Tensor& x, Numbers numbers, const Tensor& wScale, const std::optional<Tensor>& bias,
           const Tensor& other) {
  Tensor out = at::detail::empty_strided_cpu(k.outSizes, k.outStrides, k.problem.out);
  auto set = [&](int at, const void* data) {
    if (at >= 0) dnnl_memory_set_data_handle(k.memories[at].get(), const_cast<void*>(data));
  };
  set(k.xAt, x.const_data_ptr());
  set(k.outAt, out.data_ptr());
  set(k.scratchAt, state().scratch(k.scratchpad));
  set(k.wScaleAt, wScale.const_data_ptr());
  set(k.xScaleAt, &numbers.xScale);
  set(k.xZeroAt, &numbers.xZeroPoint);
  set(k.outScaleAt, &numbers.outScale);
  set(k.outZeroAt, &numbers.outZeroPoint);
  if (bias) set(k.biasAt, bias->const_data_ptr());
  if (other.defined()) set(k.otherAt, other.const_data_ptr());
  const auto status = dnnl_primitive_execute(k.primitive.get(), stream().get(), static_cast<int>(k.arguments.size()), k.arguments.data());
  TORCH_CHECK(status == dnnl_success, "qegraph: oneDNN could not run a kernel, status ", static_cast<int>(status));
  return out;
}

Tensor dense(const Tensor& x) { return isDense(x, channelsLast(x.sizes())) ? x : channelsLastCopy(x); }

void check(const Tensor& x, const Tensor& w, const Tensor& wScale, const std::optional<Tensor>& bias) {
  TORCH_CHECK(isCode(x.scalar_type()), "qegraph: the activation must be uint8 or int8, got ", x.scalar_type());
  TORCH_CHECK(w.scalar_type() == ScalarType::Char, "qegraph: the weight must be int8, got ", w.scalar_type());
  TORCH_CHECK(w.is_contiguous(), "qegraph: the weight must be contiguous");
  const int64_t n = w.size(0);
  TORCH_CHECK(wScale.scalar_type() == ScalarType::Float && wScale.is_contiguous() && (wScale.numel() == 1 || wScale.numel() == n),
              "qegraph: the weight's scales must be 1 or ", n, " float32, got ", wScale.sizes(), " ", wScale.scalar_type());
  if (bias) TORCH_CHECK(bias->numel() == n && bias->is_contiguous(), "qegraph: the bias must be ", n, " dense numbers, got ", bias->sizes());
}

Problem problemOf(bool isConv, const Tensor& x, int64_t xZeroPoint, const Tensor& w, const Tensor& wScale, const std::optional<Tensor>& bias,
                  const std::optional<Tensor>& other, double otherScale, int64_t otherZeroPoint, int64_t outZeroPoint,
                  ScalarType out, std::string_view postOp, at::ArrayRef<double> parameters) {
  Problem p{};
  p.isConv = isConv;
  p.x = x.scalar_type();
  p.out = out;
  p.xZeroPoint = xZeroPoint != 0;
  p.outZeroPoint = isCode(out) && outZeroPoint != 0;
  p.perChannel = wScale.numel() > 1;
  p.weight = w.sizes().vec();
  if (bias) p.bias = bias->scalar_type();
  if (other) {
    p.other = other->scalar_type();
    p.otherScale = static_cast<float>(otherScale);
    p.otherZeroPoint = otherZeroPoint;
  }
  p.postOp = postOp;
  p.parameters = parameters.vec();
  p.groups = 1;
  p.threads = at::get_num_threads();
  return p;
}

Tensor qconv(const Tensor& x, double xScale, int64_t xZeroPoint, const Tensor& w, const Tensor& wScale,
             const std::optional<Tensor>& bias, const std::optional<Tensor>& other, double otherScale, int64_t otherZeroPoint,
             IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups, double outScale,
             int64_t outZeroPoint, ScalarType outDtype, std::string_view postOp, at::ArrayRef<double> parameters) {
  check(x, w, wScale, bias);
  TORCH_CHECK(x.dim() == w.dim() && x.size(1) == w.size(1) * groups, "qegraph: an activation of ", x.sizes(), " doesn't fit a weight of ", w.sizes(), " in ", groups, " groups");
  Problem p = problemOf(true, x, xZeroPoint, w, wScale, bias, other, otherScale, otherZeroPoint, outZeroPoint, outDtype, postOp, parameters);
  p.stride = stride.vec();
  p.padding = padding.vec();
  p.dilation = dilation.vec();
  p.groups = groups;
  const Tensor source = dense(x), residual = other ? dense(*other) : Tensor();
  Kernel& k = state().get(p, x.sizes().vec(), other ? residual.sizes().vec() : Dims{}, w, wScale.numel());
  TORCH_CHECK(!other || residual.sizes() == IntArrayRef(k.outSizes), "qegraph: a residual of ", residual.sizes(), " for a result of ", k.outSizes);
  const Numbers numbers{static_cast<float>(xScale), static_cast<int32_t>(xZeroPoint), static_cast<float>(outScale), static_cast<int32_t>(outZeroPoint)};
  return run(k, source, numbers, wScale, bias, residual);
}

Tensor qlinear(const Tensor& x, double xScale, int64_t xZeroPoint, const Tensor& w, const Tensor& wScale,
               const std::optional<Tensor>& bias, const std::optional<Tensor>& other, double otherScale, int64_t otherZeroPoint,
               double outScale, int64_t outZeroPoint, ScalarType outDtype, std::string_view postOp, at::ArrayRef<double> parameters) {
  check(x, w, wScale, bias);
  TORCH_CHECK(w.dim() == 2 && x.dim() >= 1 && x.size(-1) == w.size(1), "qegraph: an activation of ", x.sizes(), " doesn't fit a weight of ", w.sizes());
  Dims result = x.sizes().vec();
  result.back() = w.size(0);
  const Problem p = problemOf(false, x, xZeroPoint, w, wScale, bias, other, otherScale, otherZeroPoint, outZeroPoint, outDtype, postOp, parameters);
  const Tensor source = x.reshape({-1, x.size(-1)}).contiguous();
  const Tensor residual = other ? other->expand(result).reshape({-1, w.size(0)}).contiguous() : Tensor();
  Kernel& k = state().get(p, source.sizes().vec(), other ? residual.sizes().vec() : Dims{}, w, wScale.numel());
  const Numbers numbers{static_cast<float>(xScale), static_cast<int32_t>(xZeroPoint), static_cast<float>(outScale), static_cast<int32_t>(outZeroPoint)};
  return run(k, source, numbers, wScale, bias, residual).view(result);
}

Tensor qlinearDynamic(const Tensor& x, const Tensor& xScale, const Tensor& xZeroPoint, const Tensor& w, const Tensor& wScale,
                      const std::optional<Tensor>& bias, const std::optional<Tensor>& other, double otherScale,
                      int64_t otherZeroPoint, double outScale, int64_t outZeroPoint, ScalarType outDtype,
                      std::string_view postOp, at::ArrayRef<double> parameters) {
  return qlinear(x, xScale.item<double>(), xZeroPoint.item<int64_t>(), w, wScale, bias, other, otherScale, otherZeroPoint,
                 outScale, outZeroPoint, outDtype, postOp, parameters);
}

Tensor qconvDynamic(const Tensor& x, const Tensor& xScale, const Tensor& xZeroPoint, const Tensor& w, const Tensor& wScale,
                    const std::optional<Tensor>& bias, const std::optional<Tensor>& other, double otherScale,
                    int64_t otherZeroPoint, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                    double outScale, int64_t outZeroPoint, ScalarType outDtype, std::string_view postOp,
                    at::ArrayRef<double> parameters) {
  return qconv(x, xScale.item<double>(), xZeroPoint.item<int64_t>(), w, wScale, bias, other, otherScale, otherZeroPoint,
               stride, padding, dilation, groups, outScale, outZeroPoint, outDtype, postOp, parameters);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(qegraph, m) {
  const std::string given = "(Tensor x, float x_scale, int x_zero_point, ", computed = "(Tensor x, Tensor x_scale, Tensor x_zero_point, ",
                    weight = "Tensor weight, Tensor w_scale, Tensor? bias, Tensor? other, float other_scale, int other_zero_point, ",
                    windows = "int[] stride, int[] padding, int[] dilation, int groups, ",
                    result = "float out_scale, int out_zero_point, ScalarType out_dtype, str post_op, float[] parameters) -> Tensor";
  m.def(("qlinear" + given + weight + result).c_str());
  m.def(("qlinear.tensor" + computed + weight + result).c_str());
  m.def(("qconv" + given + weight + windows + result).c_str());
  m.def(("qconv.tensor" + computed + weight + windows + result).c_str());
}

TORCH_LIBRARY_IMPL(qegraph, CPU, m) {
  m.impl("qlinear", qlinear);
  m.impl("qlinear.tensor", qlinearDynamic);
  m.impl("qconv", qconv);
  m.impl("qconv.tensor", qconvDynamic);
}
