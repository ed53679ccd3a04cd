#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace rdma {

/// The order of this enum is the order in which siblings are closed: work stops first, memory goes after it.
enum class Kind : uint8_t {
  kMemoryWindow,
  kQueuePair,
  kSharedReceiveQueue,
  kAddressHandle,
  kCompletionQueue,
  kCompletionChannel,
  kMemoryRegion,
  kAddressWindow,
  kDeviceMemory,
  kCmId,
  kEventChannel,
  kXrcDomain,
  kProtectionDomain,
  kThreadDomain,
  kDevice,
};

/// A node of the ownership graph. A child holds its parents' kernel handles strongly (handles.h), so
/// destruction can not come in a wrong order; a parent knows its children weakly and closes them before
/// itself.
class Object : public std::enable_shared_from_this<Object> {
 public:
  explicit Object(Kind kind) : kind_(kind) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  Kind kind() const noexcept { return kind_; }
  bool closed() const noexcept { return closed_; }

  /// Closes the children in the order of Kind, then this object. Idempotent.
  void Close();

  /// Called once, before the kernel's object goes and after it has gone, whoever asked for the close.
  std::function<void()> on_closing;
  std::function<void()> on_closed;

  /// The name that the binding gave to this object; 0 before that.
  uint32_t handle = 0;

 protected:
  void AddChild(const std::shared_ptr<Object>& child);
  /// For a child that goes to another parent.
  void RemoveChild(const Object* child);
  virtual void OnClose() = 0;

 private:
  std::vector<std::weak_ptr<Object>> children_;
  size_t prune_at_ = 16;
  const Kind kind_;
  bool closed_ = false;
};

}  // namespace rdma
