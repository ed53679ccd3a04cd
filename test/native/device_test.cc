#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "connection.h"
#include "core/reaper.h"
#include "threads.h"

namespace rdma::test {

TEST_SUITE("device") {
  TEST_CASE("there are devices to test with") { REQUIRE(TestDevices().size() > 0); }

  TEST_CASE("a connection carries data, and closing the device closes all that was made from it") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      Connection c(test);
      std::vector<Kind> closed;
      const std::vector<std::shared_ptr<Object>> objects = {c.device, c.pd,        c.cq,
                                                            c.mr,     c.client_qp, c.server_qp};
      for (const auto& object : objects) {
        object->on_closed = [&closed, kind = object->kind()] { closed.push_back(kind); };
      }
      std::fill_n(c.memory.begin(), 4096, uint8_t{0xa5});
      c.Write(8);
      CHECK(c.Wait(8) == std::vector<uint32_t>(8, IBV_WC_SUCCESS));
      CHECK(c.memory[Connection::kBytes / 2 + 4095] == 0xa5);
      c.Write(8);
      c.device->Close();
      CHECK(closed.size() == objects.size());
      CHECK(std::is_sorted(closed.begin(), closed.end()));
      c.channel->Close();
    }
  }

  TEST_CASE("objects that are dropped, not closed, go in the right order all the same") {
    std::mt19937 random(1);
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      for (int round = 0; round < 20; ++round) {
        auto c = std::make_unique<Connection>(test);
        c->Write(4);
        std::vector<std::function<void()>> drops = {
            [&] { c->client_qp.reset(); }, [&] { c->server_qp.reset(); }, [&] { c->cq.reset(); },
            [&] { c->mr.reset(); },        [&] { c->client.reset(); },    [&] { c->server.reset(); },
            [&] { c->listener.reset(); },  [&] { c->channel.reset(); },   [&] { c->pd.reset(); },
            [&] { c->device.reset(); },
        };
        std::shuffle(drops.begin(), drops.end(), random);
        // The memory stays: who drops a region without a close vouches that nothing uses it.
        c->client_qp->Close();
        c->server_qp->Close();
        for (const auto& drop : drops) drop();
      }
    }
  }

  TEST_CASE("regions are made and dropped on threads while their domain and device are closed") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      for (int round = 0; round < 5; ++round) {
        const auto device = Device::Open(test.name);
        const auto pd = ProtectionDomain::Alloc(device);
        std::atomic<int> made = 0;
        std::thread closer([&] {
          while (made < 2 * kThreads) std::this_thread::yield();
          device->Close();
        });
        // What a job on the pool holds is the kernel's domain.
        const PdPtr kernel_pd = pd->pd();
        InThreads([&](int) {
          std::vector<uint8_t> memory(1 << 16);
          for (int i = 0; i < 20; ++i) {
            const MrPtr mr = RegMr(kernel_pd, memory.data(), memory.size(), IBV_ACCESS_LOCAL_WRITE, nullptr);
            ++made;
          }
        });
        closer.join();
        CHECK(pd->closed());
      }
    }
  }

  TEST_CASE("a region that is idle is deregistered on another thread while its domain goes") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      for (int round = 0; round < 10; ++round) {
        Connection c(test);
        std::thread pool;
        c.mr->on_idle = [&](MrPtr idle) {
          pool = std::thread([moved = std::move(idle)]() mutable { moved.reset(); });
        };
        c.Write(4);
        c.mr->Close();
        CHECK(!pool.joinable());
        c.device->Close();
        REQUIRE(pool.joinable());
        pool.join();
      }
    }
  }

  TEST_CASE("a connect on a thread outlives the id and the queue pair that are closed meanwhile") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      for (int round = 0; round < 4; ++round) {
        Connection c(test);
        const auto id = CmId::Create(c.channel, RDMA_PS_TCP);
        id->ResolveAddr(std::nullopt, *c.listener->LocalAddress(), 5000);
        WaitReadable(c.channel->fd());
        c.channel->Next();
        id->ResolveRoute(5000);
        WaitReadable(c.channel->fd());
        c.channel->Next();
        QueuePairSpec spec;
        spec.pd = c.pd;
        spec.send_cq = spec.recv_cq = c.cq;
        spec.id = id;
        spec.caps = {1, 1, 1, 1, 0};
        const auto qp = QueuePair::Create(spec);
        qp->handle = 3;
        qp->Register();
        id->BeginConnect();
        std::thread pool([held = id->id(), held_qp = id->queue_pair()]() mutable {
          rdma_conn_param param = {};
          param.retry_count = 1;
          try {
            CmId::Connect(held, &param);
          } catch (const Error&) {
            // The queue pair is in the error state already.
          }
          held_qp.reset();
          held.reset();
        });
        if (round % 2 == 0) std::this_thread::yield();
        id->Close();
        // Without its listener the peer refuses, which siw would wait for, for ten seconds.
        c.listener->Close();
        pool.join();
        c.device->Close();
        c.channel->Close();
      }
    }
  }

  TEST_CASE("threads that share nothing but the device have connections of their own") {
    for (const TestDevice& test : TestDevices()) {
      CAPTURE(test.name);
      InThreads([&](int) {
        for (int round = 0; round < 5; ++round) {
          Connection c(test);
          c.Write(16);
          if (c.Wait(16) != std::vector<uint32_t>(16, IBV_WC_SUCCESS)) throw Error("ibv_poll_cq", EIO);
          c.device->events().Take();
          c.client->Disconnect();
          c.channel->Close();
          c.device->Close();
        }
      });
    }
  }

  TEST_CASE("what may block is done on a thread of its own, in turn, whoever asks") {
    std::atomic<int> done = 0;
    InThreads([&](int) {
      for (int i = 0; i < 100; ++i) Reap([&done] { ++done; });
    });
    for (int i = 0; i < 6000 && done < 100 * kThreads; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CHECK(done == 100 * kThreads);
  }
}

}  // namespace rdma::test
