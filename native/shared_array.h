// Memory that the addon and JavaScript share, as a typed array over it.
//
// The rule: it lives as long as either of them holds it. JavaScript may drop, transfer or detach its array at any time;
// the addon's pointer stays valid, because the array's finalizer gives up one share and not the memory.
#pragma once

#include <napi.h>
#include <sys/mman.h>

#include <memory>

namespace jitpaxos {

template <typename T>
class SharedArray {
 public:
  // Zeroed. Untouched pages cost only address space; touched ones go back to the kernel at the end, which malloc does
  // not promise for blocks of this size.
  explicit SharedArray(size_t length) : length_(length) {
    const size_t bytes = length * sizeof(T);
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped != MAP_FAILED) data_ = std::shared_ptr<T>(static_cast<T*>(mapped), [bytes](T* data) { munmap(data, bytes); });
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
