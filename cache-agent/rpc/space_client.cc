#include "cache-agent/rpc/space_client.h"

#include "proto/client.h"
#include "proto/convert.h"

namespace atlas::agent {
namespace {

constexpr milliseconds kThereAndBack{500};

}  // namespace

Result<SpaceAnswer> SpaceClient::ask(const SpaceQuestion& question) {
  v1::ReserveCacheRequest request;
  request.set_node(node_);
  *request.mutable_dataset() = to_wire(question.dataset);
  request.set_generation(question.generation.bytes());
  *request.mutable_payer() = to_wire(question.payer);
  request.set_have(question.have.count);
  request.set_most(question.most.count);
  request.set_least(question.least.count);
  request.set_wait(question.patience.count());
  ATLAS_ASSIGN(const v1::ReserveCacheReply reply,
               call(auth_, *stub_, &v1::Controller::Stub::ReserveCache, "Controller.ReserveCache", request,
                    question.patience + kThereAndBack, peer_));
  return SpaceAnswer{Bytes{reply.granted()}, reply.reason()};
}

}  // namespace atlas::agent
