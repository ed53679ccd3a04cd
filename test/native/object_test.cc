#include "core/object.h"

#include <doctest/doctest.h>

#include "graph.h"

namespace rdma::test {

namespace {

std::shared_ptr<Node> Make(Kind kind, const char* name, Log* log) {
  return std::make_shared<Node>(kind, name, log);
}

}  // namespace

TEST_SUITE("ownership graph") {
  TEST_CASE("children are closed first, in the order of their kinds and then of their making") {
    Log log;
    const auto device = Make(Kind::kDevice, "device", &log);
    const auto pd = Make(Kind::kProtectionDomain, "pd", &log);
    const auto mr = Make(Kind::kMemoryRegion, "mr", &log);
    const auto cq = Make(Kind::kCompletionQueue, "cq", &log);
    const auto first = Make(Kind::kQueuePair, "first qp", &log);
    const auto second = Make(Kind::kQueuePair, "second qp", &log);
    const auto window = Make(Kind::kMemoryWindow, "window", &log);
    for (const auto& child : {pd, cq, mr, first, second, window}) device->Adopt(child);
    device->Close();
    CHECK(log == Log{"window", "first qp", "second qp", "cq", "mr", "pd", "device"});
  }

  TEST_CASE("a child of several parents is closed once, by whichever goes first") {
    Log log;
    const auto pd = Make(Kind::kProtectionDomain, "pd", &log);
    const auto id = Make(Kind::kCmId, "id", &log);
    const auto qp = Make(Kind::kQueuePair, "qp", &log);
    pd->Adopt(qp);
    id->Adopt(qp);
    id->Close();
    pd->Close();
    id->Close();
    CHECK(log == Log{"qp", "id", "pd"});
  }

  TEST_CASE("a parent does not keep its children, nor close those that have gone") {
    Log log;
    const auto pd = Make(Kind::kProtectionDomain, "pd", &log);
    auto mr = Make(Kind::kMemoryRegion, "mr", &log);
    const std::weak_ptr<Node> weak = mr;
    pd->Adopt(mr);
    mr.reset();
    CHECK(weak.expired());
    pd->Close();
    CHECK(log == Log{"pd"});
  }

  TEST_CASE("a child that has been given away is not closed") {
    Log log;
    const auto from = Make(Kind::kProtectionDomain, "from", &log);
    const auto to = Make(Kind::kProtectionDomain, "to", &log);
    const auto mr = Make(Kind::kMemoryRegion, "mr", &log);
    from->Adopt(mr);
    from->Disown(mr.get());
    to->Adopt(mr);
    from->Close();
    CHECK(!mr->closed());
    to->Close();
    CHECK(log == Log{"from", "mr", "to"});
  }

  TEST_CASE("whoever closes, those who asked are told once, before and after") {
    Log log;
    const auto cq = Make(Kind::kCompletionQueue, "cq", &log);
    cq->on_closing = [&] { log.push_back("closing"); };
    cq->on_closed = [&] { log.push_back("closed"); };
    cq->Close();
    cq->Close();
    CHECK(log == Log{"closing", "cq", "closed"});
  }

  TEST_CASE("a callback may close anything, also what is closing") {
    Log log;
    const auto device = Make(Kind::kDevice, "device", &log);
    const auto pd = Make(Kind::kProtectionDomain, "pd", &log);
    const auto qp = Make(Kind::kQueuePair, "qp", &log);
    const auto cq = Make(Kind::kCompletionQueue, "cq", &log);
    device->Adopt(pd);
    device->Adopt(qp);
    device->Adopt(cq);
    qp->on_closing = [&] {
      device->Close();
      cq->Close();
      qp->Close();
    };
    device->Close();
    CHECK(log == Log{"cq", "qp", "pd", "device"});
  }

  TEST_CASE("a callback may drop the last reference to what is closing") {
    Log log;
    auto pd = Make(Kind::kProtectionDomain, "pd", &log);
    pd->on_closing = [&] { pd.reset(); };
    Node* raw = pd.get();
    raw->Close();
    CHECK(log == Log{"pd"});
    CHECK(pd == nullptr);
  }

  TEST_CASE("children that come and go leave no list that grows") {
    Log log;
    const auto pd = Make(Kind::kProtectionDomain, "pd", &log);
    const auto kept = Make(Kind::kMemoryRegion, "kept", &log);
    pd->Adopt(kept);
    for (int i = 0; i < 10'000; ++i) pd->Adopt(Make(Kind::kMemoryRegion, "gone", &log));
    pd->Close();
    CHECK(log == Log{"kept", "pd"});
  }
}

}  // namespace rdma::test
