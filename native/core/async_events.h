#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "handles.h"
#include "object.h"

namespace rdma {

/// What an event is about (ibv_get_async_event(3)).
enum class AsyncSubject : uint8_t { kDevice, kPort, kQueuePair, kCompletionQueue, kSharedReceiveQueue };

/// The subject of events of [type]; ibv_async_event.element has no tag of its own.
AsyncSubject SubjectOf(uint32_t type) noexcept;

/// The library's own event: the device is being removed (removal_watch.h). Above all of enum ibv_event_type.
inline constexpr uint32_t kDeviceRemoved = 0x100;

/// An asynchronous event, copied and acknowledged.
struct AsyncEvent {
  uint32_t type;                 // enum ibv_event_type, or kDeviceRemoved
  uint8_t port;                  // of a port event, else 0
  std::weak_ptr<Object> object;  // of an object's event
};

class AsyncEventHub;

/// The asynchronous events of one open Device.
///
/// Openings of one device can share an ibv_context, because librdmacm has one per process (handles.h), and
/// then share its descriptor: an event that one of them reads is for all. So a hub, one per ibv_context in
/// the process, reads; events of the device and its ports go to every opening, events of an object to the one
/// that made it. librdmacm itself never reads the descriptor.
class AsyncEvents {
 public:
  explicit AsyncEvents(const ContextPtr& context);
  ~AsyncEvents();
  AsyncEvents(const AsyncEvents&) = delete;
  AsyncEvents& operator=(const AsyncEvents&) = delete;

  /// Names [object] as the owner of a verbs object (ibv_qp*, ibv_cq*, ibv_srq*), so that its events find it.
  /// To be called once, after the verbs object has been made; nothing needs to be undone.
  void Track(const void* verbs_object, const std::shared_ptr<Object>& object);

  /// Readable when there may be events: an epoll descriptor.
  int fd() const noexcept { return epoll_fd_; }

  /// The events since the last call; never blocks. They are acknowledged as they are read, because
  /// ibv_destroy_qp(3) waits for that.
  std::vector<AsyncEvent> Take();

 private:
  friend class AsyncEventHub;

  std::shared_ptr<AsyncEventHub> hub_;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  bool ended_ = false;  // under the hub's lock, as all below
  std::vector<AsyncEvent> pending_;
};

}  // namespace rdma
