#include "core/memory.h"

#include <doctest/doctest.h>

#include "core/work_queue.h"
#include "graph.h"

namespace rdma::test {

namespace {

/// Tables hold regions and never look into them.
MemoryRegion* Region(uintptr_t number) { return reinterpret_cast<MemoryRegion*>(number * 64); }

}  // namespace

TEST_SUITE("local keys") {
  TEST_CASE("a key is found until it is removed, and by who made it alone") {
    KeyTable keys;
    CHECK(keys.Find(7) == nullptr);
    keys.Insert(7, Region(1));
    keys.Insert(8, Region(2));
    CHECK(keys.Find(7) == Region(1));
    // The device gives out the key anew before the one who had it has gone.
    keys.Insert(7, Region(3));
    keys.Remove(7, Region(1));
    CHECK(keys.Find(7) == Region(3));
    keys.Remove(7, Region(3));
    CHECK(keys.Find(7) == nullptr);
    CHECK(keys.Find(8) == Region(2));
  }

  TEST_CASE("whoever has looked a key up notices that one has gone") {
    KeyTable keys;
    keys.Insert(7, Region(1));
    const uint32_t version = keys.version();
    CHECK(keys.Find(7) == Region(1));
    CHECK(keys.version() == version);
    keys.Remove(7, Region(1));
    CHECK(keys.version() != version);
  }

  TEST_CASE("a named object is found by its kind alone") {
    KeyTable keys;
    const auto held = std::make_shared<Held>();
    keys.InsertObject(5, held.get());
    CHECK(keys.FindObject(5, Kind::kMemoryRegion) == held.get());
    CHECK(keys.FindObject(5, Kind::kAddressHandle) == nullptr);
    CHECK(keys.FindObject(6, Kind::kMemoryRegion) == nullptr);
    keys.RemoveObject(5);
    CHECK(keys.FindObject(5, Kind::kMemoryRegion) == nullptr);
  }
}

TEST_SUITE("slots") {
  TEST_CASE("words are joined without a sign") {
    CHECK(JoinWords(0, 0) == 0);
    CHECK(JoinWords(0xffffffff, 0) == 0xffffffff);
    CHECK(JoinWords(0, 0x80000000) == 0x8000000000000000);
    CHECK(JoinWords(0x89abcdef, 0x01234567) == 0x0123456789abcdef);
  }

  TEST_CASE("slots, SGEs and inline areas of a ring lie side by side and fill it") {
    for (const uint32_t capacity : {1u, 16u, 1024u}) {
      for (const uint32_t max_sge : {1u, 4u, 32u}) {
        for (const uint32_t max_inline : {0u, 64u, 512u}) {
          std::vector<uint8_t> memory(WorkRing::Bytes(capacity, max_sge, max_inline));
          const WorkRing ring = WorkRing::At(memory.data(), capacity, max_sge);
          CHECK(reinterpret_cast<const uint8_t*>(ring.slots) == memory.data());
          CHECK(reinterpret_cast<const uint8_t*>(ring.slots + capacity) ==
                reinterpret_cast<const uint8_t*>(ring.sges));
          CHECK(reinterpret_cast<const uint8_t*>(ring.sges + capacity * max_sge) == ring.inline_data);
          CHECK(ring.inline_data + capacity * max_inline == memory.data() + memory.size());
        }
      }
    }
  }
}

}  // namespace rdma::test
