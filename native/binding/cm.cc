#include "../core/cm.h"

#include <optional>

#include "../core/reaper.h"
#include "cm_values.h"
#include "qp_attr.h"
#include "work.h"

namespace binding {

namespace {

using rdma::CmId;
using rdma::EventChannel;
using rdma::Kind;
using rdma::SocketAddress;

std::shared_ptr<CmId> IdAt(const Napi::CallbackInfo& info, size_t i) {
  return Object<CmId>(info, i, Kind::kCmId);
}

/// createId(channel, portSpace): handle
Napi::Value CreateId(const Napi::CallbackInfo& info) {
  const auto id = CmId::Create(Object<EventChannel>(info, 0, Kind::kEventChannel),
                               static_cast<rdma_port_space>(U32(info, 1)));
  return Napi::Number::New(info.Env(), EnvState::From(info.Env())->Register(id));
}

/// bindAddr(id, host, port, scopeId)
Napi::Value BindAddr(const Napi::CallbackInfo& info) {
  IdAt(info, 0)->Bind(AddressAt(info, 1));
  return info.Env().Undefined();
}

/// listen(id, backlog)
Napi::Value Listen(const Napi::CallbackInfo& info) {
  IdAt(info, 0)->Listen(static_cast<int>(U32(info, 1)));
  return info.Env().Undefined();
}

/// resolveAddr(id, host, port, scopeId, timeoutMs, sourceHost | undefined, sourcePort, sourceScopeId)
Napi::Value ResolveAddr(const Napi::CallbackInfo& info) {
  std::optional<SocketAddress> source;
  if (!info[5].IsUndefined()) source = AddressAt(info, 5);
  IdAt(info, 0)->ResolveAddr(source, AddressAt(info, 1), static_cast<int>(U32(info, 4)));
  return info.Env().Undefined();
}

/// resolveRoute(id, timeoutMs)
Napi::Value ResolveRoute(const Napi::CallbackInfo& info) {
  IdAt(info, 0)->ResolveRoute(static_cast<int>(U32(info, 1)));
  return info.Env().Undefined();
}

Bytes PrivateData(const Napi::CallbackInfo& info, size_t i) {
  const Bytes data = View(info, i);
  if (data.length > 255) throw Napi::RangeError::New(info.Env(), "private data of more than 255 bytes");
  return data;
}

rdma_conn_param ConnParam(const Napi::CallbackInfo& info) {
  const Bytes data = PrivateData(info, 1);
  rdma_conn_param param = {};
  param.private_data = data.length == 0 ? nullptr : data.data;
  param.private_data_len = static_cast<uint8_t>(data.length);
  param.responder_resources = static_cast<uint8_t>(U32(info, 2));
  param.initiator_depth = static_cast<uint8_t>(U32(info, 3));
  param.flow_control = static_cast<uint8_t>(U32(info, 4));
  param.retry_count = static_cast<uint8_t>(U32(info, 5));
  param.rnr_retry_count = static_cast<uint8_t>(U32(info, 6));
  param.qp_num = U32(info, 7);
  param.srq = static_cast<uint8_t>(U32(info, 8));
  return param;
}

/// A connect on the pool, and everything that may not go while it runs.
struct ConnectJob {
  std::shared_ptr<CmId> object;
  rdma::CmIdPtr id;  // goes before the object, to which librdmacm's events point
  rdma::QpPtr queue_pair;
  rdma_conn_param param;
  std::vector<uint8_t> private_data;

  ~ConnectJob() {
    // Closed meanwhile: these may be the last references, and their destruction may block.
    if (!object || !object->closed()) return;
    rdma::Reap([keep = std::move(object), last = std::move(id), qp = std::move(queue_pair)]() mutable {
      qp.reset();
      last.reset();
    });
  }
};

/// connect(id, ...NativeConnParam): Promise that says only that the request is on its way. On the pool,
/// because siw makes its TCP connection inside the call (kernel sw/siw/siw_cm.c siw_connect).
Napi::Value Connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto job = std::make_shared<ConnectJob>();
  job->param = ConnParam(info);
  job->object = IdAt(info, 0);
  job->object->CheckConnect(job->param);
  job->id = job->object->id();
  job->queue_pair = job->object->queue_pair();
  job->object->BeginConnect();
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
        if (!job->object->closed()) job->object->EndConnect();
        deferred.Reject(EnvState::From(env)->MakeError(error->syscall(), error->err(), error->detail()));
      });
  return deferred.Promise();
}

/// accept(id, ...NativeConnParam)
Napi::Value Accept(const Napi::CallbackInfo& info) {
  rdma_conn_param param = ConnParam(info);
  IdAt(info, 0)->Accept(&param);
  return info.Env().Undefined();
}

