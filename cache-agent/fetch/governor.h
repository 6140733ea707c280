#pragma once
#include <functional>
#include <memory>
#include <string>

#include "cache-agent/origin/origin.h"
#include "common/identity.h"
#include "common/units.h"

namespace atlas::agent {

/// Who is to pay for what.
struct Charge {
  std::string origin;
  Principal as;
  JobKey payer;
  Urgency urgency = Urgency::warm_queued;
  Bytes bytes;
  std::uint32_t operations = 0;
};

/// Leave to move what was charged; to be settled once.
struct Grant {
  Charge charge;
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
  /// `go` runs once, at once or later on a thread of the governor, unless the ticket is dropped first.
  [[nodiscard]] virtual Ticket admit(const Charge& charge, std::function<void(Grant)> go) = 0;
  /// What was really moved.
  virtual void settle(const Grant& grant, Bytes moved, std::uint32_t operations) = 0;
};

/// Admits everything at once.
class UnlimitedGovernor final : public Governor {
 public:
  Ticket admit(const Charge& charge, std::function<void(Grant)> go) override {
    go(Grant{charge});
    return {};
  }
  void settle(const Grant& /*grant*/, Bytes /*moved*/, std::uint32_t /*operations*/) override {}
};

}  // namespace atlas::agent
