#include "../core/cm.h"
#include "../core/cm_event.h"
#include "cm_values.h"
#include "qp_attr.h"
#include "uv_handle.h"

namespace binding {

namespace {

using rdma::CmEvent;
using rdma::EventChannel;
using rdma::Kind;

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
    } catch (const Napi::Error&) {
      // The environment is ending (worker.terminate()): it makes no objects any more.
      return;
    }
  }
}

Napi::Object ConnValue(Napi::Env env, const rdma_conn_param& conn) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("responderResources", Napi::Number::New(env, conn.responder_resources));
  result.Set("initiatorDepth", Napi::Number::New(env, conn.initiator_depth));
  result.Set("flowControl", Napi::Boolean::New(env, conn.flow_control != 0));
  result.Set("retryCount", Napi::Number::New(env, conn.retry_count));
  result.Set("rnrRetryCount", Napi::Number::New(env, conn.rnr_retry_count));
  result.Set("srq", Napi::Boolean::New(env, conn.srq != 0));
  result.Set("qpNum", Napi::Number::New(env, conn.qp_num));
  return result;
}

Napi::Object UdValue(Napi::Env env, const rdma_ud_param& ud) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("ahAttr", FromAhAttr(env, ud.ah_attr));
  result.Set("qpNum", Napi::Number::New(env, ud.qp_num));
  result.Set("qkey", Napi::Number::New(env, ud.qkey));
  return result;
}

void CmPoller::Dispatch(CmEvent event) {
  const Napi::Env env = state_->env();
  Napi::HandleScope scope(env);
  const uint32_t handle =
      event.type == RDMA_CM_EVENT_CONNECT_REQUEST ? state_->Register(event.id) : event.id->handle;
  const uint32_t listener = event.listener ? event.listener->handle : 0;
  Napi::Value param = env.Undefined();
  if (event.param == CmEvent::Param::kConn) param = ConnValue(env, event.conn);
  if (event.param == CmEvent::Param::kUd) param = UdValue(env, event.ud);
  CallFromLoop(state_, *callback_,
               {Napi::Number::New(env, event.type), Napi::Number::New(env, event.status),
                Napi::Number::New(env, handle), Napi::Number::New(env, listener),
                BytesValue(env, event.private_data), param, Napi::Number::New(env, event.group)});
}

/// createEventChannel(callback): handle. callback(type, status, id, listener, privateData, param, group)
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

}  // namespace

void RegisterCmChannel(Napi::Env env, Napi::Object exports) {
  Export<CreateEventChannel>(env, exports, "createEventChannel");
  Export<RefEventChannel>(env, exports, "refEventChannel");
}

}  // namespace binding
