#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace atlas {

/// The text of OpenMetrics 1.0 (https://openmetrics.io), as Prometheus reads it. Families in any order, each once, all
/// samples of one after its begin.
class OpenMetrics {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;
  /// `name` ends with its unit, if it has one ("_bytes", "_seconds"); of a counter it does not end with "_total".
  void gauge(std::string_view name, std::string_view help) { begin(name, "gauge", help); }
  void counter(std::string_view name, std::string_view help) { begin(name, "counter", help); }
  /// A family of one.
  void gauge(std::string_view name, std::string_view help, double value) {
    gauge(name, help);
    add({}, value);
  }
  void counter(std::string_view name, std::string_view help, double value) {
    counter(name, help);
    add({}, value);
  }
  /// Of the family begun last.
  void add(Labels labels, double value);
  /// All of it; nothing may be added afterwards.
  [[nodiscard]] std::string end();

 private:
  void begin(std::string_view name, std::string_view kind, std::string_view help);
  std::string text_, sample_;
};

}  // namespace atlas
