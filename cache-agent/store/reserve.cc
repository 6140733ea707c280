// Room for what is to come: how much of it, in which tier.
#include <algorithm>

#include "cache-agent/store/store_internal.h"

namespace atlas::agent {
namespace {

/// Of so much data all that is charged, and with how little of it a part is worth it: a view of next to nothing costs
/// more than it saves.
struct Charge {
  Space wanted, least;
};
Charge charge_of(const ManifestSummary& summary, std::uint64_t data) {
  constexpr std::uint64_t kWorthIt = 20;
  const Space overhead = overhead_of(summary);
  return {overhead + Space{data, 0}, overhead + Space{std::min(data, summary.allocated / kWorthIt), 0}};
}

}  // namespace

Space overhead_of(const ManifestSummary& summary) {
  constexpr std::uint64_t kOwnInodes = 6;  // two directories, the manifest, residency, checksums, the files' keys
  return {64 * 1024 + summary.entries * 256 + summary.blocks * 9, summary.entries + kOwnInodes};
}

void Store::prefer(const DatasetId& dataset, const std::string& tier) {
  const std::lock_guard lock(mutex_);
  if (tier.empty()) {
    preferred_.erase(dataset);
  } else {
    preferred_[dataset] = tier;
  }
}

std::string Store::preferred(const DatasetId& dataset) const {
  const std::lock_guard lock(mutex_);
  const auto wanted = preferred_.find(dataset);
  return wanted == preferred_.end() ? "" : wanted->second;
}

/// The preferred one first.
std::vector<Store::Tier*> Store::tiers_for(const DatasetId& dataset) const {
  std::vector<Tier*> out;
  for (const auto& tier : tiers_) out.push_back(tier.get());
  std::stable_partition(out.begin(), out.end(),
                        [wanted = preferred(dataset)](const Tier* tier) { return tier->options.name == wanted; });
  return out;
}

Result<Reservation> Store::reserve(const DatasetId& dataset, const ManifestSummary& summary) {
  const Space whole = Space{summary.allocated, 0} + overhead_of(summary);
  if (const auto here = find(dataset, summary.generation)) {
    const Space need = whole.without({here->internals().charged, here->internals().inodes});
    ATLAS_TRY(make_room(*tier_named(here->tier()), need, need));
    return Reservation(*this, here->tier(), need);
  }
  const auto tiers = tiers_for(dataset);
  // What others need no more makes way for it in the tier that it was settled for; elsewhere only if all are full.
  if (tiers.front()->ok() && tiers.front()->options.name == preferred(dataset) &&
      make_room(*tiers.front(), whole, whole))
    return Reservation(*this, tiers.front()->options.name, whole);
  for (auto* tier : tiers)
    if (tier->ok() && try_take(*tier, whole)) return Reservation(*this, tier->options.name, whole);
  std::string why;
  for (auto* tier : tiers) {
    const auto made =
        tier->ok() ? make_room(*tier, whole, whole)
                   : Result<Space>(fail(Code::unavailable, "tier " + tier->options.name + " is " + tier->state()));
    if (made) return Reservation(*this, tier->options.name, whole);
    why += (why.empty() ? "" : "; ") + made.error().message;
  }
  return fail(Code::resource_exhausted, show(dataset) + " needs " + format_size(Bytes{whole.bytes}) + " and " +
                                            std::to_string(whole.inodes) +
                                            " inodes of cache: " + (why.empty() ? "no tier" : why));
}

Store::Need Store::need_of(const DatasetId& dataset, const ManifestSummary& summary, std::optional<Bytes> most,
                           Bytes lent) const {
  const std::uint64_t all = summary.allocated;
  const std::uint64_t data = most && most->count != 0 ? std::min(all, most->count) : all - std::min(all, lent.count);
  const auto here = find(dataset, summary.generation);
  const std::uint64_t have = here ? here->internals().charged.load() : 0;
  const auto more = [have](std::uint64_t than) { return Bytes{than - std::min(than, have)}; };
  const Charge charge = charge_of(summary, data);
  const Bytes wanted = more(charge.wanted.bytes);
  return {Bytes{have}, wanted, most ? more(charge.least.bytes) : wanted, Bytes{overhead_of(summary).bytes}};
}

Result<Reservation> Store::reserve_some(const DatasetId& dataset, const ManifestSummary& summary, Bytes most) {
  const std::uint64_t all = summary.allocated, data = most.count == 0 ? all : std::min(all, most.count);
  const auto [wanted, least] = charge_of(summary, data);
  const auto here = find(dataset, summary.generation);
  const Space have = here ? Space{here->internals().charged, here->internals().inodes} : Space{};
  std::string why;
  for (auto* tier : tiers_for(dataset)) {
    if (here ? tier->options.name != here->tier() : !tier->ok()) continue;
    auto made = make_room(*tier, least.without(have), wanted.without(have));
    if (made) {
      Reservation reservation(*this, tier->options.name, *made);
      reservation.some_ = true;
      return reservation;
    }
    why += (why.empty() ? "" : "; ") + made.error().message;
  }
  return fail(Code::resource_exhausted, "there is no room for a part of it: " + (why.empty() ? "no tier" : why));
}

Result<Reservation> Store::reserve(const DatasetId& dataset, const ManifestSummary& summary, Lender& lender) {
  if (!lender.files.empty() && !find(dataset, summary.generation)) {
    const Space whole = Space{summary.allocated, 0} + overhead_of(summary);
    const Space need = whole.without({std::min(summary.allocated, lender.bytes), lender.files.size()});
    if (make_room(*tier_named(lender.replica->tier()), need, need))
      return Reservation(*this, lender.replica->tier(), need);
  }
  if (lender.replica) lender.replica->forget_manifest();
  lender = {};
  return reserve(dataset, summary);
}

Lender Store::lender_for(const DatasetId& dataset, const Manifest& manifest) const {
  std::shared_ptr<Replica> candidate;
  WallTime newest{};
  {
    const std::lock_guard lock(mutex_);
    for (auto it = replicas_.lower_bound({dataset, {}}); it != replicas_.end() && it->first.first == dataset; ++it) {
      const auto& held = it->second;
      if (it->first.second == manifest.summary().generation || held.replica->state() != ReplicaState::complete)
        continue;
      if (!tier_named(held.replica->tier())->ok() || (candidate && held.observed <= newest)) continue;
      candidate = held.replica;
      newest = held.observed;
    }
  }
  if (!candidate) return {};
  auto lender = look_for_equal_files(std::move(candidate), manifest);
  return lender ? std::move(*lender) : Lender{};
}

}  // namespace atlas::agent
