// Memory that the addon and JavaScript share, as a typed array over it.
//
// The rule: it lives as long as either of them holds it. JavaScript may drop, transfer or detach its array at any time;
// the addon's pointer stays valid, because the array's finalizer gives up one share and not the memory.
#pragma once

#include <napi.h>
#include <sys/mman.h>

#include <iterator>
#include <map>
#include <memory>
#include <type_traits>
#include <utility>

#include "arguments.h"

namespace jitpaxos {

// The memory of this thread's shared arrays of bytes, so that one part of the addon can work in the memory of another.
class OwnMemory {
 public:
  static void Note(const std::shared_ptr<uint8_t>& memory, size_t length) {
    Map& all = All();
    for (auto one = all.begin(); one != all.end();) one = one->second.first.expired() ? all.erase(one) : std::next(one);
    all[memory.get()] = {memory, length};
  }

  // Null unless the bytes are the whole of such an array.
  static std::shared_ptr<uint8_t> Find(const ByteSpan& bytes) {
    const auto found = All().find(bytes.data);
    if (found == All().end() || found->second.second != bytes.length) return nullptr;
    return found->second.first.lock();
  }

 private:
  using Map = std::map<const uint8_t*, std::pair<std::weak_ptr<uint8_t>, size_t>>;

  static Map& All() {
    static thread_local Map all;
    return all;
  }
};

template <typename T>
class SharedArray {
 public:
  // Zeroed. Untouched pages cost only address space; touched ones go back to the kernel at the end, which malloc does
  // not promise for blocks of this size.
  explicit SharedArray(size_t length) : length_(length) {
    const size_t bytes = length * sizeof(T);
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return;
    data_ = std::shared_ptr<T>(static_cast<T*>(mapped), [bytes](T* data) { munmap(data, bytes); });
    if constexpr (std::is_same_v<T, uint8_t>) OwnMemory::Note(data_, length);
  }

  T* data() const { return data_.get(); }
  size_t length() const { return length_; }
  bool valid() const { return data_ != nullptr; }
  T& operator[](size_t index) const { return data_.get()[index]; }

  Napi::TypedArrayOf<T> Expose(Napi::Env env) const {
    auto* share = new std::shared_ptr<T>(data_);
    auto release = [](Napi::Env, void*, std::shared_ptr<T>* held) { delete held; };
    Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, data_.get(), length_ * sizeof(T), release, share);
    return Napi::TypedArrayOf<T>::New(env, length_, buffer, 0);
  }

 private:
  size_t length_;
  std::shared_ptr<T> data_;
};

}  // namespace jitpaxos
