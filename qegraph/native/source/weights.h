// Packed weights, shared by threads.
//
// A weight is known by its storage, to which a weak reference is kept, so that no other can take its place, and by its
// version: one that was written to is packed anew.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "tensors.h"

namespace qegraph {

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

inline Identity identityOf(const Tensor& w) { return {w.storage().unsafeGetStorageImpl(), w.storage_offset()}; }

inline int64_t versionOf(const Tensor& w) { return w.is_inference() ? 0 : static_cast<int64_t>(w._version()); }

using Owner = c10::weak_intrusive_ptr<c10::StorageImpl>;

inline Owner ownerOf(const Tensor& w) { return Owner(w.storage().getWeakStorageImpl()); }

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

inline PackedWeights& packedWeights() {
  static PackedWeights* all = new PackedWeights();  // outlives threads that end after main
  return *all;
}

}  // namespace qegraph
