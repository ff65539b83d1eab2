// Batched UDP on Node's event loop: the sockets of one transport (src/transport/native-udp.ts, which explains what each
// part means to JavaScript).
//
// Received data goes into one slab, by recvmmsg, and is passed to JavaScript by one call per batch. Data to send lies
// in another slab and leaves by sendmmsg, one call per turn. Both slabs, and the lists of what is in them, are arrays
// that JavaScript has from the beginning, so neither direction allocates.
//
// Waiting: uv_poll wakes the loop when it sleeps. Before it sleeps, in the loop's prepare phase, the idle strategy may
// poll the sockets for some microseconds, since waking a sleeping process costs more than most requests. Polling ends
// as soon as the loop has anything else to do; deadlines of this thread's timers (timer.cc) are met meanwhile.
//
// The rule: a callback into JavaScript may do anything, including closing, so its caller checks `closed_` before it
// continues; and the memory of the handles lives until libuv has given back the last of them.

#pragma once

#include <napi.h>
#include <sched.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "allowance.h"
#include "arguments.h"
#include "callback.h"
#include "deadlines.h"
#include "endpoint_table.h"
#include "monotonic.h"
#include "shared_array.h"
#include "spin_policy.h"
#include "udp_channel.h"

namespace jitpaxos {

// What JavaScript reads of a received datagram, and writes of one to be sent: three int32 each.
constexpr size_t kEntryFields = 3;  // offset, length, endpoint
constexpr size_t kSendFields = 3;   // offset, length, endpoint

// The `state` array.
enum State : size_t { kDispatching, kTurnWanted, kReceived, kHandled, kSendErrno, kUnreachable, kStateFields };

// Batches before the event loop gets a turn, so that timers and other sockets are served under any load.
constexpr int kBatchesPerPass = 16;
// And datagrams: one batch may hold kReceivedMax of them, if the kernel assembled runs.
constexpr int kDatagramsPerPass = 1024;
// And time, after which no further batch is taken: code that is not compiled yet, or a processor that others want as well,
// makes the same datagrams last a hundred times as long. Meanwhile a promise that is on the disk would wait here.
constexpr uint64_t kPassNs = 1'000'000;
// Turns that an application may request while one batch is handled.
constexpr int kTurnsPerBatch = 8;
// Messages of the error queue taken at once.
constexpr int kUnreachablePerPass = 64;
// Attempts at a send that fails because of an error that earlier datagrams left at the socket.
constexpr int kSendTries = 4;
// Datagrams gathered at once.
constexpr size_t kSendPieces = 512;
// How long `busy` polls between two passes of the event loop.
constexpr uint64_t kBusyPassNs = 50'000;
// A processor yield shorter than this found no other process that wanted it; the next polls then skip the yield.
constexpr uint64_t kYieldAloneNs = 1'000;
constexpr int kQuietPolls = 8;

// Where each counter is in the array that JavaScript keeps; JavaScript gives the names, so it decides the order.
struct Counters {
  double* at = nullptr;
  size_t datagrams_received, bytes_received, datagrams_sent, bytes_sent, datagrams_fragmented, datagrams_segmented, send_errors, receive_errors,
      endpoint_unknown, endpoints_evicted, strangers_dropped, spins_paid, spins_wasted;

  void Add(size_t counter, double amount) { at[counter] += amount; }
};

// Entries of `sends` that leave as one message: `count` from `first` on, `bytes` in all.
struct Run {
  size_t first = 0;
  int32_t endpoint = 0;
  size_t segment_bytes = 0;
  size_t bytes = segment_bytes;
  size_t count = 1;

  bool Takes(int32_t to, size_t length) const {
    // A shorter datagram ends a run: later ones would be cut at the wrong place.
    return to == endpoint && length > 0 && length <= segment_bytes && bytes == count * segment_bytes && count < kRunMax && bytes + length <= kRunBytesMax;
  }

