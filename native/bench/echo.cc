// The floor that `jitpaxos bench compare` measures against: UDP echo servers and a closed-loop client of the shape of
// the cluster's fast path, without protocol, checks or checksums. No part of the addon; the bench compiles it when it
// needs it.
//
//   echo server --wait block|spin --bind A --sockets S --first N SIZES
//     Binds S sockets of the address A (block: one), prints `ready {"ports":[…]}`, answers until its stdin ends. They are servers
//     N, N+1, …; server 0 answers every message with --answer bytes, the others with --other-answer, as the primary alone
//     answers with the result.
//   echo client --wait block|spin --bind A --server A --ports P,… --open W --per-datagram K --warmup-ms T --ms T SIZES
//     Keeps W operations open: each is sent to every port and complete when all have answered; up to K messages that are
//     ready at the same time share a datagram, and as many answers as fit. Warms up for --warmup-ms, prints `ready {}`, waits for a line on stdin, runs
//     for --ms, prints one JSON object: operations, resent, startedNs, endedNs and a histogram (src/metrics/histogram.ts).
//
// A datagram is an envelope of B bytes, of which the first two name the server that answers, and messages of equal
// length, each of which begins with its slot and the number of its operation. Slot for slot is stamped and looked up,
// as a real client has to. SIZES, in bytes: --datagram (the longest), --envelope, --request, --answer, --other-answer.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr int kBatch = 64;
constexpr size_t kDatagramBytesMax = 65507;
constexpr int kBufferBytes = 4 << 20;
constexpr uint64_t kResendNs = 100'000'000;
constexpr int kReceiveTimeoutMs = 50;
// Polls without a result between two looks at the clock for what must be resent.
constexpr uint32_t kPollsBetweenChecks = 1 << 12;
constexpr size_t kMessageHeaderBytes = 8;
constexpr size_t kEnvelopeHeaderBytes = 2;

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "echo: %s: %s\n", what, errno != 0 ? strerror(errno) : "unusable value");
  exit(1);
}

uint64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// --- options ---------------------------------------------------------------------------------------------------------

class Options {
 public:
  Options(int argc, char** argv) {
    for (int i = 2; i + 1 < argc; i += 2) values_[argv[i]] = argv[i + 1];
  }

  const std::string& text(const char* name) const {
    auto found = values_.find(name);
    if (found == values_.end()) {
      errno = 0;
      fail(name);
    }
    return found->second;
  }

  long number(const char* name, long low, long high) const {
    char* end = nullptr;
    errno = 0;
    long value = strtol(text(name).c_str(), &end, 10);
    if (errno != 0 || *end != '\0' || value < low || value > high) fail(name);
    return value;
  }

  bool spins() const {
    const std::string& wait = text("--wait");
    errno = 0;
    if (wait != "spin" && wait != "block") fail("--wait");
    return wait == "spin";
  }

 private:
  std::map<std::string, std::string> values_;
};

struct Sizes {
  size_t datagram;
  size_t envelope;
  size_t request;
  size_t answerOf[2];

  explicit Sizes(const Options& options)
      : datagram(options.number("--datagram", kEnvelopeHeaderBytes, kDatagramBytesMax)),
        envelope(options.number("--envelope", kEnvelopeHeaderBytes, static_cast<long>(datagram))),
        request(options.number("--request", kMessageHeaderBytes, static_cast<long>(datagram))),
        answerOf{static_cast<size_t>(options.number("--answer", kMessageHeaderBytes, static_cast<long>(datagram))), static_cast<size_t>(options.number("--other-answer", kMessageHeaderBytes, static_cast<long>(datagram)))} {}

  size_t answer(size_t server) const { return answerOf[server == 0 ? 0 : 1]; }
};

// --- sockets ---------------------------------------------------------------------------------------------------------

in_addr addressOf(const std::string& text) {
  in_addr address{};
  errno = 0;
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) fail("not an IPv4 address");
  return address;
}

int openSocket(bool spins, const std::string& at) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | (spins ? SOCK_NONBLOCK : 0), 0);
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kBufferBytes, sizeof kBufferBytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof kBufferBytes);
  timeval timeout{0, kReceiveTimeoutMs * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr = addressOf(at);
  if (bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) fail("bind");
  return fd;
}

