#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/pinnable.h"

namespace rdma::test {

using Log = std::vector<std::string>;

/// A node of the ownership graph without anything behind it, which notes when it goes.
class Node : public Object {
 public:
  Node(Kind kind, std::string name, Log* log) : Object(kind), name_(std::move(name)), log_(log) {}

  void Adopt(const std::shared_ptr<Object>& child) { AddChild(child); }
  void Disown(const Object* child) { RemoveChild(child); }

 protected:
  void OnClose() override { log_->push_back(name_); }

 private:
  const std::string name_;
  Log* const log_;
};

/// Something that a work request can hold.
class Held : public Pinnable {
 public:
  Held() : Pinnable(Kind::kMemoryRegion) {}

  int unlisted = 0;
  int released = 0;

 protected:
  void Unlist() override { ++unlisted; }
  void Release() override { ++released; }
};

}  // namespace rdma::test
