#include "reaper.h"

#include <dlfcn.h>

#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace rdma {

namespace {

struct Queue {
  std::mutex mutex;
  std::deque<std::function<void()>> tasks;
  bool running = false;
};

/// Never destroyed: the thread may outlive static objects.
Queue& TheQueue() {
  static auto* queue = new Queue;
  return *queue;
}

/// A worker that ends unloads the addon; the thread's code must stay.
void StayLoaded() {
  Dl_info info = {};
  if (dladdr(reinterpret_cast<void*>(&StayLoaded), &info) == 0) return;
  dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

void Drain() {
  Queue& queue = TheQueue();
  std::unique_lock<std::mutex> lock(queue.mutex);
  while (!queue.tasks.empty()) {
    std::function<void()> task = std::move(queue.tasks.front());
    queue.tasks.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
  queue.running = false;
}

}  // namespace

void Reap(std::function<void()> destroy) {
  Queue& queue = TheQueue();
  const std::lock_guard<std::mutex> lock(queue.mutex);
  queue.tasks.push_back(std::move(destroy));
  if (queue.running) return;
  StayLoaded();
  try {
    std::thread(Drain).detach();
    queue.running = true;
  } catch (const std::system_error&) {
    // No thread to be had: the next call tries again.
  }
}

}  // namespace rdma
