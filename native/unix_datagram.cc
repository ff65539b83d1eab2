// Datagrams over a Unix socket, which Node cannot send: ptp4l's management socket is one.
//
// The rule: nothing here waits. `receive` returns −1 if nothing has arrived, and the caller decides when to look again.
// The socket is connected, so the kernel delivers what the daemon at `remote` sent and nothing else.

#include <errno.h>
#include <napi.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "arguments.h"
#include "capabilities.h"
#include "system_errors.h"

namespace jitpaxos {

namespace {

bool SetPath(sockaddr_un* address, const std::string& path) {
  std::memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address->sun_path || path.find('\0') != std::string::npos) return false;
  std::memcpy(address->sun_path, path.data(), path.size());
  return true;
}

// new UnixDatagram(local, remote): binds `local`, which must not exist; with an empty `local` the kernel picks a name
// that is in no file system (unix(7), autobind). Connects to `remote`. Throws with `errno`.
class UnixDatagram : public Napi::ObjectWrap<UnixDatagram> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "UnixDatagram",
                       {InstanceMethod<&UnixDatagram::Send>("send"), InstanceMethod<&UnixDatagram::Receive>("receive"),
                        InstanceMethod<&UnixDatagram::CloseFromJs>("close")});
  }

  explicit UnixDatagram(const Napi::CallbackInfo& info) : Napi::ObjectWrap<UnixDatagram>(info) {
    if (info.Length() < 2 || !info[0].IsString() || !info[1].IsString()) {
      ThrowInvalidArgument(info.Env(), "UnixDatagram: local and remote must be paths");
      return;
    }
    Open(info.Env(), info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value());
  }

  ~UnixDatagram() override { Close(); }

 private:
  void Open(Napi::Env env, const std::string& local, const std::string& remote) {
    sockaddr_un local_address, remote_address;
    if ((!local.empty() && !SetPath(&local_address, local)) || !SetPath(&remote_address, remote)) return ThrowErrno(env, ENAMETOOLONG, "bind");
    fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) return ThrowErrno(env, errno, "socket");
    local_address.sun_family = AF_UNIX;
    const socklen_t local_length = local.empty() ? sizeof(sa_family_t) : sizeof local_address;
    if (bind(fd_, reinterpret_cast<sockaddr*>(&local_address), local_length) != 0) return Fail(env, "bind");
    local_ = local;
    // The daemon answers to the socket's name, perhaps as another user.
    if (!local.empty() && chmod(local.c_str(), 0666) != 0) return Fail(env, "chmod");
    if (connect(fd_, reinterpret_cast<sockaddr*>(&remote_address), sizeof remote_address) != 0) return Fail(env, "connect");
  }

  void Fail(Napi::Env env, const char* syscall) {
    const int error_number = errno;
    Close();
    ThrowErrno(env, error_number, syscall);
  }

  // send(bytes)
  void Send(const Napi::CallbackInfo& info) {
    ByteSpan bytes;
    if (!ReadBytes(info.Env(), info[0], &bytes)) return ThrowInvalidArgument(info.Env(), "UnixDatagram: bytes must be a Uint8Array");
    if (send(fd_, bytes.data, bytes.length, MSG_NOSIGNAL) < 0) ThrowErrno(info.Env(), errno, "send");
  }

  // receive(bytes): the length of the waiting datagram, cut to the array; −1 if there was none.
  Napi::Value Receive(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    ByteSpan bytes;
    if (!ReadBytes(env, info[0], &bytes)) {
      ThrowInvalidArgument(env, "UnixDatagram: bytes must be a Uint8Array");
      return env.Undefined();
    }
    const ssize_t length = recv(fd_, bytes.data, bytes.length, 0);
    if (length < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) ThrowErrno(env, errno, "recv");
    return Napi::Number::New(env, static_cast<double>(length));
  }

  void CloseFromJs(const Napi::CallbackInfo&) { Close(); }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
    if (!local_.empty()) unlink(local_.c_str());
    local_.clear();
  }

  int fd_ = -1;
  std::string local_;
};

}  // namespace

void RegisterUnixDatagram(Napi::Env env, Napi::Object exports) { exports.Set("UnixDatagram", UnixDatagram::Define(env)); }

}  // namespace jitpaxos
