// One non-blocking UDP socket: many datagrams per system call, nothing allocated. Knows nothing of Node.
//
// A run of datagrams of one length to one address crosses the kernel as one large datagram (segmentation offload), in
// both directions, and is cut or assembled at the edge: a packet costs the kernel several times as much as its bytes.
//
// Source: recvmmsg(2), recvmsg(2), sendmmsg(2), udp(7) for UDP_SEGMENT and UDP_GRO.
#pragma once

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "socket_address.h"

namespace jitpaxos {

// Datagrams taken at once. The others wait in the socket's buffer.
constexpr int kReceiveSlots = 32;
// Room for the longest possible datagram (65,527 bytes, IPv6). Not a power of two: slots that begin a multiple of 4 KiB
// apart would share the same few cache lines.
constexpr size_t kSlotBytes = 65536 + 1536;
// Messages passed to the kernel at once, each a datagram or a run of them.
constexpr int kSendBatch = 64;
// Datagrams in a run: the kernel's UDP_MAX_SEGMENTS, before it was raised; and bytes, less than a UDP length can
// express.
constexpr int kRunMax = 64;
constexpr size_t kRunBytesMax = 65000;
// Datagrams in all slots. If a later kernel makes longer runs, the rest of them is lost.
constexpr size_t kReceivedMax = kReceiveSlots * kRunMax;

// Tells in a message's control data how its bytes are to be cut.
class SegmentControl {
 public:
  void Attach(msghdr* header, uint16_t segment_bytes) {
    header->msg_control = data_;
    header->msg_controllen = sizeof data_;
    cmsghdr* control = CMSG_FIRSTHDR(header);
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof segment_bytes);
    std::memcpy(CMSG_DATA(control), &segment_bytes, sizeof segment_bytes);
  }

 private:
  alignas(cmsghdr) char data_[CMSG_SPACE(sizeof(uint16_t))];
};

