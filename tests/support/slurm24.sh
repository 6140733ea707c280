#!/usr/bin/env bash
# ./dev slurm24: builds this tree against Slurm 24.11 in a Debian 13 chroot and runs the main cluster tests there.
#
#   slurm24.sh [all]       chroot, build, tests
#   slurm24.sh build       chroot and build only
#   slurm24.sh test [ARG]  tests only, ARG to pytest
#   slurm24.sh run CMD...  a command in the chroot, e.g. bash
#
# The chroot is build/slurm24/root, made once (about 700 MB); objects go to build/slurm24/out. Everything that runs in it
# runs in mount and pid namespaces of its own, so no mount outlives this script. DEBIAN_MIRROR names another mirror.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
support=$root/tests/support
home=$root/build/slurm24
chroot=$home/root
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# What runs as a job of Slurm and what it needs; the other cluster tests ask the same of another Slurm version.
main_tests=(tests/cluster/test_one_job.py)
# Not the other tests: they are the same with every Slurm.
programs=(atlas-controller atlas-cache-agent atlas-stage atlas-attach atlas-enter atlas-submit atlasctl spank_atlas
  atlas-slow-origin slurm-port-probe raw-submit)

say() { echo "slurm24: $*" >&2; }
die() { say "$*"; exit 1; }

# Runs a command in the chroot: a root file system of its own (pivot_root), /proc of its own, this tree at /atlas.
inside() {
  ROOTFS=$chroot TREE=$root OUT=$home/out CCACHE=${CCACHE_DIR:-$HOME/.cache/ccache} \
    unshare --mount --pid --fork --kill-child bash -euc '
    mkdir -p "$OUT" "$CCACHE"
    mount --make-rprivate /
    mount --bind "$ROOTFS" "$ROOTFS"
    cd "$ROOTFS"
    mkdir -p atlas root/.cache/ccache old
    mount --rbind "$TREE" atlas
    mount --bind "$OUT" atlas/build
    mount --bind "$CCACHE" root/.cache/ccache
    mount --rbind /dev dev
    mount --rbind /sys sys
    mount -t proc proc proc
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mount -t tmpfs -o mode=755 tmpfs run
    cat /etc/resolv.conf >etc/resolv.conf
    pivot_root . old
    umount -l /old
    cd /atlas
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 LC_ALL=C.UTF-8 \
      TERM="${TERM:-dumb}" PYTHONDONTWRITEBYTECODE=1 CCACHE_BASEDIR=/atlas CCACHE_NOHASHDIR=1 "$@"' inside "$@"
}

make_chroot() {
  if [ -e "$chroot/etc/atlas-chroot" ]; then return; fi
  bash "$support/packages.sh" slurm24
  rm -rf "$chroot"; mkdir -p "$home"
  say "making a Debian 13 chroot from $mirror (once, about half a minute)"
  debootstrap --variant=minbase trixie "$chroot" "$mirror" >"$home/debootstrap.log" 2>&1 \
    || { tail -20 "$home/debootstrap.log" >&2; die "debootstrap failed, see $home/debootstrap.log"; }
  touch "$chroot/etc/atlas-chroot"
}

install_packages() {
  # The list may have grown since the chroot was made; this is a no-op when nothing is missing.
  inside bash tests/support/packages.sh build || die "installing packages in $chroot failed"
}

build() {
  make_chroot
  install_packages
  say "building with $(inside dpkg-query -W -f '${Package} ${Version}  ' g++ slurmd libgrpc++-dev)"
  inside cmake --preset dev --log-level=WARNING >/dev/null
  inside nice ninja -C build/dev -k 0 -j"${ATLAS_JOBS:-$(nproc)}" "${programs[@]}" || die "the build failed in the chroot"
}

run_tests() { # PYTEST ARGUMENT...
  [ $# -gt 0 ] || set -- "${main_tests[@]}"
  say "cluster tests: $*"
  inside env ATLAS_PRESET=dev /usr/bin/python3 -m pytest -q "$@" || die "failed; logs of a failed cluster are in $home/out/test-logs"
}

[ "$(id -u)" = 0 ] || die "run it as root: it makes a chroot and namespaces"
case "${1:-all}" in
  all) build; run_tests; say "ok" ;;
  build) build ;;
  test) shift; run_tests "$@" ;;
  run) shift; make_chroot; inside "$@" ;;
  *) die "unknown argument '$1': all, build, test or run" ;;
esac
