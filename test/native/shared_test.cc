#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "connection.h"
#include "core/cm_addrinfo.h"
#include "core/completion_channel.h"
#include "core/map_key_plug.h"
#include "threads.h"

namespace rdma::test {

namespace {

bool Readable(int fd, int timeout_ms) {
  pollfd entry = {fd, POLLIN, 0};
  return poll(&entry, 1, timeout_ms) == 1;
}

/// Whether this process has mapped the byte at [offset] of the file of [context]'s device (proc_pid_maps(5)).
bool Maps(ibv_context* context, uint64_t offset) {
  const std::string file = std::string("/dev/infiniband/") + context->device->dev_name;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with(file)) continue;
    std::istringstream words(line);
    std::string range;
    std::string access;
    std::string start;
    words >> range >> access >> start;
    const size_t dash = range.find('-');
    const uint64_t length =
        std::stoull(range.substr(dash + 1), nullptr, 16) - std::stoull(range, nullptr, 16);
    const uint64_t from = std::stoull(start, nullptr, 16);
    if (from <= offset && offset - from < length) return true;
  }
  return false;
}

}  // namespace

TEST_SUITE("shared by threads") {
  TEST_CASE("an event finds the opening that it is for, whichever thread reads it") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      std::atomic<bool> done = false;
      // An opening that takes what it finds, comes and goes.
      std::thread passer([&] {
        while (!done) {
          const auto device = Device::Open(test.name);
          for (int i = 0; i < 20; ++i) {
            if (Readable(device->events().fd(), 1)) device->events().Take();
          }
          device->Close();
        }
      });
      InThreads([&](int) {
        for (int round = 0; round < 3; ++round) {
          Connection c(test);
          c.Write(1, Connection::kBytes);  // beyond the end
          std::vector<AsyncEvent> got;
          while (std::none_of(got.begin(), got.end(),
                              [](const auto& event) { return event.type == IBV_EVENT_QP_ACCESS_ERR; })) {
            if (!Readable(c.device->events().fd(), 20'000)) throw Error("poll", ETIMEDOUT, "no event came");
            for (AsyncEvent& event : c.device->events().Take()) got.push_back(std::move(event));
          }
          for (const AsyncEvent& event : got) {
            const auto object = event.object.lock();
            if (object && object != c.server_qp && object != c.client_qp) {
              throw Error("ibv_get_async_event", EINVAL, "an event of another opening");
            }
            if (event.type == IBV_EVENT_QP_ACCESS_ERR && object != c.server_qp) {
              throw Error("ibv_get_async_event", EINVAL, "not the server's");
            }
          }
          c.device->Close();
          c.channel->Close();
        }
      });
      done = true;
      passer.join();
    }
  }

  TEST_CASE("siw's map key is taken as long as anybody needs it") {
    constexpr uint64_t kMapKey = 0x90000;
    for (const TestDevice& test : TestDevices()) {
      const ContextPtr context = OpenContext(test.name);
      ibv_device_attr attr = {};
      REQUIRE(ibv_query_device(context.get(), &attr) == 0);
      if (!RulesFor(attr, context->device->transport_type).Has(Rule::kMapKey)) continue;
      CAPTURE(test.name);
      InThreads([&](int) {
        for (int i = 0; i < 100; ++i) {
          const std::shared_ptr<void> plug = PlugMapKey(context);
          if (!plug || !Maps(context.get(), kMapKey)) throw Error("mmap", ENOENT, "nothing is there");
        }
      });
      CHECK(!Maps(context.get(), kMapKey));
    }
  }

  TEST_CASE("regions are changed on threads while their domain carries traffic") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      Connection c(test);
      std::atomic<int> running = kThreads;
      std::vector<std::thread> pool;
      std::vector<std::vector<uint8_t>> memories(kThreads, std::vector<uint8_t>(8192));
      std::vector<std::shared_ptr<MemoryRegion>> regions;
      for (auto& memory : memories) {
        RegionRequest request;
        request.addr = request.iova = reinterpret_cast<uintptr_t>(memory.data());
        request.length = memory.size();
        request.access = IBV_ACCESS_LOCAL_WRITE;
        regions.push_back(MemoryRegion::Adopt(c.pd, Register(c.pd->pd(), request), request));
        regions.back()->BeginRereg();
      }
      std::vector<ReregResult> results(kThreads);
      for (size_t i = 0; i < kThreads; ++i) {
        pool.emplace_back([&, i, mr = regions[i]->mr()] {
          for (int turn = 0; turn < 50; ++turn) {
            const int access = turn % 2 == 0 ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE
                                             : static_cast<int>(IBV_ACCESS_LOCAL_WRITE);
            results[i] = Rereg(mr, IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0, access);
          }
          --running;
        });
      }
      while (running != 0) {
        c.Write(8);
        CHECK(c.Wait(8) == std::vector<uint32_t>(8, IBV_WC_SUCCESS));
      }
      for (std::thread& thread : pool) thread.join();
      for (size_t i = 0; i < kThreads; ++i) {
        const bool changed = results[i].outcome == ReregOutcome::kChanged;
        CHECK((changed || results[i].outcome == ReregOutcome::kUnchanged));
        regions[i]->EndRereg(results[i].outcome, regions[i]->request(), nullptr, nullptr);
        CHECK(regions[i]->lkey() == regions[i]->mr()->lkey);
      }
      c.device->Close();
      c.channel->Close();
    }
  }

  TEST_CASE("a completion queue with events to come is closed while a thread holds a queue pair of it") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      for (int round = 0; round < 10; ++round) {
        Connection c(test, Connection::Channel::kShared);
        c.cq->Arm();
        c.Write(4);
        WaitReadable(c.cq->channel()->fd());
        const auto channel = c.cq->channel();
        std::thread pool([held = c.client->queue_pair()]() mutable { held.reset(); });
        c.client_qp->Close();
        c.server_qp->Close();
        c.cq->Close();
        CHECK(channel->TakeEvents().empty());
        pool.join();
        CHECK(channel->TakeEvents().empty());
        c.device->Close();
        c.channel->Close();
      }
    }
  }

  TEST_CASE("names are looked up on threads") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      InThreads([&](int) {
        for (int i = 0; i < 20; ++i) {
          AddrInfoRequest request;
          request.node = test.host;
          request.service = "7471";
          request.port_space = RDMA_PS_TCP;
          const auto answers = GetAddrInfo(request);
          if (answers.empty() || answers.front().target->host != test.host) {
            throw Error("rdma_getaddrinfo", ENOENT, test.host);
          }
        }
      });
    }
  }
}

}  // namespace rdma::test