  void Add(size_t length) {
    bytes += length;
    count++;
  }
};

class UdpPort;

// A channel and its event loop handle.
struct Socket {
  UdpPort* port = nullptr;
  UdpChannel channel;
  uv_poll_t poll;
  bool wants_writable = false;
  // It was empty when last polled, and gave one datagram before that: the next one probably comes alone, too.
  bool calm = false;
  bool gave_one = false;
};

struct PortOptions {
  std::vector<SocketAddress> places;
  // How many of them are replicas.
  size_t replicas = 0;
  int32_t endpoints = 0;
  size_t transmit_bytes = 0;
  size_t sends = 0;
  size_t datagram_bytes = 0;
  Idle idle = Idle::kBlock;
  uint64_t spin_ns = 0;
  // Decides in the kernel which datagrams are received; empty: all.
  std::vector<sock_filter> filter;
  // Datagrams from unknown addresses that JavaScript gets; 0 a second: all.
  uint64_t strangers_at_once = 0;
  uint64_t strangers_per_second = 0;
};

// The part that outlives its JavaScript object until libuv is done with it.
class UdpPort {
 public:
  UdpPort(Napi::Env env, PortOptions options, size_t counters)
      : env_(env),
        options_(std::move(options)),
        table_(options_.places, options_.replicas, options_.endpoints),
        strangers_(options_.strangers_at_once, options_.strangers_per_second),
        received(kReceiveSlots * kSlotBytes),
        entries(kReceivedMax * kEntryFields),
        transmit(options_.transmit_bytes),
        sends(options_.sends * kSendFields),
        state(kStateFields),
        counter_values(counters) {}

  Napi::Env env_;
  const PortOptions options_;
  EndpointTable table_;
  Allowance strangers_;

  const SharedArray<uint8_t> received;
  const SharedArray<int32_t> entries;
  const SharedArray<uint8_t> transmit;
  const SharedArray<int32_t> sends;
  const SharedArray<int32_t> state;
  const SharedArray<double> counter_values;
  Counters counters;

  bool valid() const { return received.valid() && entries.valid() && transmit.valid() && sends.valid() && state.valid() && counter_values.valid(); }

  // --- Life ---------------------------------------------------------------------------------------------------------

  // Returns 0 or errno; the port that was bound in `*port`.
  int Bind(const SocketAddress& local, int receive_buffer_bytes, int send_buffer_bytes, const char** failed, uint16_t* port) {
    Socket& socket = SocketFor(local.family());
    const int error = socket.channel.Open(local, receive_buffer_bytes, send_buffer_bytes, options_.filter, failed);
    if (error != 0) return error;
    *port = socket.channel.LocalAddress().port();
    *failed = "uv_poll_init";
    const int status = uv_poll_init(loop_, &socket.poll, socket.channel.fd());
    if (status != 0) {
      socket.channel.Close();
      return -status;
    }
    socket.port = this;
    socket.poll.data = &socket;
    handles_++;
    Listen(socket);
    return 0;
  }

  // Called once, before the first Bind. From here until the last handle is closed, `owner` and the callbacks are kept
  // alive.
  void Start(Napi::Object owner, Napi::Function on_batch, Napi::Function on_turn, Napi::Function on_writable, Napi::Function on_unreachable) {
    owner_ = Napi::Persistent(owner);
    on_batch_ = Napi::Persistent(on_batch);
    on_turn_ = Napi::Persistent(on_turn);
    on_writable_ = Napi::Persistent(on_writable);
    on_unreachable_ = Napi::Persistent(on_unreachable);
    napi_get_uv_event_loop(env_, &loop_);
    napi_value name;
    napi_create_string_utf8(env_, "jitpaxos.udp", NAPI_AUTO_LENGTH, &name);
    napi_async_init(env_, nullptr, name, &async_context_);
    uv_prepare_init(loop_, &prepare_);
    uv_idle_init(loop_, &idle_);
    prepare_.data = idle_.data = this;
    handles_ += 2;
    if (options_.idle != Idle::kBlock) Deadlines::OfThread().AddPolling(1);
    if (options_.idle != Idle::kBlock) uv_prepare_start(&prepare_, [](uv_prepare_t* handle) { static_cast<UdpPort*>(handle->data)->OnPrepare(); });
    uv_unref(reinterpret_cast<uv_handle_t*>(&prepare_));
    uv_unref(reinterpret_cast<uv_handle_t*>(&idle_));
    napi_add_async_cleanup_hook(env_, [](napi_async_cleanup_hook_handle, void* port) { static_cast<UdpPort*>(port)->Close(); }, this, &cleanup_);
    if (options_.idle == Idle::kBusy) KeepAwake(true);
    PortsOfThread().push_back(this);
    started_ = true;
  }