// Datagrams in preallocated memory, for recvmmsg and sendmmsg.
class Batch {
 public:
  explicit Batch(int capacity, size_t bytes) : capacity_(capacity), bytes_(bytes), slab_(capacity * bytes), vectors_(capacity), addresses_(capacity), headers_(capacity) {
    for (int i = 0; i < capacity; i++) {
      vectors_[i].iov_base = at(i);
      headers_[i].msg_hdr = {};
      headers_[i].msg_hdr.msg_iov = &vectors_[i];
      headers_[i].msg_hdr.msg_iovlen = 1;
      headers_[i].msg_hdr.msg_name = &addresses_[i];
    }
  }

  uint8_t* at(int i) { return slab_.data() + static_cast<size_t>(i) * bytes_; }
  size_t length(int i) const { return headers_[i].msg_len; }
  const sockaddr_in& address(int i) const { return addresses_[i]; }
  bool full() const { return count_ == capacity_; }

  // The number received; 0 if there was nothing, or nothing in time.
  int receive(int fd, bool spins) {
    for (int i = 0; i < capacity_; i++) {
      vectors_[i].iov_len = bytes_;
      headers_[i].msg_hdr.msg_namelen = sizeof(sockaddr_in);
    }
    int got = recvmmsg(fd, headers_.data(), capacity_, spins ? MSG_DONTWAIT : MSG_WAITFORONE, nullptr);
    if (got >= 0) return got;
    // ECONNREFUSED: a server is gone; its clients notice by themselves.
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ECONNREFUSED) return 0;
    fail("recvmmsg");
  }

  // Adds a datagram of `length` bytes, already written at `at(count)`, and returns its number.
  int add(size_t length, const sockaddr_in& to) {
    vectors_[count_].iov_len = length;
    addresses_[count_] = to;
    headers_[count_].msg_hdr.msg_namelen = sizeof(sockaddr_in);
    return count_++;
  }

  uint8_t* next() { return at(count_); }

  // Datagrams for which the kernel has no room are lost, as on the network: clients resend.
  void send(int fd) {
    int sent = 0;
    if (count_ == 0) return;
    if (count_ == 1) {
      (void)!sendto(fd, at(0), vectors_[0].iov_len, 0, reinterpret_cast<sockaddr*>(&addresses_[0]), sizeof(sockaddr_in));
    } else {
      while (sent < count_) {
        int done = sendmmsg(fd, headers_.data() + sent, count_ - sent, 0);
        sent += done > 0 ? done : 1;
      }
    }
    count_ = 0;
  }

 private:
  int capacity_;
  size_t bytes_;
  int count_ = 0;
  std::vector<uint8_t> slab_;
  std::vector<iovec> vectors_;
  std::vector<sockaddr_in> addresses_;
  std::vector<mmsghdr> headers_;
};

// --- server ----------------------------------------------------------------------------------------------------------

// A thread that only waits for the parent to go: the servers themselves never read stdin.
void* endWithParent(void*) {
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  _exit(0);
}

int serve(const Options& options) {
  bool spins = options.spins();
  int sockets = static_cast<int>(options.number("--sockets", 1, spins ? 16 : 1));
  int first = static_cast<int>(options.number("--first", 0, 15));
  const Sizes sizes(options);
  std::vector<int> fds;
  std::string ports;
  for (int i = 0; i < sockets; i++) {
    fds.push_back(openSocket(spins, options.text("--bind")));
    sockaddr_in bound{};
    socklen_t length = sizeof bound;
    getsockname(fds.back(), reinterpret_cast<sockaddr*>(&bound), &length);
    ports += (i == 0 ? "" : ",") + std::to_string(ntohs(bound.sin_port));
  }
  pthread_t watcher;
  if (pthread_create(&watcher, nullptr, endWithParent, nullptr) != 0) fail("pthread_create");
  printf("ready {\"ports\":[%s]}\n", ports.c_str());
  fflush(stdout);
  Batch in(kBatch, sizes.datagram);
  Batch out(kBatch, sizes.datagram);
  for (;;) {
    for (int i = 0; i < sockets; i++) {
      int got = in.receive(fds[i], spins);
      size_t answer = sizes.answer(first + i);
      size_t copied = std::min(answer, sizes.request);
      for (int j = 0; j < got; j++) {
        if (in.length(j) < sizes.envelope) continue;
        const uint8_t* from = in.at(j) + sizes.envelope;
        size_t left = (in.length(j) - sizes.envelope) / sizes.request;
        while (left > 0) {
          size_t messages = std::min(left, (sizes.datagram - sizes.envelope) / answer);
          uint8_t* to = out.next();
          to[0] = static_cast<uint8_t>(first + i);
          for (size_t m = 0; m < messages; m++, from += sizes.request) memcpy(to + sizes.envelope + m * answer, from, copied);
          out.add(sizes.envelope + messages * answer, in.address(j));
          if (out.full()) out.send(fds[i]);
          left -= messages;
        }
      }
      if (got > 0) out.send(fds[i]);
    }
  }
}

