#pragma once

#include <napi.h>

#include <functional>
#include <optional>

#include "../core/error.h"
#include "env.h"

namespace binding {

/// Runs a blocking call on libuv's thread pool.
class Work : public Napi::AsyncWorker {
 public:
  /// [execute] runs on the pool and may throw rdma::Error; [done] runs on the JavaScript thread with what it
  /// threw. When the environment ends first, neither [done] nor any JavaScript runs.
  static void Queue(Napi::Env env, std::function<void()> execute,
                    std::function<void(const std::optional<rdma::Error>&)> done) {
    (new Work(env, std::move(execute), std::move(done)))->AsyncWorker::Queue();
  }

 protected:
  void Execute() override {
    try {
      execute_();
    } catch (const rdma::Error& error) {
      error_.emplace(error);
    }
    execute_ = nullptr;
  }

  void OnOK() override {
    if (!EnvState::From(Env())->closing()) done_(error_);
  }

 private:
  Work(Napi::Env env, std::function<void()> execute,
       std::function<void(const std::optional<rdma::Error>&)> done)
      : AsyncWorker(env, "node-rdma"), execute_(std::move(execute)), done_(std::move(done)) {}

  std::function<void()> execute_;
  std::function<void(const std::optional<rdma::Error>&)> done_;
  std::optional<rdma::Error> error_;
};

}  // namespace binding
