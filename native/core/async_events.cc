#include "async_events.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "error.h"
#include "removal_watch.h"

namespace rdma {

AsyncSubject SubjectOf(uint32_t type) noexcept {
  switch (type) {
    case IBV_EVENT_CQ_ERR:
      return AsyncSubject::kCompletionQueue;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return AsyncSubject::kQueuePair;
    case IBV_EVENT_SRQ_ERR:
    case IBV_EVENT_SRQ_LIMIT_REACHED:
      return AsyncSubject::kSharedReceiveQueue;
    // There are no objects for work queues (ibv_create_wq(3)).
    case IBV_EVENT_WQ_FATAL:
    case IBV_EVENT_DEVICE_FATAL:
    case kDeviceRemoved:
      return AsyncSubject::kDevice;
    default:
      return AsyncSubject::kPort;
  }
}

namespace {

const void* ElementOf(const ibv_async_event& event, AsyncSubject subject) noexcept {
  switch (subject) {
    case AsyncSubject::kQueuePair:
      return event.element.qp;
    case AsyncSubject::kCompletionQueue:
      return event.element.cq;
    case AsyncSubject::kSharedReceiveQueue:
      return event.element.srq;
    default:
      return nullptr;
  }
}

void Watch(int epoll_fd, int fd) {
  epoll_event interest = {};
  interest.events = EPOLLIN;
  interest.data.fd = fd;
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &interest) != 0) ThrowErrno("epoll_ctl", "asynchronous events");
}

}  // namespace

/// Reads the asynchronous events of one ibv_context, on whichever thread comes first, for all its openings.
class AsyncEventHub {
 public:
  /// The hub of [context]; it lives as long as one of its subscribers.
  static std::shared_ptr<AsyncEventHub> Of(const ContextPtr& context);

  explicit AsyncEventHub(ContextPtr context) : context_(std::move(context)), removal_(context_->device) {
    const int flags = fcntl(async_fd(), F_GETFL);
    if (flags < 0 || fcntl(async_fd(), F_SETFL, flags | O_NONBLOCK) < 0) ThrowErrno("fcntl", "O_NONBLOCK");
  }

  int async_fd() const noexcept { return context_->async_fd; }
  int removal_fd() const noexcept { return removal_.fd(); }

  void Add(AsyncEvents* subscriber) {
    const std::lock_guard lock(mutex_);
    subscribers_.push_back(subscriber);
  }

  void Remove(AsyncEvents* subscriber) {
    const std::lock_guard lock(mutex_);
    std::erase(subscribers_, subscriber);
    std::erase_if(tracked_, [&](const auto& entry) { return entry.second.owner == subscriber; });
  }

  void Track(AsyncEvents* owner, const void* verbs_object, const std::shared_ptr<Object>& object) {
    const std::lock_guard lock(mutex_);
    if (tracked_.size() >= prune_at_) {
      std::erase_if(tracked_, [](const auto& entry) { return entry.second.object.expired(); });
      prune_at_ = std::max<size_t>(64, tracked_.size() * 2);
    }
    tracked_[verbs_object] = {owner, object};
  }

  std::vector<AsyncEvent> Take(AsyncEvents* subscriber) {
    const std::lock_guard lock(mutex_);
    Read();
    CheckRemoval();
    if (ended_ && !subscriber->ended_) {
      // Nothing more will come, but the descriptor would stay readable for ever.
      subscriber->ended_ = true;
      epoll_ctl(subscriber->epoll_fd_, EPOLL_CTL_DEL, async_fd(), nullptr);
    }
    uint64_t count = 0;
    // Non-blocking; an eventfd that is 0 says EAGAIN.
    [[maybe_unused]] const ssize_t got = read(subscriber->wake_fd_, &count, sizeof count);
    return std::exchange(subscriber->pending_, {});
  }

 private:
  struct Owner {
    AsyncEvents* owner;
    std::weak_ptr<Object> object;
  };

  void Read() {
    while (!ended_) {
      ibv_async_event event = {};
      if (ibv_get_async_event(context_.get(), &event) != 0) {
        // EIO: the device has gone, what was queued has been read.
        ended_ = errno != EAGAIN && errno != EINTR;
        return;
      }
      const AsyncSubject subject = SubjectOf(event.event_type);
      const void* element = ElementOf(event, subject);
      ibv_ack_async_event(&event);
      if (element == nullptr) {
        const auto port =
            subject == AsyncSubject::kPort ? static_cast<uint8_t>(event.element.port_num) : uint8_t{0};
        for (AsyncEvents* subscriber : subscribers_) Deliver(subscriber, {event.event_type, port, {}});
      } else if (const auto it = tracked_.find(element); it != tracked_.end()) {
        Deliver(it->second.owner, {event.event_type, 0, it->second.object});
      }
    }
  }

  void CheckRemoval() {
    const auto seen = removal_.Check();
    if (seen == RemovalWatch::Seen::kRemoved && !removed_) {
      removed_ = true;
      for (AsyncEvents* subscriber : subscribers_) Deliver(subscriber, {kDeviceRemoved, 0, {}});
    }
    // librdmacm opens every device of the machine, also those that nobody here uses.
    if (seen == RemovalWatch::Seen::kOtherRemoved) ReleaseRemovedDevices();
  }

  static void Deliver(AsyncEvents* subscriber, AsyncEvent event) {
    subscriber->pending_.push_back(std::move(event));
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(subscriber->wake_fd_, &one, sizeof one);
  }

  const ContextPtr context_;
  RemovalWatch removal_;
  std::mutex mutex_;
  std::vector<AsyncEvents*> subscribers_;
  std::unordered_map<const void*, Owner> tracked_;
  size_t prune_at_ = 64;
  bool ended_ = false;
  bool removed_ = false;
};

std::shared_ptr<AsyncEventHub> AsyncEventHub::Of(const ContextPtr& context) {
  static std::mutex mutex;
  static std::map<ibv_context*, std::weak_ptr<AsyncEventHub>> hubs;
  const std::lock_guard lock(mutex);
  std::erase_if(hubs, [](const auto& entry) { return entry.second.expired(); });
  auto& known = hubs[context.get()];
  auto hub = known.lock();
  if (!hub) {
    hub = std::make_shared<AsyncEventHub>(context);
    known = hub;
  }
  return hub;
}

AsyncEvents::AsyncEvents(const ContextPtr& context) : hub_(AsyncEventHub::Of(context)) {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  try {
    if (epoll_fd_ < 0 || wake_fd_ < 0) ThrowErrno("epoll_create", "asynchronous events");
    Watch(epoll_fd_, wake_fd_);
    Watch(epoll_fd_, hub_->async_fd());
    if (hub_->removal_fd() >= 0) Watch(epoll_fd_, hub_->removal_fd());
  } catch (const Error&) {
    close(epoll_fd_);
    close(wake_fd_);
    throw;
  }
  hub_->Add(this);
}

AsyncEvents::~AsyncEvents() {
  hub_->Remove(this);
  close(epoll_fd_);
  close(wake_fd_);
}

void AsyncEvents::Track(const void* verbs_object, const std::shared_ptr<Object>& object) {
  hub_->Track(this, verbs_object, object);
}

std::vector<AsyncEvent> AsyncEvents::Take() { return hub_->Take(this); }

}  // namespace rdma
