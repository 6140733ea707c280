#include "controller/staging/rates.h"

#include <algorithm>
#include <cmath>

namespace atlas {
namespace {

using namespace std::chrono_literals;

// Shorter looks say little: what is counted comes in files and blocks.
constexpr auto kLook = 1s;
constexpr auto kShortestLook = 100ms;  // of a transfer that ends
// What was best is forgotten in so many seconds of reading at another rate.
constexpr double kForget = 60;

Bytes bytes(double count) {
  return Bytes{static_cast<std::uint64_t>(std::max(0.0, count))};
}

/// At once up, slowly down.
void follow(double& best, double rate, double seconds) {
  best = rate >= best ? rate : best - (best - rate) * (1 - std::exp(-seconds / kForget));
}

}  // namespace

void TransferRates::Source::set(const Transfer& transfer, double rate) {
  auto& its = active[transfer];
  now += rate - its;
  its = rate;
}

void TransferRates::Source::drop(const Transfer& transfer) {
  const auto at = active.find(transfer);
  if (at == active.end()) return;
  now -= at->second;
  active.erase(at);
  if (active.empty()) now = 0;  // what rounding has left
}

void TransferRates::load(const std::map<std::string, Known>& known) {
  for (const auto& [source, rates] : known)
    sources_[source] = {static_cast<double>(rates.one.count), static_cast<double>(rates.all.count)};
}

std::map<std::string, TransferRates::Known> TransferRates::known() const {
  std::map<std::string, Known> out;
  for (const auto& [name, source] : sources_)
    if (source.one > 0) out[name] = {bytes(source.one), bytes(source.all)};
  return out;
}

void TransferRates::note(const std::string& node, const DatasetId& dataset, const WarmProgress& progress,
                         bool limited) {
  const bool over = progress.phase == WarmPhase::complete;
  if (progress.phase != WarmPhase::fetching && !over) return;
  const Transfer transfer(node, dataset);
  const auto now = clock_.now();
  const auto [at, first] =
      samples_.try_emplace(transfer, Sample{now, progress.origin_bytes, progress.peer_bytes, limited});
  auto& last = at->second;
  last.limited = last.limited || limited;
  const auto time = now - last.at;
  if (first || time < (over ? std::chrono::nanoseconds(kShortestLook) : std::chrono::nanoseconds(kLook))) return;
  const double seconds = std::chrono::duration<double>(time).count();
  const auto since = [&](Bytes then, Bytes count) {
    return count > then ? static_cast<double>((count - then).count) / seconds : 0.0;
  };
  const double from_origin = since(last.origin, progress.origin_bytes),
               from_nodes = since(last.peers, progress.peer_bytes);
  if (!last.limited) learn(dataset.origin, transfer, from_origin, from_origin + from_nodes, seconds);
  learn("", transfer, from_nodes, from_origin + from_nodes, seconds);
  last = {now, progress.origin_bytes, progress.peer_bytes, last.limited};
}

/// `of`: what the transfer has got from all sources. Where another one gave most, this one could have given more.
void TransferRates::learn(const std::string& source, const Transfer& transfer, double rate, double of, double seconds) {
  if (rate <= 0) {
    if (const auto at = sources_.find(source); at != sources_.end()) at->second.drop(transfer);
    return;
  }
  auto& known = sources_[source];
  known.set(transfer, rate);
  const double all = known.now;
  // One of many gets less than it would alone, one alone less than all could get: neither is news.
  const bool its_own = rate >= of / 2;
  if ((known.active.size() == 1 && its_own) || rate > known.one) follow(known.one, rate, seconds);
  if (known.active.size() > 1 || all > known.all) follow(known.all, all, seconds);
  known.all = std::max(known.all, known.one);
}

void TransferRates::ended(const std::string& node, const DatasetId& dataset) {
  const Transfer transfer(node, dataset);
  samples_.erase(transfer);
  for (auto& [name, source] : sources_) source.drop(transfer);
}

Bytes TransferRates::expected(const std::string& source) const {
  const auto at = sources_.find(source);
  if (at == sources_.end()) return {};
  const auto& known = at->second;
  return bytes(std::min(known.one, known.all / static_cast<double>(1 + known.active.size())));
}

TransferRates::Known TransferRates::of_origin(const std::string& origin) const {
  const auto at = sources_.find(origin);
  return at == sources_.end() ? Known{} : Known{bytes(at->second.one), bytes(at->second.all)};
}

Bytes TransferRates::into_node() const {
  double most = 0;
  for (const auto& [name, source] : sources_) most = std::max(most, source.one);
  return bytes(most);
}

}  // namespace atlas
