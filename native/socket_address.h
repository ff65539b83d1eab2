// An IPv4 or IPv6 address with its port, comparable byte by byte.
//
// The rule: whatever does not distinguish two peers is zero (the bytes after an IPv4 address, the flow label), so equal
// peers have equal bytes. Source: ip(7), ipv6(7).
#pragma once

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

namespace jitpaxos {

struct SocketAddress {
  union {
    sockaddr_in6 v6 = {};  // the longest one, without padding
    sockaddr_in v4;
    sockaddr any;
  };

  sa_family_t family() const { return any.sa_family; }
  socklen_t length() const { return family() == AF_INET6 ? sizeof v6 : sizeof v4; }
  uint16_t port() const { return ntohs(family() == AF_INET6 ? v6.sin6_port : v4.sin_port); }

  bool operator==(const SocketAddress& other) const { return std::memcmp(&v6, &other.v6, sizeof v6) == 0; }

  // Makes bytes from the kernel comparable.
  void Normalize() {
    if (family() == AF_INET6) v6.sin6_flowinfo = 0;
  }

  // Numeric host (an IPv6 one may have a scope), never a name. False if it is not one.
  bool Parse(const std::string& host, uint16_t port) {
    addrinfo hints = {};
    if (host.find('\0') != std::string::npos) return false;  // C would read a shorter host
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_DGRAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return false;
    const bool fits = found->ai_addrlen <= sizeof(v6);
    v6 = {};
    if (fits) std::memcpy(&v6, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return fits;
  }
};

}  // namespace jitpaxos
