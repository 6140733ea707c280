#pragma once
#include <chrono>
#include <functional>

namespace atlas {

using Task = std::function<void()>;

/// Runs tasks one at a time, in the order they were posted. The only way to wait below main(). Thread-safe; a task must
/// not throw.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void post(Task task) = 0;
  virtual void post_after(std::chrono::milliseconds delay, Task task) = 0;
};

}  // namespace atlas
