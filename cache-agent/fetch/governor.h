#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "cache-agent/origin/origin.h"
#include "common/units.h"

namespace atlas::agent {

/// Who is to pay for what. Cheap to make: every fetch makes one.
struct Charge {
  std::string_view origin;  ///< valid during the call
  std::uint32_t uid = 0, gid = 0;
  std::uint32_t job_id = 0;  ///< 0 = nobody's job
  Urgency urgency = Urgency::warm_queued;
  Bytes bytes;
  std::uint32_t operations = 0;
};

/// Leave to move what was charged; to be settled once.
struct Grant {
  void* account = nullptr;  ///< the governor's own
  Urgency urgency = Urgency::warm_queued;
  Bytes bytes;
  std::uint32_t operations = 0;
  bool borrowed = false;  ///< the payer's own share had none left
};

/// A place in the governor's queue; dropping it before the grant came gives it up.
class Ticket {
 public:
  Ticket() = default;
  explicit Ticket(std::shared_ptr<void> place) : place_(std::move(place)) {}

 private:
  std::shared_ptr<void> place_;
};

/// Says when a fetch may begin: the one place where limits act. Thread-safe, never blocks.
class Governor {
 public:
  virtual ~Governor() = default;
  /// A grant if there is one right now, and nobody of the same payer waits. Allocates nothing.
  [[nodiscard]] virtual std::optional<Grant> try_admit(const Charge& charge) = 0;
  /// `go` runs once, at once or later on a thread of the governor, unless the ticket is dropped first.
  [[nodiscard]] virtual Ticket admit(const Charge& charge, std::function<void(Grant)> go) = 0;
  /// Somebody else pays a part of what was granted to another. Nobody waits for it.
  virtual void charge(const Charge& charge) = 0;
  /// How much of `most` is to be asked for at a time: about what the payer may read in a second, but not less than
  /// `least`. Every payer may leave a debt of one such piece on every node.
  [[nodiscard]] virtual Bytes at_a_time(const Charge& payer, Bytes least, Bytes most) = 0;
  /// True while reads of this job of this user wait: what may never be asked for need not be read ahead.
  [[nodiscard]] virtual bool parks(std::uint32_t uid, std::uint32_t job_id) const = 0;
  /// What was really moved.
  virtual void settle(const Grant& grant, Bytes moved, std::uint32_t operations) = 0;
};

/// Admits everything at once.
class UnlimitedGovernor final : public Governor {
 public:
  std::optional<Grant> try_admit(const Charge& charge) override {
    return Grant{nullptr, charge.urgency, charge.bytes, charge.operations, false};
  }
  Ticket admit(const Charge& charge, std::function<void(Grant)> go) override {
    go(*try_admit(charge));
    return {};
  }
  void charge(const Charge& /*charge*/) override {}
  [[nodiscard]] Bytes at_a_time(const Charge& /*payer*/, Bytes /*least*/, Bytes most) override { return most; }
  [[nodiscard]] bool parks(std::uint32_t /*uid*/, std::uint32_t /*job_id*/) const override { return false; }
  void settle(const Grant& /*grant*/, Bytes /*moved*/, std::uint32_t /*operations*/) override {}
};

}  // namespace atlas::agent
