#include "../core/cm.h"

#include <optional>

#include "args.h"
#include "uv_handle.h"
#include "work.h"

namespace binding {

namespace {

using rdma::CmEvent;
using rdma::CmId;
using rdma::EventChannel;
using rdma::Kind;
using rdma::SocketAddress;

constexpr int kEventsPerTurn = 64;

/// Brings the events of a channel to JavaScript, copied and acknowledged.
class CmPoller {
 public:
  CmPoller(EnvState* state, std::shared_ptr<EventChannel> channel, std::unique_ptr<ValueRef> callback)
      : state_(state),
        channel_(std::move(channel)),
        callback_(std::move(callback)),
        poll_(state->HoldForClose()) {
    rdma::Check(uv_poll_init(state->loop(), poll_.get(), channel_->fd()), "uv_poll_init");
    poll_.MarkInitialised();
    poll_.get()->data = this;
    SetRef(false);
    rdma::Check(
        uv_poll_start(poll_.get(), UV_READABLE,
                      [](uv_poll_t* handle, int, int) { static_cast<CmPoller*>(handle->data)->Run(); }),
        "uv_poll_start");
  }

  void SetRef(bool ref) {
    auto* handle = reinterpret_cast<uv_handle_t*>(poll_.get());
    if (ref) {
      uv_ref(handle);
    } else {
      uv_unref(handle);
    }
  }

  void Stop() { poll_.Close(); }

 private:
  void Run();
  void Dispatch(CmEvent event);

  EnvState* state_;
  std::shared_ptr<EventChannel> channel_;
  std::unique_ptr<ValueRef> callback_;
  UvHandle<uv_poll_t> poll_;
};

void CmPoller::Run() {
  // JavaScript may close the channel during a call, and with it this object. What is left of the events keeps
  // the descriptor readable for the next turn.
  const auto channel = channel_;
  EnvState* state = state_;
  for (int i = 0; i < kEventsPerTurn && !channel->closed() && !state->closing(); ++i) {
    try {
      auto event = channel->Next();
      if (!event) return;
      Dispatch(std::move(*event));
    } catch (const rdma::Error& error) {
      Napi::HandleScope scope(state->env());
      napi_fatal_exception(state->env(), state->MakeError(error.syscall(), error.err(), error.detail()));
      return;
    }
  }
}

void CmPoller::Dispatch(CmEvent event) {
  const Napi::Env env = state_->env();
  Napi::HandleScope scope(env);
  const uint32_t handle =
      event.type == RDMA_CM_EVENT_CONNECT_REQUEST ? state_->Register(event.id) : event.id->handle;
  const uint32_t listener = event.listener ? event.listener->handle : 0;
  const Napi::Value data =
      Napi::Buffer<uint8_t>::Copy(env, event.private_data.data(), event.private_data.size());
  CallFromLoop(
      state_, *callback_,
      {Napi::Number::New(env, event.type), Napi::Number::New(env, event.status),
       Napi::Number::New(env, handle), Napi::Number::New(env, listener), data,
       Napi::Number::New(env, event.responder_resources), Napi::Number::New(env, event.initiator_depth)});
}

/// createEventChannel(callback): handle. callback(type, status, id, listener, privateData,
/// responderResources, initiatorDepth)
Napi::Value CreateEventChannel(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  const auto channel = EventChannel::Create();
  const auto poller =
      std::make_shared<CmPoller>(state, channel, std::make_unique<ValueRef>(info.Env(), Callback(info, 0)));
  channel->on_closing = [poller] { poller->Stop(); };
  return Napi::Number::New(info.Env(), state->Register(channel, poller));
}

/// refEventChannel(channel, ref): whether the channel keeps the process alive.
Napi::Value RefEventChannel(const Napi::CallbackInfo& info) {
  EnvState* state = EnvState::From(info.Env());
  const uint32_t handle = U32(info, 0);
  if (state->Find(handle, Kind::kEventChannel) != nullptr) {
    static_cast<CmPoller*>(state->Kept(handle))->SetRef(info[1].ToBoolean());
  }
  return info.Env().Undefined();
}

SocketAddress AddressAt(const Napi::CallbackInfo& info, size_t i) {
  const std::string host = Text(info, i);
  return {host, static_cast<uint16_t>(U32(info, i + 1)), host.find(':') != std::string::npos};
}

/// createId(channel): handle
Napi::Value CreateId(const Napi::CallbackInfo& info) {
  const auto id = CmId::Create(Object<EventChannel>(info, 0, Kind::kEventChannel));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(id));
}

/// bindAddr(id, host, port)
Napi::Value BindAddr(const Napi::CallbackInfo& info) {
  Object<CmId>(info, 0, Kind::kCmId)->Bind(AddressAt(info, 1));
  return info.Env().Undefined();
}

/// listen(id, backlog)
Napi::Value Listen(const Napi::CallbackInfo& info) {
  Object<CmId>(info, 0, Kind::kCmId)->Listen(static_cast<int>(U32(info, 1)));
  return info.Env().Undefined();
}

/// resolveAddr(id, host, port, timeoutMs, sourceHost | undefined, sourcePort)
Napi::Value ResolveAddr(const Napi::CallbackInfo& info) {
  std::optional<SocketAddress> source;
  if (!info[4].IsUndefined()) source = AddressAt(info, 4);
  Object<CmId>(info, 0, Kind::kCmId)->ResolveAddr(source, AddressAt(info, 1), static_cast<int>(U32(info, 3)));
  return info.Env().Undefined();
}

/// resolveRoute(id, timeoutMs)
Napi::Value ResolveRoute(const Napi::CallbackInfo& info) {
  Object<CmId>(info, 0, Kind::kCmId)->ResolveRoute(static_cast<int>(U32(info, 1)));
  return info.Env().Undefined();
}

rdma_conn_param ConnParam(const Napi::CallbackInfo& info) {
  const Bytes data = View(info, 1);
  if (data.length > 255) throw Napi::RangeError::New(info.Env(), "private data of more than 255 bytes");
  rdma_conn_param param = {};
  param.private_data = data.length == 0 ? nullptr : data.data;
  param.private_data_len = static_cast<uint8_t>(data.length);
  param.responder_resources = static_cast<uint8_t>(U32(info, 2));
  param.initiator_depth = static_cast<uint8_t>(U32(info, 3));
  param.flow_control = static_cast<uint8_t>(U32(info, 4));
  param.retry_count = static_cast<uint8_t>(U32(info, 5));
  param.rnr_retry_count = static_cast<uint8_t>(U32(info, 6));
  return param;
}

/// A connect on the pool, and everything that may not go while it runs.
struct ConnectJob {
  std::shared_ptr<CmId> object;
  rdma::CmIdPtr id;  // goes before the object, to which librdmacm's events point
  rdma::QpPtr queue_pair;
  rdma_conn_param param;
  std::vector<uint8_t> private_data;
};

/// connect(id, privateData, responderResources, initiatorDepth, flowControl, retryCount, rnrRetryCount):
/// Promise that says only that the request is on its way. On the pool, because siw makes its TCP connection
/// inside the call (kernel sw/siw/siw_cm.c siw_connect).
Napi::Value Connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto job = std::make_shared<ConnectJob>();
  job->param = ConnParam(info);
  job->object = Object<CmId>(info, 0, Kind::kCmId);
  job->object->RequireDevice("rdma_connect");
  job->id = job->object->id();
  job->queue_pair = job->object->queue_pair();
  const auto* data = static_cast<const uint8_t*>(job->param.private_data);
  job->private_data.assign(data, data + job->param.private_data_len);
  job->param.private_data = job->private_data.data();
  const auto deferred = Napi::Promise::Deferred::New(env);
  Work::Queue(
      env, [job] { CmId::Connect(job->id, &job->param); },
      [env, deferred, job](const std::optional<rdma::Error>& error) {
        if (!error) {
          deferred.Resolve(env.Undefined());
          return;
        }
        deferred.Reject(EnvState::From(env)->MakeError(error->syscall(), error->err(), error->detail()));
      });
  return deferred.Promise();
}

