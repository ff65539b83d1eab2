// Numbers for addresses: places have the address that they are given, replicas among them; other senders get a number
// when they are first interned.
//
// The same rule and the same numbers as src/transport/endpoint-table.ts, which gives the reasons: `places + slot +
// capacity * generation`. The least recently used slot makes room, and its next address gets a new number. The hash is
// seeded, so that outsiders cannot choose addresses that collide.
#pragma once

#include <sys/random.h>

#include <cstdint>
#include <limits>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "socket_address.h"

namespace jitpaxos {

class EndpointTable {
 public:
  static constexpr int32_t kUnknown = -1;
  // The sender of a datagram from a replica's address. The envelope says which replica.
  static constexpr int32_t kReplica = -2;

  // `capacity` is a power of two. The first `replicas` of the places are replicas.
  EndpointTable(std::vector<SocketAddress> places, size_t replicas, int32_t capacity)
      : places_(std::move(places)),
        heard_(replicas),
        capacity_(capacity),
        max_generation_((std::numeric_limits<int32_t>::max() - static_cast<int32_t>(places_.size()) - capacity) / capacity),
        first_(2 * static_cast<size_t>(capacity), kNone),
        entries_(static_cast<size_t>(capacity) + 1) {
    entries_[Root()].newer = entries_[Root()].older = Root();
    FindReach();
    if (getrandom(&seed_, sizeof seed_, GRND_NONBLOCK) != sizeof seed_) seed_ = reinterpret_cast<uintptr_t>(this);
  }

  // The number of a known sender, which is marked as used; kUnknown if it has none.
  int32_t Find(const SocketAddress& address) {
    const int32_t slot = FindSlot(address, Bucket(address));
    if (slot == kNone) return kUnknown;
    Touch(slot);
    return NumberOf(slot);
  }

  // Like Find, but gives a number to an address that has none.
  int32_t Intern(const SocketAddress& address) {
    const uint32_t bucket = Bucket(address);
    int32_t slot = FindSlot(address, bucket);
    if (slot != kNone) {
      Touch(slot);
      return NumberOf(slot);
    }
    slot = used_ < capacity_ ? used_++ : EvictOldest();
    Entry& entry = entries_[slot];
    entry.address = address;
    entry.bucket = bucket;
    entry.next = first_[bucket];
    first_[bucket] = slot;
    LinkNewest(slot);
    return NumberOf(slot);
  }

  // Like Find, but kReplica for the address of a replica.
  int32_t FindSender(const SocketAddress& address) {
    const int32_t number = Find(address);
    if (number != kUnknown) return number;
    for (size_t replica = 0; replica < reach_; replica++) {
      if (places_[replica] == address || heard_[replica] == address) return kReplica;
    }
    return kUnknown;
  }

  // An authentic datagram of a replica came from this address, which need not be the one that it is written to. A place
  // that is no replica's is written to there.
  void NoteReplica(size_t place, const SocketAddress& address) {
    if (place < heard_.size()) {
      heard_[place] = address;
      FindReach();
    } else {
      places_[place] = address;
    }
  }

  // A place below their number has a new address, or none: one without a family.
  void SetPlace(size_t place, const SocketAddress& address) {
    places_[place] = address;
    if (place >= heard_.size()) return;
    if (address.family() == AF_UNSPEC) heard_[place] = address;
    FindReach();
  }

  // Null if the number stands for no address (no longer, or not yet: a replica whose name has not been resolved).
  const SocketAddress* AddressOf(int32_t endpoint) const {
    if (endpoint < 0) return nullptr;
    const int32_t places = static_cast<int32_t>(places_.size());
    if (endpoint < places) return places_[endpoint].family() == AF_UNSPEC ? nullptr : &places_[endpoint];
    const int32_t slot = (endpoint - places) & (capacity_ - 1);
    return slot < used_ && NumberOf(slot) == endpoint ? &entries_[slot].address : nullptr;
  }

  // Index of the replica at this address; kUnknown if there is none.
  int32_t ReplicaOf(const SocketAddress& address) const {
    for (size_t replica = 0; replica < heard_.size(); replica++) {
      if (places_[replica] == address) return static_cast<int32_t>(replica);
    }
    return kUnknown;
  }

  uint64_t evicted() const { return evicted_; }

 private:
  static constexpr int32_t kNone = -1;

  struct Entry {
    SocketAddress address;
    uint32_t bucket = 0;
    int32_t next = kNone;
    int32_t generation = 0;
    // By last use; a ring through the entry after the last, which is not a slot.
    int32_t newer = 0;
    int32_t older = 0;
  };

  int32_t Root() const { return capacity_; }

  uint32_t Bucket(const SocketAddress& address) const {
    return static_cast<uint32_t>(XXH3_64bits_withSeed(&address.v6, sizeof address.v6, seed_)) & (2 * static_cast<uint32_t>(capacity_) - 1);
  }

  int32_t FindSlot(const SocketAddress& address, uint32_t bucket) const {
    int32_t slot = first_[bucket];
    while (slot != kNone && !(entries_[slot].address == address)) slot = entries_[slot].next;
    return slot;
  }

  int32_t NumberOf(int32_t slot) const {
    return static_cast<int32_t>(places_.size()) + slot + capacity_ * entries_[slot].generation;
  }

  void FindReach() {
    reach_ = heard_.size();
    while (reach_ > 0 && places_[reach_ - 1].family() == AF_UNSPEC && heard_[reach_ - 1].family() == AF_UNSPEC) reach_--;
  }

  void Touch(int32_t slot) {
    if (entries_[Root()].older == slot) return;
    Unlink(slot);
    LinkNewest(slot);
  }

  void Unlink(int32_t slot) {
    const Entry& entry = entries_[slot];
    entries_[entry.newer].older = entry.older;
    entries_[entry.older].newer = entry.newer;
  }

  void LinkNewest(int32_t slot) {
    const int32_t second = entries_[Root()].older;
    entries_[Root()].older = slot;
    entries_[slot].newer = Root();
    entries_[slot].older = second;
    entries_[second].newer = slot;
  }

  int32_t EvictOldest() {
    const int32_t slot = entries_[Root()].newer;
    Unlink(slot);
    Entry& entry = entries_[slot];
    int32_t* link = &first_[entry.bucket];
    while (*link != slot) link = &entries_[*link].next;
    *link = entry.next;
    entry.generation = entry.generation >= max_generation_ ? 0 : entry.generation + 1;
    evicted_++;
    return slot;
  }

  std::vector<SocketAddress> places_;
  // By replica.
  std::vector<SocketAddress> heard_;
  // A number above every replica with an address.
  size_t reach_ = 0;
  const int32_t capacity_;
  const int32_t max_generation_;
  std::vector<int32_t> first_;
  std::vector<Entry> entries_;
  int32_t used_ = 0;
  uint64_t evicted_ = 0;
  uint64_t seed_ = 0;
};

}  // namespace jitpaxos
