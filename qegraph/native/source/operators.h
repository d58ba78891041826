// int8 linear and convolution as operators that keep the oneDNN primitive they made.
//
// torch's own onednn operators build the description of their primitive on every call, 20 to 30 µs; these look it up.
// An operator is a pure function of its operands: the weight is the plain int8 tensor, the residual is only read.
//
//   y = sum((x - x_zp) w) x_scale w_scale[n] + bias[n] + (other - other_zp) other_scale,   post-op,
//   and for an integer result sat(rne(y / out_scale + out_zp))
//
// A primitive is kept for each weight, activation shape, set of attributes and number of threads, by each thread.
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>

#include <cstring>
#include <list>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "primitive.h"

namespace qegraph {

constexpr size_t kShapesPerWeight = 32;  // activation shapes remembered for a weight, the latest ones

constexpr int64_t kBytesPerThread = 1 << 17;

using Kernels = std::list<std::unique_ptr<Kernel>>;

struct ThreadState {
  std::unordered_map<Identity, Kernels, IdentityHash> kernels;
  Tensor scratchpad;

  Kernel& get(const Problem& p, const Dims& x, const Tensor& w, int64_t scales) {
    auto& all = kernels[identityOf(w)];
    const int64_t version = versionOf(w);
    for (auto it = all.begin(); it != all.end(); ++it) {
      Kernel& each = **it;
      if (each.xSizes == x && each.version == version && each.problem == p && !each.owner.expired()) {
        if (it != all.begin()) all.splice(all.begin(), all, it);
        return each;
      }
    }
    sweep();
    auto& here = kernels[identityOf(w)];
    here.remove_if([&](const std::unique_ptr<Kernel>& each) { return each->version != version; });
    here.push_front(make(p, x, w, scales));
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

inline ThreadState& state() {
  thread_local ThreadState here;
  return here;
}

struct Numbers {
  float xScale;
  int32_t xZeroPoint;
  float outScale;
  int32_t outZeroPoint;
};

// Of dense memory, by as many threads as are worth their call.
inline void copy(const Tensor& from, const Tensor& to) {
  const auto* source = static_cast<const char*>(from.const_data_ptr());
  auto* target = static_cast<char*>(to.data_ptr());
  at::parallel_for(0, static_cast<int64_t>(from.nbytes()), kBytesPerThread,
                   [&](int64_t begin, int64_t end) { std::memcpy(target + begin, source + begin, end - begin); });
}

inline Tensor run(Kernel& k, const Tensor& x, Numbers numbers, const Tensor& wScale, const std::optional<Tensor>& bias,
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
  if (k.accumulates) copy(other, out);
  else if (other.defined()) set(k.otherAt, other.const_data_ptr());
  const auto status = dnnl_primitive_execute(k.primitive.get(), stream().get(), static_cast<int>(k.arguments.size()),
                                             k.arguments.data());
  TORCH_CHECK(status == dnnl_success, "qegraph: oneDNN could not run a kernel, status ", static_cast<int>(status));
  return out;
}

inline Tensor dense(const Tensor& x) { return isDense(x, channelsLast(x.sizes())) ? x : channelsLastCopy(x); }

inline void check(const Tensor& x, const Tensor& w, const Tensor& wScale, const std::optional<Tensor>& bias) {
  TORCH_CHECK(isCode(x.scalar_type()), "qegraph: the activation must be uint8 or int8, got ", x.scalar_type());
  TORCH_CHECK(w.scalar_type() == ScalarType::Char, "qegraph: the weight must be int8, got ", w.scalar_type());
  TORCH_CHECK(w.is_contiguous(), "qegraph: the weight must be contiguous");
  const int64_t n = w.size(0);
  TORCH_CHECK(wScale.scalar_type() == ScalarType::Float && wScale.is_contiguous() &&
                  (wScale.numel() == 1 || wScale.numel() == n),
              "qegraph: the weight's scales must be 1 or ", n, " float32, got ", wScale.sizes(), " ",
              wScale.scalar_type());
  if (bias)
    TORCH_CHECK(bias->numel() == n && bias->is_contiguous(), "qegraph: the bias must be ", n, " dense numbers, got ",
                bias->sizes());
}

inline Problem problemOf(bool isConv, const Tensor& x, int64_t xZeroPoint, const Tensor& w, const Tensor& wScale,
                         const std::optional<Tensor>& bias, const std::optional<Tensor>& other, double otherScale,
                         int64_t otherZeroPoint, int64_t outZeroPoint, ScalarType out, std::string_view postOp,
                         at::ArrayRef<double> parameters) {
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

inline Tensor qconv(const Tensor& x, double xScale, int64_t xZeroPoint, const Tensor& w, const Tensor& wScale,
                    const std::optional<Tensor>& bias, const std::optional<Tensor>& other, double otherScale,
                    int64_t otherZeroPoint, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                    int64_t groups, double outScale, int64_t outZeroPoint, ScalarType outDtype, std::string_view postOp,
                    at::ArrayRef<double> parameters) {
  check(x, w, wScale, bias);
  TORCH_CHECK(x.dim() == w.dim() && x.size(1) == w.size(1) * groups, "qegraph: an activation of ", x.sizes(),
              " doesn't fit a weight of ", w.sizes(), " in ", groups, " groups");
  Problem p = problemOf(true, x, xZeroPoint, w, wScale, bias, other, otherScale, otherZeroPoint, outZeroPoint, outDtype,
                        postOp, parameters);
  p.stride = stride.vec();
  p.padding = padding.vec();
  p.dilation = dilation.vec();
  p.groups = groups;
  const Tensor source = dense(x), residual = other ? dense(*other) : Tensor();
  Kernel& k = state().get(p, x.sizes().vec(), w, wScale.numel());
  TORCH_CHECK(!other || residual.sizes() == IntArrayRef(k.outSizes), "qegraph: a residual of ", residual.sizes(),
              " for a result of ", k.outSizes);
  const Numbers numbers{static_cast<float>(xScale), static_cast<int32_t>(xZeroPoint), static_cast<float>(outScale),
                        static_cast<int32_t>(outZeroPoint)};
  return run(k, source, numbers, wScale, bias, residual);
}

inline Tensor qlinear(const Tensor& x, double xScale, int64_t xZeroPoint, const Tensor& w, const Tensor& wScale,
                      const std::optional<Tensor>& bias, const std::optional<Tensor>& other, double otherScale,
                      int64_t otherZeroPoint, double outScale, int64_t outZeroPoint, ScalarType outDtype,
                      std::string_view postOp, at::ArrayRef<double> parameters) {
  check(x, w, wScale, bias);
  TORCH_CHECK(w.dim() == 2 && x.dim() >= 1 && x.size(-1) == w.size(1), "qegraph: an activation of ", x.sizes(),
              " doesn't fit a weight of ", w.sizes());
  Dims result = x.sizes().vec();
  result.back() = w.size(0);
  const Problem p = problemOf(false, x, xZeroPoint, w, wScale, bias, other, otherScale, otherZeroPoint, outZeroPoint,
                              outDtype, postOp, parameters);
  const Tensor source = x.reshape({-1, x.size(-1)}).contiguous();
  const Tensor residual = other ? other->expand(result).reshape({-1, w.size(0)}).contiguous() : Tensor();
  Kernel& k = state().get(p, source.sizes().vec(), w, wScale.numel());
  const Numbers numbers{static_cast<float>(xScale), static_cast<int32_t>(xZeroPoint), static_cast<float>(outScale),
                        static_cast<int32_t>(outZeroPoint)};
  return run(k, source, numbers, wScale, bias, residual).view(result);
}

inline Tensor qlinearDynamic(const Tensor& x, const Tensor& xScale, const Tensor& xZeroPoint, const Tensor& w,
                             const Tensor& wScale, const std::optional<Tensor>& bias,
                             const std::optional<Tensor>& other, double otherScale, int64_t otherZeroPoint,
                             double outScale, int64_t outZeroPoint, ScalarType outDtype, std::string_view postOp,
                             at::ArrayRef<double> parameters) {
  return qlinear(x, xScale.item<double>(), xZeroPoint.item<int64_t>(), w, wScale, bias, other, otherScale,
                 otherZeroPoint, outScale, outZeroPoint, outDtype, postOp, parameters);
}

inline Tensor qconvDynamic(const Tensor& x, const Tensor& xScale, const Tensor& xZeroPoint, const Tensor& w,
                           const Tensor& wScale, const std::optional<Tensor>& bias, const std::optional<Tensor>& other,
                           double otherScale, int64_t otherZeroPoint, IntArrayRef stride, IntArrayRef padding,
                           IntArrayRef dilation, int64_t groups, double outScale, int64_t outZeroPoint,
                           ScalarType outDtype, std::string_view postOp, at::ArrayRef<double> parameters) {
  return qconv(x, xScale.item<double>(), xZeroPoint.item<int64_t>(), w, wScale, bias, other, otherScale, otherZeroPoint,
               stride, padding, dilation, groups, outScale, outZeroPoint, outDtype, postOp, parameters);
}

}  // namespace qegraph