// --- histogram: the buckets of src/metrics/histogram.ts --------------------------------------------------------------

class Histogram {
 public:
  void record(uint64_t value) {
    buckets_[bucketOf(value)]++;
    count_++;
    sum_ += static_cast<double>(value);
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
  }

  void reset() { *this = Histogram(); }
  uint64_t count() const { return count_; }

  std::string json() const {
    std::string text = "{\"count\":" + std::to_string(count_) + ",\"sum\":" + std::to_string(static_cast<uint64_t>(sum_)) + ",\"min\":" + std::to_string(count_ == 0 ? 0 : min_) + ",\"max\":" + std::to_string(max_) + ",\"buckets\":[";
    bool some = false;
    for (size_t i = 0; i < buckets_.size(); i++) {
      if (buckets_[i] == 0) continue;
      text += (some ? "," : "") + std::to_string(i) + "," + std::to_string(buckets_[i]);
      some = true;
    }
    return text + "]}";
  }

 private:
  static constexpr int kSubBits = 7;
  static constexpr int kShifts = 35;

  static size_t bucketOf(uint64_t value) {
    if (value < (2u << kSubBits)) return value;
    int shift = 63 - kSubBits - __builtin_clzll(value);
    if (shift > kShifts) return ((kShifts + 2) << kSubBits) - 1;
    return (static_cast<size_t>(shift) << kSubBits) + (value >> shift);
  }

  std::vector<uint64_t> buckets_ = std::vector<uint64_t>((kShifts + 2) << kSubBits);
  uint64_t count_ = 0;
  double sum_ = 0;
  uint64_t min_ = UINT64_MAX;
  uint64_t max_ = 0;
};

// --- client ----------------------------------------------------------------------------------------------------------

class Client {
 public:
  explicit Client(const Options& options)
      : spins_(options.spins()),
        slots_(options.number("--open", 1, 1 << 16)),
        perDatagram_(options.number("--per-datagram", 1, 4096)),
        sizes_(options),
        fd_(openSocket(spins_, options.text("--bind"))),
        in_(kBatch, sizes_.datagram),
        out_(kBatch, sizes_.datagram),
        open_(slots_) {
    errno = 0;
    if (sizes_.envelope + perDatagram_ * sizes_.request > sizes_.datagram) fail("--per-datagram");
    const std::string& ports = options.text("--ports");
    const in_addr at = addressOf(options.text("--server"));
    for (size_t from = 0; from < ports.size();) {
      size_t comma = std::min(ports.find(',', from), ports.size());
      sockaddr_in server{};
      server.sin_family = AF_INET;
      server.sin_addr = at;
      server.sin_port = htons(static_cast<uint16_t>(atoi(ports.substr(from, comma - from).c_str())));
      servers_.push_back(server);
      from = comma + 1;
    }
    if (servers_.empty() || servers_.size() > 16) fail("--ports");
    ready_.reserve(slots_);
  }

  // Keeps all slots open for this long, then lets them end.
  void run(uint64_t ms) {
    histogram_.reset();
    resent_ = 0;
    startedNs_ = nowNs();
    uint64_t until = startedNs_ + ms * 1'000'000;
    openCount_ = slots_;
    for (uint32_t slot = 0; slot < slots_; slot++) ready_.push_back(slot);
    sendReady(startedNs_);
    uint32_t idle = 0;
    uint64_t checkedNs = startedNs_;
    while (openCount_ > 0) {
      int got = in_.receive(fd_, spins_);
      if (got == 0 && spins_ && ++idle % kPollsBetweenChecks != 0) continue;
      uint64_t now = nowNs();
      for (int i = 0; i < got; i++) take(in_.at(i), in_.length(i), now, until);
      if (!ready_.empty()) sendReady(nowNs());
      if (now - checkedNs < kResendNs / 2) continue;
      checkedNs = now;
      sendOldAgain(now);
    }
    endedNs_ = nowNs();
  }

