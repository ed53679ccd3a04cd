#pragma once

#include <doctest/doctest.h>
#include <poll.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/queue_pair.h"

namespace rdma::test {

/// A device, and the address of its netdev.
struct TestDevice {
  std::string name;
  std::string host;
};

/// From NODE_RDMA_TEST_DEVICES: "rxe0=10.0.1.1 siw0=10.0.2.1".
inline std::vector<TestDevice> TestDevices() {
  const char* text = std::getenv("NODE_RDMA_TEST_DEVICES");
  std::vector<TestDevice> devices;
  std::istringstream words(text != nullptr ? text : "");
  for (std::string word; words >> word;) {
    const size_t at = word.find('=');
    devices.push_back({word.substr(0, at), word.substr(at + 1)});
  }
  return devices;
}

inline void WaitReadable(int fd) {
  pollfd entry = {fd, POLLIN, 0};
  if (poll(&entry, 1, 20'000) != 1) throw Error("poll", ETIMEDOUT, "nothing came in 20 seconds");
}

/// Two queue pairs of this thread that are connected to each other, and memory that both can use.
class Connection {
 public:
  static constexpr uint32_t kDepth = 16;
  static constexpr size_t kBytes = 1 << 16;

  /// Whether the completion queue has its completion channel for itself.
  enum class Channel { kOwn, kShared };

  explicit Connection(const TestDevice& test, Channel completions = Channel::kOwn)
      : device(Device::Open(test.name)),
        pd(ProtectionDomain::Alloc(device)),
        channel(EventChannel::Create()),
        memory(kBytes) {
    CompletionQueueSpec cq_spec;
    cq_spec.cqe = 8 * kDepth;
    if (completions == Channel::kShared) cq_spec.channel = CompletionChannel::Create(device, true);
    cq = CompletionQueue::Create(device, cq_spec);
    const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
    RegionRequest request;
    request.addr = request.iova = reinterpret_cast<uintptr_t>(memory.data());
    request.length = memory.size();
    request.access = access;
    mr = MemoryRegion::Adopt(pd, RegMr(pd->pd(), memory.data(), memory.size(), access, nullptr), request);
    Connect(test.host);
  }

  /// Writes [length] bytes from the start of the memory to its middle, [count] times.
  void Write(uint32_t count, uint32_t length = 4096) {
    auto* slots = reinterpret_cast<WorkRequestSlot*>(ring_.data());
    SgeSlot* sges = reinterpret_cast<SgeSlot*>(ring_.data() + kDepth * sizeof(WorkRequestSlot));
    const uint64_t remote = mr->addr() + kBytes / 2;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t seq = client_qp->send_queue().pins().tail();
      WorkRequestSlot& slot = slots[seq & (kDepth - 1)];
      slot = {};
      slot.opcode = IBV_WR_RDMA_WRITE;
      slot.send_flags = IBV_SEND_SIGNALED;
      slot.num_sge = 1;
      slot.rkey = mr->rkey();
      slot.remote_addr_lo = static_cast<uint32_t>(remote);
      slot.remote_addr_hi = static_cast<uint32_t>(remote >> 32);
      SgeSlot& sge = sges[(seq & (kDepth - 1)) * client_qp->send_queue().limits().max_sge];
      sge = {static_cast<uint32_t>(mr->addr()), static_cast<uint32_t>(mr->addr() >> 32), length, mr->lkey()};
      PostStatus status = {};
      const int err = client_qp->PostSend(seq, 1, &status);
      if (err != 0) throw Error("ibv_post_send", err);
    }
  }

  /// Waits for [count] completions by the completion channel, as the event loop does; returns their statuses.
  std::vector<uint32_t> Wait(uint32_t count) {
    std::vector<uint32_t> statuses;
    std::vector<CompletionSlot> slots(8);
    cq->Arm();
    while (statuses.size() < count) {
      const uint32_t got = cq->Poll(slots.data(), static_cast<uint32_t>(slots.size()));
      for (uint32_t i = 0; i < got; ++i) statuses.push_back(slots[i].status);
      if (got != 0 || statuses.size() >= count) continue;
      WaitReadable(cq->channel()->fd());
      cq->channel()->TakeEvents();
      cq->Arm();
    }
    return statuses;
  }

  std::shared_ptr<Device> device;
  std::shared_ptr<ProtectionDomain> pd;
  std::shared_ptr<CompletionQueue> cq;
  std::shared_ptr<EventChannel> channel;
  std::vector<uint8_t> memory;
  std::shared_ptr<MemoryRegion> mr;
  std::shared_ptr<CmId> listener;
  std::shared_ptr<CmId> client;
  std::shared_ptr<CmId> server;
  std::shared_ptr<QueuePair> client_qp;
  std::shared_ptr<QueuePair> server_qp;

 private:
  std::shared_ptr<QueuePair> MakeQp(const std::shared_ptr<CmId>& id, uint32_t handle) {
    QueuePairSpec spec;
    spec.pd = pd;
    spec.send_cq = cq;
    spec.recv_cq = cq;
    spec.id = id;
    spec.caps = {kDepth, kDepth, 1, 1, 0};
    auto qp = QueuePair::Create(spec);
    qp->handle = handle;
    qp->Register();
    const QueueLimits& send = qp->send_queue().limits();
    ring_.resize(WorkRing::Bytes(kDepth, send.max_sge, send.max_inline));
    qp->send_queue().Attach(WorkRing::At(ring_.data(), kDepth, send.max_sge));
    return qp;
  }

  /// The next event of any id, which must not be an error.
  CmEvent Next() {
    for (;;) {
      if (auto event = channel->Next()) {
        if (event->status != 0) throw Error("rdma_get_cm_event", event->status, rdma_event_str(event->type));
        return *event;
      }
      WaitReadable(channel->fd());
    }
  }

  void Connect(const std::string& host) {
    listener = CmId::Create(channel, RDMA_PS_TCP);
    listener->Bind({host});
    listener->Listen(4);
    client = CmId::Create(channel, RDMA_PS_TCP);
    client->ResolveAddr(std::nullopt, *listener->LocalAddress(), 5000);
    Next();
    client->ResolveRoute(5000);
    Next();
    client_qp = MakeQp(client, 1);
    rdma_conn_param param = {};
    param.responder_resources = param.initiator_depth = 1;
    param.retry_count = param.rnr_retry_count = 6;
    CmId::Connect(client->id(), &param);
    for (int established = 0; established < 2;) {
      const CmEvent event = Next();
      if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST) {
        server = event.id;
        server_qp = MakeQp(server, 2);
        server->Accept(&param);
      } else if (event.type == RDMA_CM_EVENT_ESTABLISHED) {
        ++established;
      }
    }
  }

  std::vector<uint8_t> ring_;
};

}  // namespace rdma::test
