#include <unistd.h>

#include <algorithm>
#include <array>

#include "common/percent.h"
#include "launcher/atlasctl_screen.h"
#include "launcher/atlasctl_verbs.h"
#include "proto/convert.h"

namespace atlas::ctl {
namespace {

using Stub = ControllerClient::Stub;
using namespace std::chrono_literals;

/// Agents say every second what is read.
constexpr auto kPeriod = 1000ms;
/// Keys are heard between two questions.
constexpr auto kPatience = 2000ms;

struct Line {
  std::string name;
  v1::ReadRates rates;
};

/// "NaN%" is nobody's: -1 sorts below all.
double share(double part, double whole) {
  return whole > 0 ? std::min(1.0, part / whole) : -1;
}
/// Nothing came because all of it waits: that is throttled, too.
double throttled(const v1::ReadRates& rates) {
  if (rates.origin_bytes() <= 0 && rates.waiting() > 0) return 1;
  return share(rates.throttled_bytes(), rates.origin_bytes());
}

struct Key {
  const char* name;  ///< of --sort
  double (*value)(const v1::ReadRates& rates);
};
/// In the order of the columns; the first is the name's.
constexpr std::array<Key, 7> kKeys{{
    {"name", nullptr},
    {"origin", [](const v1::ReadRates& rates) { return rates.origin_bytes(); }},
    {"ops", [](const v1::ReadRates& rates) { return rates.origin_operations(); }},
    {"throttled", throttled},
    {"waiting", [](const v1::ReadRates& rates) { return static_cast<double>(rates.waiting()); }},
    {"peers", [](const v1::ReadRates& rates) { return rates.peer_bytes(); }},
    {"hits", [](const v1::ReadRates& rates) { return share(rates.hit_bytes(), rates.asked_bytes()); }},
}};

struct Order {
  std::size_t key = 1;
  bool reversed = false;
};

/// The most first, but names as in a book.
void sort(std::vector<Line>& lines, const Order& order) {
  const auto& value = kKeys[order.key].value;
  std::stable_sort(lines.begin(), lines.end(), [&](const Line& a, const Line& b) {
    const auto before = [&](const Line& x, const Line& y) {
      if (value == nullptr || value(x.rates) == value(y.rates)) return x.name < y.name;
      return value(x.rates) > value(y.rates);
    };
    return order.reversed ? before(b, a) : before(a, b);
  });
}

/// One of the tables, as it is asked for.
struct Kind {
  const char *name, *title;
  const google::protobuf::RepeatedPtrField<v1::TopReply::Row>& (v1::TopReply::*rows)() const;
};
constexpr std::array<Kind, 3> kKinds{{{"nodes", "NODE", &v1::TopReply::nodes},
                                      {"users", "USER", &v1::TopReply::users},
                                      {"datasets", "DATASET", &v1::TopReply::datasets}}};

std::vector<Line> lines_of(const Session& session, const v1::TopReply& reply, const Kind& kind, const Order& order) {
  std::vector<Line> out;
  for (const auto& row : (reply.*kind.rows)()) {
    std::string name = row.name();
    if (row.has_dataset() && name.empty()) name = path_of(session.config(), from_wire(row.dataset()));
    out.push_back({std::move(name), row.rates()});
  }
  sort(out, order);
  return out;
}

std::uint64_t whole(double number) {
  return number > 0 ? static_cast<std::uint64_t>(number + 0.5) : 0;
}
std::string percent(double part) {
  return part < 0 ? "-" : format_percent(Bytes{whole(part * 1000)}, Bytes{1000});
}

std::vector<std::string> cells(const Session& session, const Line& line) {
  const auto& rates = line.rates;
  const auto rate = [&](double bytes) { return session.size(whole(bytes)) + (session.output().parsable ? "" : "/s"); };
  return {line.name,
          rate(rates.origin_bytes()),
          std::to_string(whole(rates.origin_operations())),
          percent(throttled(rates)),
          std::to_string(rates.waiting()),
          rate(rates.peer_bytes()),
          percent(share(rates.hit_bytes(), rates.asked_bytes()))};
}

std::vector<Table::Column> columns(const std::string& title) {
  const auto right = Table::Align::right;
  return {{title},          {"ORIGIN", right}, {"OPS/S", right}, {"THROTTLED %", right}, {"WAITING", right},
          {"PEERS", right}, {"HITS %", right}};
}

Table table_of(const Session& session, const v1::TopReply& reply, const Kind& kind, const Order& order) {
  Table table(columns(kind.title));
  for (const auto& line : lines_of(session, reply, kind, order)) table.add(cells(session, line));
  return table;
}

/// What is read altogether, in a line.
std::string summary(const Session& session, const v1::TopReply& reply) {
  v1::ReadRates sum;
  for (const auto& row : reply.users()) {
    sum.set_origin_bytes(sum.origin_bytes() + row.rates().origin_bytes());
    sum.set_peer_bytes(sum.peer_bytes() + row.rates().peer_bytes());
    sum.set_waiting(sum.waiting() + row.rates().waiting());
  }
  return std::string(reply.all() ? "" : "what is read for you: ") + session.size(whole(sum.origin_bytes())) +
         "/s from origins, " + session.size(whole(sum.peer_bytes())) + "/s from other nodes, " +
         std::to_string(sum.waiting()) + " reads wait for limits; " + std::to_string(reply.nodes_size()) +
         (reply.nodes_size() == 1 ? " node" : " nodes");
}

Json to_json(const Session& session, const v1::TopReply& reply, const Order& order) {
  Json out{{"all", reply.all()}};
  for (const auto& kind : kKinds) {
    Json& rows = out[kind.name] = Json::array();
    for (const auto& [name, rates] : lines_of(session, reply, kind, order)) {
      const double hits = share(rates.hit_bytes(), rates.asked_bytes());
      Json row;
      put_text(row, "name", name);
      row["origin"] = whole(rates.origin_bytes());
      row["operations"] = whole(rates.origin_operations());
      row["throttled"] = whole(rates.throttled_bytes());
      row["waiting"] = rates.waiting();
      row["peers"] = whole(rates.peer_bytes());
      row["asked"] = whole(rates.asked_bytes());
      row["hits"] = whole(rates.hit_bytes());
      row["hit_ratio"] = hits < 0 ? Json() : Json(hits);
      rows.push_back(std::move(row));
    }
  }
  return out;
}

Outcome print_once(Session& session, const TopArgs& args, const Order& order) {
  ATLAS_ASSIGN(const auto reply, session.call(&Stub::Top, "Controller.Top", v1::TopRequest()));
  if (session.output().json) {
    print_out(dump(to_json(session, reply, order)));
    return kExitOk;
  }
  const auto wanted = [&](const Kind& kind) { return args.table.empty() || args.table == kind.name; };
  if (session.output().parsable) {
    auto titles = columns("NAME");
    titles.insert(titles.begin(), {"TABLE"});
    Table table(titles);
    for (const auto& kind : kKinds)
      if (wanted(kind))
        for (const auto& line : lines_of(session, reply, kind, order)) {
          auto row = cells(session, line);
          row.insert(row.begin(), kind.name);
          table.add(std::move(row));
        }
    session.print(table);
    return kExitOk;
  }
  print_out(summary(session, reply) + "\n");
  for (const auto& kind : kKinds) {
    if (!wanted(kind)) continue;
    print_out("\n");
    session.print(table_of(session, reply, kind, order));
  }
  return kExitOk;
}

/// What is on the screen, and what keys do to it.
struct Live {
  Order order;
  std::string table;  ///< "" = all
  v1::TopReply reply;
  std::string trouble = "asking the controller";

