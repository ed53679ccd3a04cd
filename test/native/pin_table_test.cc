#include "core/pin_table.h"

#include <doctest/doctest.h>

#include <initializer_list>

#include "graph.h"

namespace rdma::test {

namespace {

constexpr uint32_t kCapacity = 8;

/// A table whose first work request has any sequence number, and what its work requests hold.
struct Fixture {
  explicit Fixture(uint32_t first = 0) : table(kCapacity, 2, first) {}

  void Post(bool signalled, std::initializer_list<Pinnable*> held = {}) {
    table.Begin(table.tail(), signalled);
    for (Pinnable* object : held) table.Add(table.tail(), object);
    table.Posted(1);
  }

  PinTable table;
  std::shared_ptr<Held> a = std::make_shared<Held>();
  std::shared_ptr<Held> b = std::make_shared<Held>();
};

}  // namespace

TEST_SUITE("pins of work requests") {
  TEST_CASE("what is closed in flight keeps its object, but not its name, until the completion") {
    Fixture f;
    f.Post(true, {f.a.get()});
    f.a->Close();
    CHECK(f.a->unlisted == 1);
    CHECK(f.a->released == 0);
    CHECK(f.table.Complete(0));
    CHECK(f.a->released == 1);
    CHECK(f.table.outstanding() == 0);
  }

  TEST_CASE("what nobody refers to is kept by its pins") {
    Fixture f;
    const std::weak_ptr<Held> weak = f.a;
    f.Post(true, {f.a.get()});
    f.a->Close();
    f.a.reset();
    CHECK(!weak.expired());
    f.table.Complete(0);
    CHECK(weak.expired());
  }

  TEST_CASE("an object is held by each of several work requests, and twice by one") {
    Fixture f;
    f.Post(true, {f.a.get(), f.a.get()});
    f.Post(true, {f.a.get(), f.b.get()});
    CHECK(f.a->pins() == 3);
    f.a->Close();
    f.table.Complete(0);
    CHECK(f.a->released == 0);
    f.table.Complete(1);
    CHECK(f.a->released == 1);
    CHECK(f.b->pins() == 0);
    CHECK(f.b->released == 0);
  }

  TEST_CASE("a completion retires the unsignalled work requests just before it, and no others") {
    Fixture f;
    f.Post(true, {f.a.get()});
    f.Post(false, {f.b.get()});
    f.Post(false, {f.b.get()});
    f.Post(true, {f.b.get()});
    CHECK(f.table.Complete(3));
    CHECK(f.b->pins() == 0);
    // The first has a completion of its own to come.
    CHECK(f.a->pins() == 1);
    CHECK(f.table.outstanding() == 4);
    CHECK(f.table.Complete(0));
    CHECK(f.table.outstanding() == 0);
  }

  TEST_CASE("completions come in any order") {
    Fixture f;
    for (uint32_t i = 0; i < kCapacity; ++i) f.Post(true, {f.a.get()});
    for (const uint32_t seq : {5u, 0u, 7u, 2u, 1u, 6u, 3u}) {
      CHECK(f.table.Complete(seq));
      CHECK(!f.table.Complete(seq));
    }
    // Everything but 4 has come back; the queue has room again only from there on.
    CHECK(f.a->pins() == 1);
    CHECK(f.table.outstanding() == 4);
    CHECK(f.table.Complete(4));
    CHECK(f.table.outstanding() == 0);
  }

  TEST_CASE("a duplicate, and what was never posted, is refused and unpins nothing") {
    Fixture f;
    f.Post(true, {f.a.get()});
    CHECK(!f.table.Complete(1));
    CHECK(!f.table.Complete(0xffffffff));
    CHECK(f.table.Complete(0));
    CHECK(!f.table.Complete(0));
    // The same slot, one generation later.
    for (uint32_t i = 1; i <= kCapacity; ++i) {
      f.Post(true, {f.a.get()});
      CHECK(!f.table.Complete(i - kCapacity));
      CHECK(f.a->pins() == 1);
      CHECK(f.table.Complete(i));
    }
  }

  TEST_CASE("a completion whose unsignalled work requests have been retired already is a duplicate") {
    Fixture f;
    f.Post(false, {f.a.get()});
    f.Post(true, {f.b.get()});
    CHECK(f.table.Complete(1));
    // rxe flushes unsignalled ones too (sw/rxe/rxe_comp.c flush_send_wqe).
    CHECK(!f.table.Complete(0));
  }

  TEST_CASE("sequence numbers wrap around at 2^32") {
    Fixture f(0xfffffffd);
    for (int i = 0; i < 6; ++i) f.Post(i != 1, {f.a.get()});
    CHECK(f.table.tail() == 3);
    CHECK(f.table.outstanding() == 6);
    CHECK(f.table.InFlight(0xfffffffd));
    CHECK(f.table.InFlight(2));
    CHECK(!f.table.InFlight(3));
    CHECK(f.table.Complete(0xffffffff));
    CHECK(f.a->pins() == 4);
    CHECK(f.table.Complete(2));
    CHECK(f.table.Complete(0xfffffffd));
    CHECK(f.table.outstanding() == 3);
    CHECK(f.table.Complete(0));
    CHECK(f.table.Complete(1));
    CHECK(f.table.outstanding() == 0);
    CHECK(f.a->pins() == 0);
  }

  TEST_CASE("a batch that is refused lets go of what it had taken") {
    Fixture f;
    f.table.Begin(0, true);
    f.table.Add(0, f.a.get());
    f.table.Add(0, f.b.get());
    f.table.Drop(0);
    CHECK(f.a->pins() == 0);
    CHECK(f.b->pins() == 0);
    CHECK(f.table.outstanding() == 0);
  }

  TEST_CASE("the end of a queue pair retires all, and what comes later is refused") {
    Fixture f;
    for (int i = 0; i < 3; ++i) f.Post(i == 2, {f.a.get()});
    f.a->Close();
    f.table.RetireAll();
    CHECK(f.a->released == 1);
    CHECK(f.table.outstanding() == 0);
    for (uint32_t seq = 0; seq < 3; ++seq) CHECK(!f.table.Complete(seq));
  }
}

}  // namespace rdma::test