  bool started() const { return started_; }
  bool closed() const { return closed_; }
  bool bound(int family) const { return sockets_[family == AF_INET6 ? 1 : 0].channel.open(); }

  // The descriptors are closed when this returns; the handles' memory is freed in a later pass of the loop.
  void Close() {
    if (closed_) return;
    closed_ = true;
    if (!started_) return;
    std::vector<UdpPort*>& ports = PortsOfThread();
    ports.erase(std::remove(ports.begin(), ports.end(), this), ports.end());
    if (options_.idle != Idle::kBlock) Deadlines::OfThread().AddPolling(-1);
    for (Socket& socket : sockets_) {
      if (!socket.channel.open()) continue;
      uv_poll_stop(&socket.poll);
      socket.channel.Close();
      CloseHandle(&socket.poll);
    }
    CloseHandle(&prepare_);
    CloseHandle(&idle_);
  }

  // The JavaScript object is gone.
  void Disown() {
    disowned_ = true;
    Close();
    if (handles_ == 0) delete this;
  }

  int BufferBytes(int family, int option) { return SocketFor(family).channel.BufferBytes(option); }

  // --- Sending ------------------------------------------------------------------------------------------------------

  // Sends the first `count` of `sends`. Returns how many are finished, sent or lost; the rest waits for the kernel.
  size_t Flush(size_t count) {
    last_flush_ns_ = options_.idle == Idle::kAdaptive ? MonotonicNs() : 0;
    size_t at = 0;
    while (at < count) {
      Socket* socket = nullptr;
      const int gathered = Gather(at, count, &socket);
      if (gathered == 0) return count;  // nothing left that can be sent
      const size_t first = gathered_[0].first;
      const int sent = SendGathered(*socket, gathered);
      if (sent < 0) return first;
      at = sent == 0 ? first : gathered_[sent - 1].first + gathered_[sent - 1].count;
    }
    return count;
  }

  int32_t Intern(size_t entry) {
    const int32_t number = table_.Intern(sources_[slots_[entry]]);
    NoteEvictions();
    return number;
  }

  void NoteReplica(size_t entry, size_t place) { table_.NoteReplica(place, sources_[slots_[entry]]); }

  // Datagrams that the kernel dropped at the sockets. False if it does not say.
  bool KernelDrops(double* drops) {
    *drops = 0;
    bool known = false;
    for (Socket& socket : sockets_) {
      uint32_t some;
      if (!socket.channel.open()) continue;
      if (!socket.channel.KernelDrops(&some)) return false;
      known = true;
      *drops += some;
    }
    return known;
  }

  // Whether each socket has the filter.
  bool filtered() const {
    bool all = !options_.filter.empty();
    for (const Socket& socket : sockets_) all = all && (!socket.channel.open() || socket.channel.filtered());
    return all;
  }

  int32_t Intern(const SocketAddress& address) {
    const int32_t number = table_.Intern(address);
    NoteEvictions();
    return number;
  }

 private:
  Socket& SocketFor(int family) { return sockets_[family == AF_INET6 ? 1 : 0]; }

