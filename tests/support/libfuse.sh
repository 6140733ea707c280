#!/usr/bin/env bash
# Gets a libfuse that knows passthrough (3.17), for distributions that have none (Debian 12): Debian's own source package of
# the next release, from the mirror this machine uses and checked by apt as any package is, built as a static library.
# It is kept in the user's cache and linked to as build/libfuse, where CMake looks. Does nothing once that is there.
#
# Where it cannot be had, the build takes the system's libfuse, and all works but passthrough. One line says so.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
wanted=3.17
release=trixie # the first of Debian's that has it
link=$root/build/libfuse

if pkg-config --atleast-version="$wanted" fuse3 2>/dev/null; then exit 0; fi
if [ -e "$link/lib/libfuse3.a" ]; then exit 0; fi

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/atlas
system=$(sed -n 's/^VERSION_ID=//p; s/^ID=//p' /etc/os-release | tr -d '"\n')
prefix=$cache/libfuse-$release-$system-$(uname -m)
failed=$prefix.failed
log=$prefix.log

without() {
  echo "libfuse: $1; this build takes the system's $(pkg-config --modversion fuse3 2>/dev/null || echo libfuse), without passthrough" >&2
  exit 0
}

mirror() { # of this machine's Debian packages
  local all
  all=$(apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' 2>/dev/null | grep -v -i security || true)
  # Without lists (a machine that never ran apt-get update) there are no labels.
  { grep '^Debian ' <<<"$all" || cat <<<"$all"; } | sed -n '1s/^[^ ]* //p'
}

get_and_build() { # DIRECTORY
  local dir=$1 from apt
  mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/parts"
  from=$(mirror)
  [ -n "$from" ] || { echo "no mirror of Debian in this machine's package sources"; return 1; }
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from $release main" >"$dir/sources.list"
  apt=(apt-get -q -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts="$dir/parts" -o Dir::State::lists="$dir/lists"
    -o Dir::Cache="$dir" -o APT::Sandbox::User=root -o APT::Get::List-Cleanup=0 -o Acquire::Languages=none
    -o Acquire::http::Timeout=10 -o Acquire::Retries=1 -o Acquire::IndexTargets::deb-src::Contents-dsc::DefaultEnabled=false)
  # An index whose signature does not hold is a failure, and so is a source file that is not in the index.
  "${apt[@]}" -o APT::Update::Error-Mode=any update || return 1
  (cd "$dir" && "${apt[@]}" source --download-only fuse3) || return 1
  dpkg-source --no-check -q -x "$dir"/fuse3_*.dsc "$dir/source" || return 1 # apt has compared it with the signed index
  meson setup "$dir/build" "$dir/source" --prefix=/ --libdir=lib --buildtype=release --default-library=static \
    -Dc_args=-fPIC -Dcpp_args=-fPIC -Dutils=false -Dtests=false -Dexamples=true || return 1
  nice ninja -C "$dir/build" -j"${ATLAS_JOBS:-$(nproc)}" || return 1
  DESTDIR="$dir/made" meson install -C "$dir/build" --no-rebuild || return 1
  # What ./dev bench measures beside the view.
  install -D -m 755 "$dir/build/example/passthrough_hp" "$dir/made/bin/passthrough_hp" || return 1
  pkg-config --atleast-version="$wanted" "$dir/made/lib/pkgconfig/fuse3.pc" || return 1
  rm -rf "$prefix" && mv -T "$dir/made" "$prefix"
}

mkdir -p "$cache" "$root/build"
exec 9>"$cache/libfuse.lock"
flock 9 # two checkouts that build at once make it once
if [ ! -e "$prefix/lib/libfuse3.a" ]; then
  # A machine without a network is not asked again at each build.
  if [ -n "$(find "$failed" -mmin -1440 2>/dev/null)" ]; then without "$(cat "$failed") (delete $failed to try again)"; fi
  echo "libfuse: building $release's fuse3 from Debian's source package (once, about half a minute)" >&2
  work=$(mktemp -d "$cache/libfuse.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if ! get_and_build "$work" >"$log" 2>&1 </dev/null; then
    echo "Debian's source package of fuse3 in $release could not be had or built, see $log" >"$failed"
    without "$(cat "$failed")"
  fi
  rm -f "$failed"
fi
ln -sfn "$prefix" "$link"