/// accept(id, privateData, responderResources, initiatorDepth, flowControl, retryCount, rnrRetryCount)
Napi::Value Accept(const Napi::CallbackInfo& info) {
  rdma_conn_param param = ConnParam(info);
  Object<CmId>(info, 0, Kind::kCmId)->Accept(&param);
  return info.Env().Undefined();
}

/// reject(id, privateData)
Napi::Value Reject(const Napi::CallbackInfo& info) {
  const Bytes data = View(info, 1);
  if (data.length > 255) throw Napi::RangeError::New(info.Env(), "private data of more than 255 bytes");
  Object<CmId>(info, 0, Kind::kCmId)->Reject({data.data, data.data + data.length});
  return info.Env().Undefined();
}

/// disconnect(id)
Napi::Value Disconnect(const Napi::CallbackInfo& info) {
  Object<CmId>(info, 0, Kind::kCmId)->Disconnect();
  return info.Env().Undefined();
}

Napi::Value DescribeAddress(Napi::Env env, const std::optional<SocketAddress>& address) {
  if (!address) return env.Undefined();
  Napi::Object result = Napi::Object::New(env);
  result.Set("host", address->host);
  result.Set("port", Napi::Number::New(env, address->port));
  result.Set("family", address->v6 ? "IPv6" : "IPv4");
  return result;
}

/// describeId(id): { device, local, peer }, as far as known.
Napi::Value DescribeId(const Napi::CallbackInfo& info) {
  const auto id = Object<CmId>(info, 0, Kind::kCmId);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("device", id->DeviceName());
  result.Set("local", DescribeAddress(info.Env(), id->LocalAddress()));
  result.Set("peer", DescribeAddress(info.Env(), id->PeerAddress()));
  return result;
}

}  // namespace

void RegisterCm(Napi::Env env, Napi::Object exports) {
  Export<CreateEventChannel>(env, exports, "createEventChannel");
  Export<RefEventChannel>(env, exports, "refEventChannel");
  Export<CreateId>(env, exports, "createId");
  Export<BindAddr>(env, exports, "bindAddr");
  Export<Listen>(env, exports, "listen");
  Export<ResolveAddr>(env, exports, "resolveAddr");
  Export<ResolveRoute>(env, exports, "resolveRoute");
  Export<Connect>(env, exports, "connect");
  Export<Accept>(env, exports, "accept");
  Export<Reject>(env, exports, "reject");
  Export<Disconnect>(env, exports, "disconnect");
  Export<DescribeId>(env, exports, "describeId");
}

}  // namespace binding
