// The JavaScript side of a UDP port (udp_port.h): checks its options, hands out its arrays, takes its calls.

#include "udp_port.h"

#include <cstring>
#include <string>

#include "capabilities.h"

namespace jitpaxos {

namespace {

// new UdpPort(options): see NativeUdpPort in src/native/udp-port.ts.
class UdpPortObject : public Napi::ObjectWrap<UdpPortObject> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "UdpPort",
                       {
                           InstanceMethod<&UdpPortObject::Start>("start"),
                           InstanceMethod<&UdpPortObject::Bind>("bind"),
                           InstanceMethod<&UdpPortObject::BufferBytes>("bufferBytes"),
                           InstanceMethod<&UdpPortObject::EndpointOf>("endpointOf"),
                           InstanceMethod<&UdpPortObject::Readdress>("readdress"),
                           InstanceMethod<&UdpPortObject::NoteReplica>("noteReplica"),
                           InstanceMethod<&UdpPortObject::KernelDrops>("kernelDrops"),
                           InstanceMethod<&UdpPortObject::Filtered>("filtered"),
                           InstanceMethod<&UdpPortObject::Close>("close"),
                           Hot("flush", Flush),
                           Hot("intern", Intern),
                       });
  }

  explicit UdpPortObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<UdpPortObject>(info) {
    Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsObject()) {
      ThrowInvalidArgument(env, "UdpPort: options must be an object");
      return;
    }
    Napi::Object given = info[0].As<Napi::Object>();
    PortOptions options;
    if (!ReadOptions(given, &options)) {
      ThrowInvalidArgument(env, "UdpPort: an option is missing or of the wrong type");
      return;
    }
    std::vector<std::string> names = Strings(given.Get("counters"));
    port_ = new UdpPort(env, std::move(options), names.size());
    if (!port_->valid()) {
      ThrowInvalidArgument(env, "UdpPort: there is not enough memory for the slabs");
      return;
    }
    if (!MapCounters(names, &port_->counters)) {
      ThrowInvalidArgument(env, "UdpPort: a counter is missing");
      return;
    }
    port_->counters.at = port_->counter_values.data();
    Napi::Object self = info.This().As<Napi::Object>();
    self.Set("received", port_->received.Expose(env));
    self.Set("entries", port_->entries.Expose(env));
    self.Set("transmit", port_->transmit.Expose(env));
    self.Set("sends", port_->sends.Expose(env));
    self.Set("state", port_->state.Expose(env));
    self.Set("counters", port_->counter_values.Expose(env));
  }

  ~UdpPortObject() override {
    if (port_ != nullptr) port_->Disown();
  }

 private:
  using Method = napi_value (*)(napi_env, napi_callback_info);

  // A method without node-addon-api's wrapping. V8 checks that it is called on a UdpPort.
  static Napi::ClassPropertyDescriptor<UdpPortObject> Hot(const char* name, Method method) {
    napi_property_descriptor descriptor = {};
    descriptor.utf8name = name;
    descriptor.method = method;
    return descriptor;
  }

  static UdpPort* Arguments(napi_env env, napi_callback_info info, napi_value* argument) {
    size_t count = 1;
    napi_value self;
    void* object = nullptr;
    napi_get_cb_info(env, info, &count, argument, &self, nullptr);
    napi_unwrap(env, self, &object);
    return object == nullptr ? nullptr : static_cast<UdpPortObject*>(object)->port_;
  }

  // flush(count)
  static napi_value Flush(napi_env env, napi_callback_info info) {
    napi_value argument, result;
    size_t count;
    UdpPort* port = Arguments(env, info, &argument);
    if (port == nullptr || !ReadIndex(env, argument, &count) || count > port->options_.sends) {
      ThrowOutOfBounds(env, "UdpPort: count must be a whole number from 0 on and within `sends`");
      return nullptr;
    }
    napi_create_uint32(env, static_cast<uint32_t>(port->closed() ? count : port->Flush(count)), &result);
    return result;
  }

  // intern(entry)
  static napi_value Intern(napi_env env, napi_callback_info info) {
    napi_value argument, result;
    size_t entry;
    UdpPort* port = Arguments(env, info, &argument);
    if (port == nullptr || !ReadIndex(env, argument, &entry) || entry >= static_cast<size_t>(port->state[kReceived])) {
      ThrowOutOfBounds(env, "UdpPort: entry must be one of the batch");
      return nullptr;
    }
    napi_create_int32(env, port->Intern(entry), &result);
    return result;
  }

  // start(onBatch, onTurn, onWritable, onUnreachable). They are not options of the constructor: held from there, they
  // would keep a port alive that is never started, and themselves with it, forever.
  void Start(const Napi::CallbackInfo& info) {
    if (info.Length() < 4 || !info[0].IsFunction() || !info[1].IsFunction() || !info[2].IsFunction() || !info[3].IsFunction() || port_->started() || port_->closed()) {
      ThrowInvalidArgument(info.Env(), "UdpPort: start takes four functions, once");
      return;
    }
    port_->Start(info.This().As<Napi::Object>(), info[0].As<Napi::Function>(), info[1].As<Napi::Function>(), info[2].As<Napi::Function>(), info[3].As<Napi::Function>());
  }

  // bind(host, port, receiveBufferBytes, sendBufferBytes): the port that was bound
  Napi::Value Bind(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    SocketAddress local;
    size_t receive_bytes, send_bytes;
    if (!ReadAddress(info, 0, &local) || !ReadUpTo(env, info[2], INT32_MAX, &receive_bytes) || !ReadUpTo(env, info[3], INT32_MAX, &send_bytes) || !port_->started() ||
        port_->closed()) {
      ThrowInvalidArgument(env, "UdpPort: bind takes a numeric host, a port and two sizes of buffers, after start and before close");
      return env.Undefined();
    }
    if (port_->bound(local.family())) {
      ThrowInvalidArgument(env, "UdpPort: a socket of this family is bound already; make another port for a second one");
      return env.Undefined();
    }
    const char* failed = "";
    uint16_t bound = 0;
    const int error = port_->Bind(local, static_cast<int>(receive_bytes), static_cast<int>(send_bytes), &failed, &bound);
    if (error == 0) return Napi::Number::New(env, bound);
    Napi::Error thrown = Napi::Error::New(env, std::string(failed) + ": " + std::strerror(error));
    thrown.Value().Set("errno", Napi::Number::New(env, -error));
    thrown.Value().Set("syscall", Napi::String::New(env, failed));
    thrown.ThrowAsJavaScriptException();
    return env.Undefined();
  }

  // bufferBytes(family, direction)
  Napi::Value BufferBytes(const Napi::CallbackInfo& info) {
    size_t version;
    const std::string direction = info[1].IsString() ? info[1].As<Napi::String>().Utf8Value() : std::string();
    if (!ReadIndex(info.Env(), info[0], &version) || (version != 4 && version != 6) || (direction != "send" && direction != "receive")) {
      ThrowInvalidArgument(info.Env(), "UdpPort: bufferBytes takes 4 or 6, and \"send\" or \"receive\"");
      return info.Env().Undefined();
    }
    const int family = version == 6 ? AF_INET6 : AF_INET;
    const int option = direction == "send" ? SO_SNDBUF : SO_RCVBUF;
    return Napi::Number::New(info.Env(), port_->BufferBytes(family, option));
  }

  // endpointOf(host, port)
  Napi::Value EndpointOf(const Napi::CallbackInfo& info) {
    SocketAddress address;
    if (!ReadAddress(info, 0, &address)) {
      ThrowInvalidArgument(info.Env(), "UdpPort: endpointOf takes a numeric host and a port");
      return info.Env().Undefined();
    }
    return Napi::Number::New(info.Env(), port_->Intern(address));
  }

  // readdress(place, host, port)
  void Readdress(const Napi::CallbackInfo& info) {
    size_t place;
    SocketAddress address;
    const bool nowhere = info[1].IsString() && info[1].As<Napi::String>().Utf8Value().empty();
    if (!ReadIndex(info.Env(), info[0], &place) || place >= port_->options_.places.size() || (!nowhere && !ReadAddress(info, 1, &address))) {
      ThrowInvalidArgument(info.Env(), "UdpPort: readdress takes the number of a place, a numeric host or an empty one, and a port");
      return;
    }
    port_->table_.SetPlace(place, address);
  }

  // noteReplica(entry, place)
  void NoteReplica(const Napi::CallbackInfo& info) {
    size_t entry, place;
    if (!ReadIndex(info.Env(), info[0], &entry) || entry >= static_cast<size_t>(port_->state[kReceived]) || !ReadIndex(info.Env(), info[1], &place) ||
        place >= port_->options_.places.size()) {
      ThrowInvalidArgument(info.Env(), "UdpPort: noteReplica takes an entry of the batch and the number of a place");
      return;
    }
    port_->NoteReplica(entry, place);
  }

  // kernelDrops(): -1 if the kernel does not say
  Napi::Value KernelDrops(const Napi::CallbackInfo& info) {
    double drops;
    return Napi::Number::New(info.Env(), port_->KernelDrops(&drops) ? drops : -1);
  }

  Napi::Value Filtered(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), port_->filtered()); }

  void Close(const Napi::CallbackInfo&) { port_->Close(); }

  // A host and a port, from argument `at` on. Arguments that are missing are undefined.
  static bool ReadAddress(const Napi::CallbackInfo& info, size_t at, SocketAddress* address) {
    size_t port;
    return info[at].IsString() && ReadUpTo(info.Env(), info[at + 1], UINT16_MAX, &port) &&
           address->Parse(info[at].As<Napi::String>(), static_cast<uint16_t>(port));
  }

  static std::vector<std::string> Strings(Napi::Value value) {
    std::vector<std::string> strings;
    if (!value.IsArray()) return strings;
    Napi::Array array = value.As<Napi::Array>();
    // Converting a value that is not a string would run code of the caller's, which may throw. It counts as empty,
    // which names nothing.
    for (uint32_t i = 0; i < array.Length(); i++) strings.push_back(array.Get(i).IsString() ? array.Get(i).As<Napi::String>().Utf8Value() : std::string());
    return strings;
  }

  static bool ReadOptions(Napi::Object given, PortOptions* options) {
    std::vector<std::string> hosts = Strings(given.Get("hosts"));
    Napi::Value ports = given.Get("ports");
    if (!ports.IsArray() || ports.As<Napi::Array>().Length() != hosts.size()) return false;
    for (uint32_t i = 0; i < hosts.size(); i++) {
      SocketAddress address;
      Napi::Value port = ports.As<Napi::Array>().Get(i);
      if (!given.Get("hosts").As<Napi::Array>().Get(i).IsString()) return false;
      // No host: the replica has no address yet.
      size_t number;
      if (!ReadUpTo(given.Env(), port, UINT16_MAX, &number) || (!hosts[i].empty() && !address.Parse(hosts[i], static_cast<uint16_t>(number)))) return false;
      options->places.push_back(address);
    }
    if (!ReadUpTo(given.Env(), given.Get("replicas"), hosts.size(), &options->replicas)) return false;
    auto number = [&given](const char* name) {
      size_t value;
      return ReadIndex(given.Env(), given.Get(name), &value) ? static_cast<int64_t>(value) : int64_t{-1};
    };
    const int64_t endpoints = number("endpoints"), transmit = number("transmitBytes"), sends = number("sends");
    const int64_t datagram = number("datagramBytes"), idle = number("idle"), spin_ns = number("spinNs");
    const int64_t strangers = number("strangersAtOnce"), strangers_per_second = number("strangersPerSecond");
    if (endpoints < 1 || endpoints > 65536 || (endpoints & (endpoints - 1)) != 0) return false;
    if (strangers < 0 || strangers > INT32_MAX || strangers_per_second < 0 || strangers_per_second > INT32_MAX) return false;
    if (transmit < 1 || transmit > INT32_MAX || sends < 1 || sends > 65536 || datagram < 1 || idle < 0 || idle > 2 || spin_ns < 0) return false;
    if (Napi::Value filter = given.Get("filter"); !filter.IsUndefined()) {
      ByteSpan bytes;
      if (!ReadBytes(given.Env(), filter, &bytes) || bytes.length == 0 || bytes.length % sizeof(sock_filter) != 0 || bytes.length / sizeof(sock_filter) > BPF_MAXINSNS)
        return false;
      options->filter.resize(bytes.length / sizeof(sock_filter));
      std::memcpy(options->filter.data(), bytes.data, bytes.length);
    }
    options->endpoints = static_cast<int32_t>(endpoints);
    options->transmit_bytes = static_cast<size_t>(transmit);
    options->sends = static_cast<size_t>(sends);
    options->datagram_bytes = static_cast<size_t>(datagram);
    options->strangers_at_once = static_cast<uint64_t>(strangers);
    options->strangers_per_second = static_cast<uint64_t>(strangers_per_second);
    options->idle = static_cast<Idle>(idle);
    options->spin_ns = static_cast<uint64_t>(spin_ns);
    return true;
  }

  static bool MapCounters(const std::vector<std::string>& names, Counters* counters) {
    bool complete = true;
    auto find = [&](const char* name) {
      for (size_t i = 0; i < names.size(); i++) {
        if (names[i] == name) return i;
      }
      complete = false;
      return size_t{0};
    };
    counters->datagrams_received = find("datagrams_received");
    counters->bytes_received = find("bytes_received");
    counters->datagrams_sent = find("datagrams_sent");
    counters->bytes_sent = find("bytes_sent");
    counters->datagrams_fragmented = find("datagrams_fragmented");
    counters->datagrams_segmented = find("datagrams_segmented");
    counters->send_errors = find("send_errors");
    counters->receive_errors = find("receive_errors");
    counters->endpoint_unknown = find("endpoint_unknown");
    counters->endpoints_evicted = find("endpoints_evicted");
    counters->strangers_dropped = find("strangers_dropped");
    counters->spins_paid = find("spins_paid");
    counters->spins_wasted = find("spins_wasted");
    return complete;
  }

  UdpPort* port_ = nullptr;
};

}  // namespace

void RegisterUdp(Napi::Env env, Napi::Object exports) { exports.Set("UdpPort", UdpPortObject::Define(env)); }

}  // namespace jitpaxos
