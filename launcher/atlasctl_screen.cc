#include "launcher/atlasctl_screen.h"

// Its macros would replace names of ours.
#define NCURSES_NOMACROS
#include <ncurses.h>

#include <algorithm>
#include <clocale>
#include <cstdio>
#include <cstdlib>

#include "common/percent.h"

namespace atlas::ctl {

Result<std::unique_ptr<Screen>> Screen::open() {
  std::setlocale(LC_CTYPE, "");  // names may be UTF-8
  auto* const terminal = ::newterm(nullptr, stdout, stdin);
  if (terminal == nullptr) {
    const char* name = std::getenv("TERM");
    return fail(Code::failed_precondition, "cannot draw on a terminal '" + printable(name == nullptr ? "" : name) +
                                               "' (TERM): atlasctl top --once prints a table");
  }
  ::cbreak();
  ::noecho();
  ::curs_set(0);
  ::keypad(stdscr, true);
  return std::unique_ptr<Screen>(new Screen(terminal));
}

Screen::~Screen() {
  ::endwin();
  ::delscreen(static_cast<SCREEN*>(terminal_));
}

std::size_t Screen::height() const {
  return static_cast<std::size_t>(std::max(0, ::getmaxy(stdscr)));
}

void Screen::draw(const std::vector<Line>& lines) {
  // A line that is too long runs over into the next, which then clears its own.
  ::erase();
  int y = 0;
  for (const auto& line : lines) {
    ::wmove(stdscr, y++, 0);
    ::wclrtoeol(stdscr);
    if (line.title) ::wattron(stdscr, A_REVERSE);
    ::waddstr(stdscr, line.text.c_str());
    if (line.title) ::wattroff(stdscr, A_REVERSE);
  }
  ::wrefresh(stdscr);
}

int Screen::key(std::chrono::milliseconds patience) {
  ::wtimeout(stdscr, static_cast<int>(patience.count()));
  const int key = ::wgetch(stdscr);
  switch (key) {
    case ERR:
      return kNone;
    case KEY_LEFT:
      return kLeft;
    case KEY_RIGHT:
      return kRight;
    default:
      return key < 256 ? key : kOther;
  }
}

}  // namespace atlas::ctl