  /// False: the end.
  bool heed(int key) {
    switch (key) {
      case 'q':
        return false;
      case 'n':
      case 'u':
      case 'd':
        for (const auto& kind : kKinds)
          if (kind.name[0] == key) table = kind.name;
        return true;
      case 'a':
        table.clear();
        return true;
      case 'r':
        order.reversed = !order.reversed;
        return true;
      case Screen::kLeft:
      case '<':
        order.key = (order.key + kKeys.size() - 1) % kKeys.size();
        return true;
      case Screen::kRight:
      case '>':
        order.key = (order.key + 1) % kKeys.size();
        return true;
      default:
        return true;
    }
  }

  [[nodiscard]] std::vector<Screen::Line> lines(const Session& session, std::size_t height) const {
    std::vector<Screen::Line> out;
    out.push_back({trouble.empty() ? summary(session, reply) : trouble, false});
    const std::size_t tables = table.empty() ? kKinds.size() : 1;
    // The last line is the keys'; each table has a line above it.
    const std::size_t each = height > 2 + tables ? (height - 2) / tables - 1 : 1;
    for (const auto& kind : kKinds) {
      if (!table.empty() && table != kind.name) continue;
      out.push_back({"", false});
      const std::string text = table_of(session, reply, kind, order).render({.header = true, .parsable = false});
      std::size_t shown = 0;
      for (std::size_t at = 0; at < text.size() && shown < each; ++shown) {
        const auto end = text.find('\n', at);
        out.push_back({text.substr(at, end - at), shown == 0});
        at = end + 1;
      }
    }
    if (out.size() + 1 > height) out.resize(height > 1 ? height - 1 : 0);
    while (out.size() + 1 < height) out.push_back({"", false});
    out.push_back({"q quit  n nodes  u users  d datasets  a all  < > sort by: " + std::string(kKeys[order.key].name) +
                       (order.reversed ? ", reversed" : "") + "  r reverse",
                   false});
    return out;
  }
};

Outcome show_live(Session& session, const TopArgs& args, const Order& order) {
  ATLAS_ASSIGN(auto* const client, session.controller());
  ATLAS_ASSIGN(const auto screen, Screen::open());
  Live live{order, args.table, {}};
  for (bool goes_on = true; goes_on;) {
    const auto asked = std::chrono::steady_clock::now();
    auto reply = client->call(&Stub::Top, "Controller.Top", v1::TopRequest(), kPatience);
    live.trouble = reply ? "" : reply.error().message;
    if (reply) live.reply = std::move(*reply);
    for (bool waits = true; waits && goes_on;) {
      screen->draw(live.lines(session, screen->height()));
      const auto left = std::chrono::duration_cast<milliseconds>(asked + kPeriod - std::chrono::steady_clock::now());
      const int key = screen->key(std::max(milliseconds(0), left));
      waits = key != Screen::kNone;
      goes_on = live.heed(key);
    }
  }
  return kExitOk;
}

}  // namespace

Outcome top(Session& session, const TopArgs& args) {
  Order order;
  const auto key = std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& one) { return args.sort == one.name; });
  order.key = static_cast<std::size_t>(key - kKeys.begin());
  order.reversed = args.reverse;
  const bool live = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
  const auto& output = session.output();
  if (args.once || !live || output.json || output.parsable) return print_once(session, args, order);
  return show_live(session, args, order);
}

}  // namespace atlas::ctl
