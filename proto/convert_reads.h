#pragma once
#include "atlas/v1/controller.pb.h"
#include "common/read_rates.h"
#include "proto/convert.h"

namespace atlas {

[[nodiscard]] inline ReadRates from_wire(const v1::ReadRates& in) {
  return {in.origin_bytes(), in.origin_operations(), in.throttled_bytes(), in.peer_bytes(),
          in.asked_bytes(),  in.hit_bytes(),         in.waiting()};
}

[[nodiscard]] inline v1::ReadRates to_wire(const ReadRates& in) {
  v1::ReadRates out;
  out.set_origin_bytes(in.origin_bytes);
  out.set_origin_operations(in.origin_operations);
  out.set_throttled_bytes(in.throttled_bytes);
  out.set_peer_bytes(in.peer_bytes);
  out.set_asked_bytes(in.asked_bytes);
  out.set_hit_bytes(in.hit_bytes);
  out.set_waiting(in.waiting);
  return out;
}

[[nodiscard]] inline DatasetReads from_wire(const v1::Reads::Of& in) {
  return {from_wire(in.dataset()), in.uid(), from_wire(in.rates())};
}

[[nodiscard]] inline v1::Reads::Of to_wire(const DatasetReads& in) {
  v1::Reads::Of out;
  *out.mutable_dataset() = to_wire(in.dataset);
  out.set_uid(in.uid);
  *out.mutable_rates() = to_wire(in.rates);
  return out;
}

}  // namespace atlas
