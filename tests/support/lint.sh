#!/usr/bin/env bash
# ./dev lint [--tidy[=all]]: every check that needs no running program. Prints what is wrong, and one line at the end.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

tidy=no
for argument in "$@"; do
  case "$argument" in
    --tidy) tidy=changed ;;
    --tidy=all) tidy=all ;;
    *) echo "lint: unknown option '$argument'; see ./dev help" >&2; exit 2 ;;
  esac
done

failed=0
check() { # NAME COMMAND...: one line per check, its output only when it fails
  local name=$1 output; shift
  if output=$("$@" 2>&1); then echo "ok      $name"; else failed=$((failed + 1)); printf 'FAILED  %s\n%s\n' "$name" "$output"; fi
}
files() { git ls-files -z -co --exclude-standard -- "$@" | while IFS= read -r -d '' f; do [ -f "$f" ] && printf '%s\0' "$f"; done; }

formats() { files '*.cc' '*.h' | xargs -0 -r clang-format --dry-run -Werror; }
manuals() { files 'man/*.[1-9]' 'man/**/*.[1-9]' | xargs -0 -r mandoc -Tlint -Wwarning; }
python_syntax() { files '*.py' | xargs -0 -r /usr/bin/python3 -c 'import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding="utf-8").read(), name)'; }
scripts() { { files '*.sh'; files dev .ci/run; } | sort -zu; }
shell_scripts() { scripts | xargs -0 -r shellcheck --severity=warning; }
shell_syntax() { scripts | xargs -0 -r -n 1 bash -n; }
lua_check() { local compiler; compiler=$(command -v luac5.1) && "$compiler" -p -- "$1"; }
export -f lua_check
lua_syntax() { files '*.lua' | xargs -0 -r -n 1 bash -c 'lua_check "$1"' _; }

# clang-tidy costs about 20 s of CPU for a file that includes gRPC, so by default it looks at what this branch changed,
# and stops after ATLAS_TIDY_SECONDS.
tidy_files() {
  if [ "$tidy" = all ]; then files '*.cc'; return; fi
  local base; base=$(git merge-base HEAD "${ATLAS_TIDY_BASE:-main}" 2>/dev/null || git rev-parse HEAD)
  { git diff --name-only -z "$base" -- '*.cc'; git ls-files -z -o --exclude-standard -- '*.cc'; } |
    while IFS= read -r -d '' f; do [ -f "$f" ] && printf '%s\0' "$f"; done
}
clang_tidy() {
  cmake --preset dev --log-level=WARNING >/dev/null || return 1
  # Generated headers must exist before a file that includes them can be read.
  ninja -C build/dev -t targets all | sed -n 's/^\(proto\/[^:]*\.pb\.h\):.*/\1/p' | xargs -r nice ninja -C build/dev >/dev/null || return 1
  tidy_files | timeout "${ATLAS_TIDY_SECONDS:-600}" xargs -0 -r -n 1 -P "$(nproc)" nice clang-tidy -p build/dev --quiet
}

check "clang-format" formats
check "manual pages (mandoc -Tlint)" manuals
check "python syntax" python_syntax
check "shell syntax" shell_syntax
check "shellcheck" shell_scripts
check "lua syntax" lua_syntax
[ "$tidy" = no ] || check "clang-tidy ($tidy files)" clang_tidy
if [ "$failed" -gt 0 ]; then echo "lint: $failed checks failed ('./dev format' mends the first)"; exit 1; fi
echo "lint: all checks passed"
