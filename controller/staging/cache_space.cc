#include "controller/staging/cache_space.h"

#include <algorithm>

namespace atlas {
namespace {

using namespace std::chrono_literals;

/// An agent that was granted space says that it has taken it within milliseconds, or has not taken it.
constexpr auto kReported = 30s;

Bytes less(Bytes from, Bytes what) {
  return from - std::min(from, what);
}

}  // namespace

Status CacheSpace::load() {
  ATLAS_ASSIGN(const auto rows, catalog_.limits());
  for (const auto& row : rows) limits_[{row.kind, row.name}] = row;
  index();
  return {};
}

Status CacheSpace::set(const LimitRow& limit) {
  ATLAS_TRY(catalog_.put_limit(limit));
  limits_[{limit.kind, limit.name}] = limit;
  index();
  return {};
}

Status CacheSpace::remove(LimitKind kind, const std::string& name) {
  if (!limits_.contains({kind, name}))
    return fail(Code::not_found,
                "no limit is set for " + std::string(name_of(kind)) + " '" + name + "' (atlasctl limit list)");
  ATLAS_TRY(catalog_.drop_limit(kind, name));
  limits_.erase({kind, name});
  index();
  return {};
}

void CacheSpace::index() {
  by_id_.clear();
  for (const auto& [key, limit] : limits_)
    if (limit.kind == LimitKind::user || limit.kind == LimitKind::group)
      by_id_.emplace(std::pair(limit.kind, limit.id), &limit);
}

const LimitRow* CacheSpace::find(LimitKind kind, const std::string& name) const {
  const auto at = limits_.find({kind, name});
  return at == limits_.end() ? nullptr : &at->second;
}

std::vector<const LimitRow*> CacheSpace::covering(const Payer& payer) const {
  std::vector<const LimitRow*> out;
  for (const auto& key : {std::pair(LimitKind::user, payer.uid), std::pair(LimitKind::group, payer.gid)})
    for (auto [at, end] = by_id_.equal_range(key); at != end; ++at) out.push_back(at->second);
  if (const auto* account = find(LimitKind::account, payer.account)) out.push_back(account);
  return out;
}

bool CacheSpace::covers(const LimitRow& limit, const Payer& payer) {
  switch (limit.kind) {
    case LimitKind::user:
      return limit.id == payer.uid;
    case LimitKind::group:
      return limit.id == payer.gid;
    case LimitKind::account:
      return limit.name == payer.account;
    case LimitKind::node:
    case LimitKind::origin:
      return false;  // they have no quota
  }
  return false;
}

Bytes CacheSpace::used(const LimitRow& limit, const Key* without) const {
  Bytes sum;
  each_charge(without, [&](const Payer& payer, Bytes bytes) {
    if (covers(limit, payer)) sum += bytes;
  });
  return sum;
}

/// All that is charged to anybody, with what is granted.
void CacheSpace::each_charge(const Key* without, const std::function<void(const Payer&, Bytes)>& visit) const {
  std::set<Key> counted;
  for (const auto& [node, agent] : registry_.agents()) {
    for (const auto& [id, replica] : agent.replicas) {
      const Key key{node, id.first, id.second};
      if (without != nullptr && key == *without) continue;
      const auto grant = grants_.find(key);
      const bool granted = grant != grants_.end() && grant->second.until > clock_.now();
      if (granted) counted.insert(key);
      const auto payer = granted ? std::optional(grant->second.payer) : replica.payer;
      if (payer) visit(*payer, granted ? std::max(grant->second.total, replica.charged) : replica.charged);
    }
  }
  for (const auto& [key, grant] : grants_)
    if (grant.until > clock_.now() && !counted.contains(key) && (without == nullptr || key != *without))
      visit(grant.payer, grant.total);
}

std::vector<LimitRow> CacheSpace::limits() const {
  std::vector<LimitRow> out;
  for (const auto& [key, limit] : limits_) out.push_back(limit);
  return out;
}

std::vector<CacheSpace::Use> CacheSpace::all() const {
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::string>, Bytes> by_payer;  // few, of many replicas
  each_charge(nullptr, [&](const Payer& payer, Bytes bytes) {
    by_payer[{payer.uid, payer.gid, payer.account}] += bytes;
  });
  std::vector<Use> out;
  for (const auto& [key, limit] : limits_) {
    out.push_back({limit, {}});
    for (const auto& [who, bytes] : by_payer)
      if (covers(limit, {std::get<0>(who), std::get<1>(who), std::get<2>(who)})) out.back().cache_used += bytes;
  }
  return out;
}

std::set<std::string> CacheSpace::accounts_of(std::uint32_t uid) const {
  std::set<std::string> out;
  for (const auto& [node, agent] : registry_.agents())
    for (const auto& [id, replica] : agent.replicas)
      if (replica.payer && replica.payer->uid == uid && !replica.payer->account.empty())
        out.insert(replica.payer->account);
  return out;
}

std::vector<const LimitRow*> CacheSpace::limits_of(const Payer& payer) const {
  auto out = covering(payer);
  std::erase_if(out, [](const LimitRow* limit) { return !limit->cache; });
  return out;
}

std::optional<LimitRow> CacheSpace::tightest(const Payer& payer) const {
  const auto limits = limits_of(payer);
  const auto least = std::min_element(limits.begin(), limits.end(),
                                      [](const auto* a, const auto* b) { return *a->cache < *b->cache; });
  return least == limits.end() ? std::nullopt : std::optional(**least);
}

Bytes CacheSpace::room(const Question& question, const LimitRow& limit) const {
  const Key key{question.node, question.dataset, question.generation};
  return less(*limit.cache, used(limit, &key) + question.have);
}

Bytes CacheSpace::room(const Question& question) const {
  Bytes least = question.most;
  for (const auto* limit : limits_of(question.payer)) least = std::min(least, room(question, *limit));
  return least;
}

std::string CacheSpace::why(const Question& question) const {
  const LimitRow* tight = nullptr;
  for (const auto* limit : limits_of(question.payer))
    if (tight == nullptr || room(question, *limit) < room(question, *tight)) tight = limit;
  if (tight == nullptr) return "";
  return "the cache quota of " + std::string(name_of(tight->kind)) + " " + tight->name + ", " +
         format_size(*tight->cache) + " on all nodes together, leaves " + format_size(room(question, *tight)) +
         " of the " + format_size(question.most) + " that it needs (atlasctl limit list)";
}

/// The same user's replicas that nobody holds, those that no pending job reads first, of these the least recently used:
/// so many as make room for all that is wanted. None when not even the least could be had so: nothing goes in vain.
std::vector<CacheSpace::Victim> CacheSpace::victims(const Pending& pending) const {
  const auto& q = pending.question;
  std::vector<Victim> found;
  for (const auto& [node, agent] : registry_.agents()) {
    if (!agent.connected) continue;
    for (const auto& [id, replica] : agent.replicas) {
      const Key key{node, id.first, id.second};
      if (!replica.payer || replica.payer->uid != q.payer.uid || !replica.leases.empty() || replica.pinned) continue;
      if (held_for_followers_.contains({node, id.first})) continue;
      if (key == Key{q.node, q.dataset, q.generation} || pending.tried.contains(key) || grants_.contains(key)) continue;
      found.push_back({key, &replica, agent.address});
    }
  }
  std::stable_sort(found.begin(), found.end(), [this](const Victim& a, const Victim& b) {
    const auto key = [this](const Victim& victim) {
      const auto at = wanted_.find(victim.replica->dataset);
      return std::pair(at == wanted_.end() ? 0 : at->second, victim.replica->last_used);
    };
    return key(a) < key(b);
  });
  std::vector<Victim> chosen;
  std::map<const LimitRow*, Bytes> has;
  for (const auto* limit : limits_of(q.payer)) has[limit] = room(q, *limit);
  for (const auto& victim : found) {
    bool helps = false;
    for (auto& [limit, bytes] : has) helps = helps || (bytes < q.most && covers(*limit, *victim.replica->payer));
    if (!helps) continue;
    for (auto& [limit, bytes] : has)
      if (covers(*limit, *victim.replica->payer)) bytes += victim.replica->charged;
    chosen.push_back(victim);
  }
  for (const auto& [limit, bytes] : has)
    if (bytes < std::max(q.least, Bytes{1})) return {};
  return chosen;
}

void CacheSpace::want(const std::vector<DatasetId>& soonest_first, std::set<std::pair<std::string, DatasetId>> held) {
  held_for_followers_ = std::move(held);
  wanted_.clear();
  for (std::size_t i = 0; i < soonest_first.size(); ++i)
    wanted_.try_emplace(soonest_first[i], soonest_first.size() - i);
}

void CacheSpace::reserve(const Question& question, std::function<void(const Answer&)> done) {
  std::erase_if(grants_, [&](const auto& item) {
    const auto& [node, dataset, generation] = item.first;
    const auto* agent = registry_.find(node);
    if (item.second.until <= clock_.now()) return true;
    if (agent == nullptr) return false;
    const auto at = agent->replicas.find({dataset, generation});
    return at != agent->replicas.end() && at->second.charged >= item.second.total &&
           at->second.payer == item.second.payer;
  });
  const auto pending = std::make_shared<Pending>(Pending{question, std::move(done), false, {}});
  answer(*pending, false);
  if (pending->answered) return;
  queue_.push_back(pending);
  strand_.post_after(question.wait, [this, pending] {
    answer(*pending, true);
    pump();
  });
  pump();
}

/// With all that is wanted, or, if it is final, with what there is.
void CacheSpace::answer(Pending& pending, bool final) {
  if (pending.answered) return;
  const auto& q = pending.question;
  const Bytes free = room(q);
  if (!final && free < q.most) return;
  pending.answered = true;
  const Bytes granted = free < q.least ? Bytes{} : free;
  const std::string reason = granted < q.most ? why(q) : "";
  if (granted.count != 0 && !limits_of(q.payer).empty())
    grants_[{q.node, q.dataset, q.generation}] = {q.payer, q.have + granted, clock_.now() + kReported};
  pending.done({granted, reason});
}

void CacheSpace::pump() {
  while (!queue_.empty() && !evicting_) {
    const auto pending = queue_.front();
    answer(*pending, false);
    const auto chosen = pending->answered ? std::vector<Victim>() : victims(*pending);
    if (!chosen.empty()) return evict(pending, chosen);
    answer(*pending, true);
    queue_.pop_front();
  }
}

void CacheSpace::evict(const std::shared_ptr<Pending>& pending, const std::vector<Victim>& victims) {
  evicting_ = true;
  const auto open = std::make_shared<std::size_t>(victims.size());
  for (const auto& victim : victims) {
    pending->tried.insert(victim.key);
    const auto& [node, dataset, generation] = victim.key;
    agents_.evict(victim.address, dataset, generation,
                  [this, open, key = victim.key](const Result<EvictOutcome>& outcome) {
                    strand_.post([this, open, key, outcome] {
                      const auto& [its_node, its_dataset, its_generation] = key;
                      if (outcome && outcome->replicas != 0) registry_.note_gone(its_node, its_dataset, its_generation);
                      if (--*open > 0) return;
                      evicting_ = false;
                      pump();
                    });
                  });
  }
}

}  // namespace atlas