/// reject(id, privateData, because of ECE)
Napi::Value Reject(const Napi::CallbackInfo& info) {
  const Bytes data = PrivateData(info, 1);
  IdAt(info, 0)->Reject({data.data, data.data + data.length}, info[2].ToBoolean());
  return info.Env().Undefined();
}

/// establish(id)
Napi::Value Establish(const Napi::CallbackInfo& info) {
  IdAt(info, 0)->Establish();
  return info.Env().Undefined();
}

/// disconnect(id)
Napi::Value Disconnect(const Napi::CallbackInfo& info) {
  IdAt(info, 0)->Disconnect();
  return info.Env().Undefined();
}

/// notify(id, eventType)
Napi::Value Notify(const Napi::CallbackInfo& info) {
  IdAt(info, 0)->Notify(static_cast<ibv_event_type>(U32(info, 1)));
  return info.Env().Undefined();
}

/// migrateId(id, channel)
Napi::Value MigrateId(const Napi::CallbackInfo& info) {
  IdAt(info, 0)->Migrate(Object<EventChannel>(info, 1, Kind::kEventChannel));
  return info.Env().Undefined();
}

/// setOption(id, name, value): of the level RDMA_OPTION_ID
Napi::Value SetOption(const Napi::CallbackInfo& info) {
  const auto id = IdAt(info, 0);
  const uint32_t name = U32(info, 1);
  const uint32_t value = U32(info, 2);
  if (name == RDMA_OPTION_ID_TOS || name == RDMA_OPTION_ID_ACK_TIMEOUT) {
    id->SetOption(static_cast<int>(name), static_cast<uint8_t>(value));
  } else {
    id->SetOption(static_cast<int>(name), static_cast<int>(value));
  }
  return info.Env().Undefined();
}

/// setLocalEce(id, vendorId, options)
Napi::Value SetLocalEce(const Napi::CallbackInfo& info) {
  ibv_ece ece = {};
  ece.vendor_id = U32(info, 1);
  ece.options = U32(info, 2);
  IdAt(info, 0)->SetLocalEce(ece);
  return info.Env().Undefined();
}

/// getRemoteEce(id): { vendorId, options }
Napi::Value GetRemoteEce(const Napi::CallbackInfo& info) {
  const ibv_ece ece = IdAt(info, 0)->RemoteEce();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("vendorId", Napi::Number::New(info.Env(), ece.vendor_id));
  result.Set("options", Napi::Number::New(info.Env(), ece.options));
  return result;
}

/// initQpAttr(id, state): the attributes that the queue pair needs, only those
Napi::Value InitQpAttr(const Napi::CallbackInfo& info) {
  const auto [attr, mask] = IdAt(info, 0)->InitQpAttr(static_cast<ibv_qp_state>(U32(info, 1)));
  return QpAttrValue(info.Env(), attr, mask);
}

/// describeId(id): { device, portNum, gid, peerGid, pkey, local, peer }, as far as known
Napi::Value DescribeId(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto id = IdAt(info, 0);
  Napi::Object result = Napi::Object::New(env);
  result.Set("device", id->DeviceName());
  if (id->id()->verbs != nullptr) {
    const rdma_ib_addr& addr = id->id()->route.addr.addr.ibaddr;
    result.Set("portNum", Napi::Number::New(env, id->id()->port_num));
    result.Set("gid", GidText(addr.sgid));
    result.Set("peerGid", GidText(addr.dgid));
    result.Set("pkey", Napi::Number::New(env, be16toh(addr.pkey)));
  }
  result.Set("local", AddressValue(env, id->LocalAddress()));
  result.Set("peer", AddressValue(env, id->PeerAddress()));
  return result;
}

}  // namespace

void RegisterCm(Napi::Env env, Napi::Object exports) {
  Export<CreateId>(env, exports, "createId");
  Export<BindAddr>(env, exports, "bindAddr");
  Export<Listen>(env, exports, "listen");
  Export<ResolveAddr>(env, exports, "resolveAddr");
  Export<ResolveRoute>(env, exports, "resolveRoute");
  Export<Connect>(env, exports, "connect");
  Export<Accept>(env, exports, "accept");
  Export<Reject>(env, exports, "reject");
  Export<Establish>(env, exports, "establish");
  Export<Disconnect>(env, exports, "disconnect");
  Export<Notify>(env, exports, "notify");
  Export<MigrateId>(env, exports, "migrateId");
  Export<SetOption>(env, exports, "setOption");
  Export<SetLocalEce>(env, exports, "setLocalEce");
  Export<GetRemoteEce>(env, exports, "getRemoteEce");
  Export<InitQpAttr>(env, exports, "initQpAttr");
  Export<DescribeId>(env, exports, "describeId");
  RegisterCmChannel(env, exports);
  RegisterCmMulticast(env, exports);
  RegisterCmAddrInfo(env, exports);
}

}  // namespace binding