  void NoteEvictions() { counters.at[counters.endpoints_evicted] = static_cast<double>(table_.evicted()); }

  template <typename Handle>
  void CloseHandle(Handle* handle) {
    uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) {
      if (closed->type == UV_POLL) static_cast<Socket*>(closed->data)->port->OnHandleClosed();
      else static_cast<UdpPort*>(closed->data)->OnHandleClosed();
    });
  }

  void OnHandleClosed() {
    if (--handles_ > 0) return;
    Napi::HandleScope scope(env_);
    napi_async_destroy(env_, async_context_);
    on_batch_.Reset();
    on_turn_.Reset();
    on_writable_.Reset();
    on_unreachable_.Reset();
    owner_.Reset();  // from now on the owner may be collected
    napi_remove_async_cleanup_hook(cleanup_);
    if (disowned_) delete this;
  }

  // --- Receiving ----------------------------------------------------------------------------------------------------

  void Listen(Socket& socket) {
    const int events = UV_READABLE | (socket.wants_writable ? UV_WRITABLE : 0);
    uv_poll_start(&socket.poll, events, [](uv_poll_t* handle, int status, int events) {
      auto* ready = static_cast<Socket*>(handle->data);
      ready->port->OnReady(*ready, status, events);
    });
  }

  void OnReady(Socket& socket, int status, int events) {
    if (status < 0) {
      // libuv stops a handle whose descriptor has an error; for UDP that is what an ICMP message left behind.
      counters.Add(counters.receive_errors, 1);
      Listen(socket);
      TakeUnreachable(socket);
      if (closed_) return;
    }
    if ((events & UV_WRITABLE) != 0) {
      socket.wants_writable = false;
      Listen(socket);
      Call(on_writable_);
      if (closed_) return;
    }
    int passed = 0;
    const uint64_t until = MonotonicNs() + kPassNs;
    for (int batch = 0; batch < kBatchesPerPass && passed < kDatagramsPerPass; batch++) {
      const int taken = Receive(socket);
      if (taken == 0) return;
      passed += entered_;
      if (entered_ > 0) Dispatch(entered_);
      // If one came alone, it was the only one; after several, more have arrived meanwhile.
      if (closed_ || taken == 1 || MonotonicNs() >= until) return;
    }
  }

  // Takes what ICMP messages left behind, and reports which replicas are not there.
  void TakeUnreachable(Socket& socket) {
    socket.channel.TakeError();
    uint32_t unreachable = 0;
    SocketAddress to;
    for (int taken = 0; taken < kUnreachablePerPass; taken++) {
      const int error = socket.channel.TakeUnreachable(&to);
      if (error == 0) break;
      const int32_t replica = error == ECONNREFUSED ? table_.ReplicaOf(to) : EndpointTable::kUnknown;
      if (replica >= 0 && replica < 32) unreachable |= uint32_t{1} << replica;
    }
    if (unreachable == 0) return;
    state[kUnreachable] = static_cast<int32_t>(unreachable);
    Call(on_unreachable_);
  }

  void OnPrepare() {
    // Otherwise they would hide other events.
    for (UdpPort* port : PortsOfThread()) {
      if (port->awake_) port->KeepAwake(false);
    }
    const bool may_sleep = Spin();
    if (!closed_ && (options_.idle == Idle::kBusy || !may_sleep)) KeepAwake(true);
    // A loop that does not sleep soon comes back here.
    Deadlines& deadlines = Deadlines::OfThread();
    if (uv_backend_timeout(loop_) != 0) deadlines.SetDescriptors();
    else if (const uint64_t now = MonotonicNs(); deadlines.earliest_ns() <= now) deadlines.FireDue(now);
  }

  // Polls until nothing has arrived for as long as the strategy says. False: come back without sleeping.
  bool Spin() {
    uint64_t now = MonotonicNs();
    const uint64_t entered = now;
    const bool busy = options_.idle == Idle::kBusy;
    if (!busy && (now - last_flush_ns_ >= options_.spin_ns || uv_backend_timeout(loop_) == 0 || !policy_.Allows())) return true;
    int polls = 0;
    int passed = 0;
    for (int batches = 0; batches < kBatchesPerPass && passed < kDatagramsPerPass;) {
      if (uv_backend_timeout(loop_) == 0) return true;  // something else is due
      // Serve all ports, or the others of this thread would wait until this one is done. A closing port leaves the
      // list.
      int received = 0;
      for (size_t i = 0; i < PortsOfThread().size(); i++) {
        received += PortsOfThread()[i]->Poll();
        if (closed_) return true;
      }
      if (received > 0) {
        batches++;
        passed += received;
        counters.Add(counters.spins_paid, 1);
        policy_.Paid();
        if (MonotonicNs() - entered >= kPassNs) return false;
        continue;
      }
      if (state[kTurnWanted] != 0) {
        RunTurns();
        if (closed_) return true;
      }
      const uint64_t before = MonotonicNs();
      if (Deadlines& deadlines = Deadlines::OfThread(); deadlines.earliest_ns() <= before) {
        deadlines.FireDue(before);
        if (closed_) return true;
      }
      if (busy ? before - entered >= kBusyPassNs : before - last_flush_ns_ >= options_.spin_ns) {
        counters.Add(counters.spins_wasted, 1);
        if (!busy) policy_.Wasted();
        return true;
      }
      // Any other process that wants this processor gets it now, perhaps the very one that is to answer. If many do,
      // the yield outlasts the spin, which is then wasted, and the policy sleeps from then on. With a core of its own
      // no other process wants it, and it need not yield again soon.
      if (++polls < quiet_polls_) continue;
      polls = 0;
      sched_yield();
      quiet_polls_ = busy && MonotonicNs() - before < kYieldAloneNs ? kQuietPolls : 1;
    }
    return false;
  }

  // Takes and passes on what waits in the port's sockets now. Returns the number of datagrams that were passed on.
  int Poll() {
    int passed = 0;
    for (Socket& socket : sockets_) {
      if (!socket.channel.open()) continue;
      const int taken = Receive(socket, socket.calm);
      socket.calm = taken == 0 && socket.gave_one;
      if (taken == 0) continue;
      socket.gave_one = taken == 1;
      if (entered_ == 0) continue;
      passed += entered_;
      Dispatch(entered_);
      if (closed_) break;
    }
    return passed;
  }

  // Ports that were started and not closed.
  static std::vector<UdpPort*>& PortsOfThread() {
    thread_local std::vector<UdpPort*> ports;
    return ports;
  }

  void KeepAwake(bool awake) {
    awake_ = awake;
    if (awake) uv_idle_start(&idle_, [](uv_idle_t*) {});
    else uv_idle_stop(&idle_);
  }

  // Takes what waits in one socket, or a single message of it. Returns the number of datagrams. `entered_` of them have
  // entries; the others were strangers' beyond their allowance, and are dropped here: the rest of a run then costs nothing
  // more.
  int Receive(Socket& socket, bool one = false) {
    entered_ = 0;
    const int received = one ? socket.channel.ReceiveOne(this->received.data()) : socket.channel.Receive(this->received.data());
    if (received < 0) {
      // The error is reported once; its cause stays in the error queue, which wakes the loop (OnReady).
      counters.Add(counters.receive_errors, 1);
      return 0;
    }
    double bytes = 0;
    size_t datagrams = 0;
    size_t dropped = 0;
    for (int slot = 0; slot < received; slot++) {
      const size_t whole = socket.channel.LengthOf(slot);
      const size_t segment = socket.channel.SegmentBytesOf(slot);
      const int32_t endpoint = table_.FindSender(socket.channel.SourceOf(slot));
      const size_t end = slot * kSlotBytes + whole;
      const size_t count = whole == 0 ? 1 : (whole + segment - 1) / segment;
      const size_t passed = endpoint == EndpointTable::kUnknown ? strangers_.Take(count) : count;
      bytes += static_cast<double>(whole);
      dropped += count - passed;
      size_t at = slot * kSlotBytes;
      for (size_t i = 0; i < passed; i++) {
        const size_t length = segment < end - at ? segment : end - at;
        if (datagrams == kReceivedMax) {
          counters.Add(counters.receive_errors, 1);  // the rest of a run is lost, as on the network
          break;
        }
        int32_t* entry = &entries[datagrams * kEntryFields];
        entry[0] = static_cast<int32_t>(at);
        entry[1] = static_cast<int32_t>(length);
        entry[2] = endpoint;
        slots_[datagrams++] = slot;
        at += length;
      }
    }
    sources_ = &socket.channel.SourceOf(0);
    entered_ = static_cast<int>(datagrams);
    counters.Add(counters.datagrams_received, static_cast<double>(datagrams + dropped));
    counters.Add(counters.strangers_dropped, static_cast<double>(dropped));
    counters.Add(counters.bytes_received, bytes);
    return static_cast<int>(datagrams + dropped);
  }

  void Dispatch(int count) {
    state[kReceived] = count;
    state[kHandled] = 0;
    // JavaScript counts the entries that it has begun to handle, including the end of the batch. A receiver that throws
    // costs its own datagram; the rest follows.
    for (int32_t handled = -1; !closed_ && handled < state[kHandled] && state[kHandled] <= count;) {
      handled = state[kHandled];
      Call(on_batch_);
    }
    RunTurns();
  }

  // What the application sent in callbacks and promises that the batch settled leaves at once.
  void RunTurns() {
    for (int turn = 0; turn < kTurnsPerBatch && !closed_ && state[kTurnWanted] != 0; turn++) {
      state[kTurnWanted] = 0;
      Call(on_turn_);
    }
  }

  void Call(const Napi::FunctionReference& callback) {
    napi_handle_scope scope;
    if (napi_open_handle_scope(env_, &scope) != napi_ok) return;
    state[kDispatching] = 1;
    CallBack(env_, async_context_, owner_.Value(), callback.Value());
    state[kDispatching] = 0;
    napi_close_handle_scope(env_, scope);
  }

  // --- Sending ------------------------------------------------------------------------------------------------------

  // Makes at most kSendBatch messages of the entries from `at` on that go through one socket, and records them in
  // gathered_. Consecutive entries to one address with one length, except for a shorter last one, form one message.
  // Entries that no socket can send are lost here.
  int Gather(size_t at, size_t count, Socket** through) {
    int gathered = 0;
    size_t iovecs = 0;
    for (; at < count && iovecs < send_iovecs_.size(); at++) {
      const int32_t* send = &sends[at * kSendFields];
      const size_t offset = static_cast<size_t>(send[0]);
      const size_t length = static_cast<size_t>(send[1]);
      const SocketAddress* to = table_.AddressOf(send[2]);
      Socket* socket = to == nullptr ? nullptr : &SocketFor(to->family());
      const bool possible = socket != nullptr && socket->channel.open() && Fits(transmit.length(), offset, length);
      // Nothing is skipped after the first: entries gathered again after a part of them left must not be counted twice.
      if (gathered > 0 && (!possible || socket != *through)) break;
      if (!possible) {
        counters.Add(to == nullptr ? counters.endpoint_unknown : counters.send_errors, 1);
        continue;
      }
      *through = socket;
      iovec* const piece = &send_iovecs_[iovecs];
      *piece = {transmit.data() + offset, length};
      if (gathered > 0 && segments_ && length <= options_.datagram_bytes && gathered_[gathered - 1].Takes(send[2], length)) {
        Run& run = gathered_[gathered - 1];
        run.Add(length);
        msghdr& header = send_headers_[gathered - 1].msg_hdr;
        header.msg_iovlen++;
        if (run.count == 2) send_controls_[gathered - 1].Attach(&header, static_cast<uint16_t>(run.segment_bytes));
        iovecs++;
        continue;
      }
      if (gathered == kSendBatch) break;
      mmsghdr& header = send_headers_[gathered];
      header = {};
      header.msg_hdr.msg_name = const_cast<SocketAddress*>(to);
      header.msg_hdr.msg_namelen = to->length();
      header.msg_hdr.msg_iov = piece;
      header.msg_hdr.msg_iovlen = 1;
      gathered_[gathered++] = Run{at, send[2], length};
      iovecs++;
    }
    return gathered;
  }

  // Returns how many of the gathered messages are finished, -1 if the kernel has no room for the first, 0 if they must
  // be gathered again.
  int SendGathered(Socket& socket, int gathered) {
    int sent = socket.channel.Send(send_headers_.data(), gathered);
    // An error that an earlier datagram left at the socket is reported once, and this one was not sent.
    for (int tries = 1; tries < kSendTries && sent < 0 && sent != -EAGAIN && sent != -EWOULDBLOCK && sent != -ENOBUFS; tries++) {
      sent = socket.channel.Send(send_headers_.data(), gathered);
    }
    if (sent == -EAGAIN || sent == -EWOULDBLOCK) {
      if (!socket.wants_writable) {
        socket.wants_writable = true;
        Listen(socket);
      }
      return -1;
    }
    if (gathered_[0].count > 1 && (sent == -EINVAL || sent == -EIO || sent == -EOPNOTSUPP || sent == -EMSGSIZE)) {
      // This kernel, device or path does not cut, for example one that takes shorter datagrams only.
      segments_ = false;
      return 0;
    }
    if (sent < 0) {
      // Lost as on the network. ENOBUFS too: a queue behind the socket is full while the socket itself is writable, so
      // waiting would be polling.
      counters.Add(counters.send_errors, static_cast<double>(gathered_[0].count));
      state[kSendErrno] = -sent;
      return 1;
    }
    state[kSendErrno] = 0;
    for (int i = 0; i < sent; i++) {
      const Run& run = gathered_[i];
      counters.Add(counters.bytes_sent, static_cast<double>(run.bytes));
      counters.Add(counters.datagrams_sent, static_cast<double>(run.count));
      if (run.count > 1) counters.Add(counters.datagrams_segmented, static_cast<double>(run.count));
      else if (run.bytes > options_.datagram_bytes) counters.Add(counters.datagrams_fragmented, 1);
    }
    return sent;
  }

  std::array<Socket, 2> sockets_;  // IPv4, IPv6
  const SocketAddress* sources_ = nullptr;
  std::array<int, kReceivedMax> slots_;  // of each entry
  int entered_ = 0;                      // entries of the last Receive
  std::array<mmsghdr, kSendBatch> send_headers_;
  std::array<SegmentControl, kSendBatch> send_controls_;
  std::array<iovec, kSendPieces> send_iovecs_;
  std::array<Run, kSendBatch> gathered_;
  // False once the kernel refused to cut a message into datagrams.
  bool segments_ = true;

  SpinPolicy policy_;
  int quiet_polls_ = 1;
  uint64_t last_flush_ns_ = 0;

  uv_loop_t* loop_ = nullptr;
  uv_prepare_t prepare_;
  uv_idle_t idle_;
  int handles_ = 0;
  bool awake_ = false;
  bool started_ = false;
  bool closed_ = false;
  bool disowned_ = false;

  Napi::ObjectReference owner_;
  Napi::FunctionReference on_batch_;
  Napi::FunctionReference on_turn_;
  Napi::FunctionReference on_writable_;
  Napi::FunctionReference on_unreachable_;
  napi_async_context async_context_ = nullptr;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
};

}  // namespace jitpaxos