class UdpChannel {
 public:
  UdpChannel() = default;
  UdpChannel(const UdpChannel&) = delete;
  UdpChannel& operator=(const UdpChannel&) = delete;
  ~UdpChannel() { Close(); }

  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }

  // Binds to `local`. Returns 0, or errno of the call that `*failed` names; nothing then stays open.
  int Open(const SocketAddress& local, int receive_buffer_bytes, int send_buffer_bytes, const std::vector<sock_filter>& filter, const char** failed) {
    fd_ = socket(local.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *failed = "socket";
    if (fd_ < 0) return errno;
    const int on = 1;
    *failed = "setsockopt";
    if (local.family() == AF_INET6 && setsockopt(fd_, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) return CloseWithErrno();
    // ICMP messages are kept for TakeUnreachable, with the address that they are about. Without this, a socket that is
    // not connected does not receive them.
    setsockopt(fd_, local.family() == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP, local.family() == AF_INET6 ? IPV6_RECVERR : IP_RECVERR, &on, sizeof on);
    // The kernel silently limits these; BufferBytes tells the result.
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes, sizeof send_buffer_bytes);
    // A kernel that does not know it delivers datagrams one by one.
    setsockopt(fd_, SOL_UDP, UDP_GRO, &on, sizeof on);
    if (!filter.empty()) {
      // Before `bind`, so that nothing passes by it. A kernel that refuses it delivers everything.
      const sock_fprog program = {static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
      filtered_ = setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
    }
    *failed = "bind";
    if (bind(fd_, &local.any, local.length()) != 0) return CloseWithErrno();
    return 0;
  }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  SocketAddress LocalAddress() const {
    SocketAddress address;
    socklen_t length = sizeof address;
    getsockname(fd_, &address.any, &length);
    return address;
  }

  // `option` is SO_RCVBUF or SO_SNDBUF.
  int BufferBytes(int option) const {
    int bytes = 0;
    socklen_t length = sizeof bytes;
    getsockopt(fd_, SOL_SOCKET, option, &bytes, &length);
    return bytes;
  }

  bool filtered() const { return filtered_; }

  // Datagrams that the kernel dropped at this socket: for want of room, a wrong UDP checksum, or by the filter. It does
  // not tell these apart. False if this kernel does not say.
  bool KernelDrops(uint32_t* drops) const {
    uint32_t values[SK_MEMINFO_VARS] = {};
    socklen_t length = sizeof values;
    if (getsockopt(fd_, SOL_SOCKET, SO_MEMINFO, values, &length) != 0 || length < (SK_MEMINFO_DROPS + 1) * sizeof *values) return false;
    *drops = values[SK_MEMINFO_DROPS];
    return true;
  }

  // Takes and clears the error that the kernel keeps for the socket, such as one from an ICMP message.
  int TakeError() const {
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
  }

  // Takes one message off the error queue (ip(7), IP_RECVERR). Returns 0 if there is none, or its errno: ECONNREFUSED
  // if the host of `*to` reports that no process listens there.
  int TakeUnreachable(SocketAddress* to) const {
    alignas(cmsghdr) uint8_t control[512];
    msghdr message = {};
    message.msg_name = &to->v6;
    message.msg_namelen = sizeof to->v6;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    to->v6 = {};
    if (recvmsg(fd_, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return 0;
    to->Normalize();
    int error = EPROTO;
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      const bool is4 = header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_RECVERR;
      const bool is6 = header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_RECVERR;
      if ((!is4 && !is6) || header->cmsg_len < CMSG_LEN(sizeof(sock_extended_err))) continue;
      sock_extended_err extended;
      std::memcpy(&extended, CMSG_DATA(header), sizeof extended);
      if (extended.ee_origin == SO_EE_ORIGIN_ICMP || extended.ee_origin == SO_EE_ORIGIN_ICMP6) error = static_cast<int>(extended.ee_errno);
    }
    return error;
  }

  // Fills slots of `slab` from the first on. Returns the number of datagrams, or -errno; 0 if none is waiting.
  int Receive(uint8_t* slab) {
    for (int i = 0; i < kReceiveSlots; i++) Prepare(slab, i);
    int received;
    do {
      received = recvmmsg(fd_, headers_.data(), kReceiveSlots, MSG_DONTWAIT, nullptr);
    } while (received < 0 && errno == EINTR);
    if (received < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    for (int i = 0; i < received; i++) sources_[i].Normalize();
    return received;
  }

  // The same for one slot: for a datagram that comes alone, it saves the search for a second one.
  int ReceiveOne(uint8_t* slab) {
    Prepare(slab, 0);
    ssize_t length;
    do {
      length = recvmsg(fd_, &headers_[0].msg_hdr, MSG_DONTWAIT);
    } while (length < 0 && errno == EINTR);
    if (length < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    headers_[0].msg_len = static_cast<unsigned>(length);
    sources_[0].Normalize();
    return 1;
  }

  // Of the last Receive.
  size_t LengthOf(int slot) const { return headers_[slot].msg_len; }

  // Length of each datagram in the slot but the last, which may be shorter; the slot's length if it holds one.
  size_t SegmentBytesOf(int slot) {
    msghdr* header = &headers_[slot].msg_hdr;
    for (cmsghdr* control = CMSG_FIRSTHDR(header); control != nullptr; control = CMSG_NXTHDR(header, control)) {
      if (control->cmsg_level != SOL_UDP || control->cmsg_type != UDP_GRO || control->cmsg_len < CMSG_LEN(sizeof(int))) continue;
      int bytes;
      std::memcpy(&bytes, CMSG_DATA(control), sizeof bytes);
      if (bytes > 0) return static_cast<size_t>(bytes);
    }
    return LengthOf(slot);
  }

  const SocketAddress& SourceOf(int slot) const { return sources_[slot]; }

  // Returns how many of them left, at least one, or -errno of the first.
  int Send(mmsghdr* messages, int count) const {
    for (;;) {
      int sent = 1;
      const msghdr& first = messages->msg_hdr;
      if (count > 1) {
        sent = sendmmsg(fd_, messages, static_cast<unsigned>(count), MSG_DONTWAIT);
      } else if (first.msg_iovlen > 1) {
        if (sendmsg(fd_, &first, MSG_DONTWAIT) < 0) sent = -1;
      } else if (sendto(fd_, first.msg_iov->iov_base, first.msg_iov->iov_len, MSG_DONTWAIT, static_cast<const sockaddr*>(first.msg_name), first.msg_namelen) < 0) {
        sent = -1;
      }
      if (sent > 0) return sent;
      if (errno != EINTR) return -errno;
    }
  }

 private:
  void Prepare(uint8_t* slab, int slot) {
    iovecs_[slot] = {slab + slot * kSlotBytes, kSlotBytes};
    headers_[slot] = {};
    msghdr& header = headers_[slot].msg_hdr;
    header.msg_name = &sources_[slot];
    header.msg_namelen = sizeof sources_[slot];
    header.msg_iov = &iovecs_[slot];
    header.msg_iovlen = 1;
    header.msg_control = controls_[slot].data;
    header.msg_controllen = sizeof controls_[slot].data;
  }

  int CloseWithErrno() {
    const int error = errno;
    Close();
    return error;
  }

  int fd_ = -1;
  bool filtered_ = false;
  std::array<mmsghdr, kReceiveSlots> headers_ = {};
  std::array<iovec, kReceiveSlots> iovecs_ = {};
  struct Control {
    alignas(cmsghdr) char data[CMSG_SPACE(sizeof(int))];
  };
  std::array<Control, kReceiveSlots> controls_ = {};
  std::array<SocketAddress, kReceiveSlots> sources_;
};

}  // namespace jitpaxos