  std::string json() const {
    return "{\"operations\":" + std::to_string(histogram_.count()) + ",\"resent\":" + std::to_string(resent_) + ",\"startedNs\":" + std::to_string(startedNs_) + ",\"endedNs\":" + std::to_string(endedNs_) + ",\"histogram\":" + histogram_.json() + "}";
  }

 private:
  struct Slot {
    uint64_t sentNs = 0;
    uint32_t number = 0;
    uint32_t missing = 0;  // one bit for each server
  };

  void take(const uint8_t* bytes, size_t length, uint64_t now, uint64_t until) {
    if (length < sizes_.envelope || bytes[0] >= servers_.size()) return;
    uint32_t server = bytes[0];
    size_t answer = sizes_.answer(server);
    for (size_t at = sizes_.envelope; at + answer <= length; at += answer) {
      uint32_t header[2];
      memcpy(header, bytes + at, sizeof header);
      if (header[0] >= slots_) continue;
      Slot& slot = open_[header[0]];
      if (slot.number != header[1] || (slot.missing & (1u << server)) == 0) continue;
      slot.missing &= ~(1u << server);
      if (slot.missing != 0) continue;
      histogram_.record(now - slot.sentNs);
      if (now < until) ready_.push_back(header[0]);
      else openCount_--;
    }
  }

  void sendReady(uint64_t now) {
    for (uint32_t slot : ready_) {
      open_[slot].number++;
      open_[slot].sentNs = now;
      open_[slot].missing = (1u << servers_.size()) - 1;
    }
    sendMessages();
  }

  void sendOldAgain(uint64_t now) {
    for (uint32_t slot = 0; slot < slots_; slot++) {
      if (open_[slot].missing == 0 || now < open_[slot].sentNs + kResendNs) continue;
      ready_.push_back(slot);
      resent_++;
    }
    sendMessages();
  }

  // The ready slots, to every server, K in a datagram.
  void sendMessages() {
    for (size_t from = 0; from < ready_.size(); from += perDatagram_) {
      size_t count = std::min(perDatagram_, ready_.size() - from);
      for (const sockaddr_in& server : servers_) {
        uint8_t* bytes = out_.next();
        for (size_t i = 0; i < count; i++) {
          uint32_t header[2] = {ready_[from + i], open_[ready_[from + i]].number};
          memcpy(bytes + sizes_.envelope + i * sizes_.request, header, sizeof header);
        }
        out_.add(sizes_.envelope + count * sizes_.request, server);
        if (out_.full()) out_.send(fd_);
      }
    }
    out_.send(fd_);
    ready_.clear();
  }

  bool spins_;
  uint32_t slots_;
  size_t perDatagram_;
  Sizes sizes_;
  int fd_;
  Batch in_;
  Batch out_;
  std::vector<Slot> open_;
  std::vector<sockaddr_in> servers_;
  std::vector<uint32_t> ready_;
  Histogram histogram_;
  uint32_t openCount_ = 0;
  uint64_t resent_ = 0;
  uint64_t startedNs_ = 0;
  uint64_t endedNs_ = 0;
};

int drive(const Options& options) {
  long warmupMs = options.number("--warmup-ms", 0, 3'600'000);
  long ms = options.number("--ms", 1, 3'600'000);
  Client client(options);
  if (warmupMs > 0) client.run(warmupMs);
  puts("ready {}");
  fflush(stdout);
  char line[16];
  if (fgets(line, sizeof line, stdin) == nullptr) return 0;
  client.run(ms);
  puts(client.json().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options(argc, argv);
  std::string role = argc > 1 ? argv[1] : "";
  if (role == "server") return serve(options);
  if (role == "client") return drive(options);
  fprintf(stderr, "echo: the first argument is server or client; see the head of echo.cc\n");
  return 2;
}
