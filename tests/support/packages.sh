#!/usr/bin/env bash
# Installs the Debian packages a group of ./dev commands needs: packages.sh base|build|demo|torch|slurm24|bench|all.
# Fast when nothing is missing (one dpkg-query); starts no daemon of an installed package.
set -euo pipefail

build=( # and run the cluster tests; also installed in the Debian 13 chroot of ./dev slurm24
  # compilers and build
  g++ cmake ninja-build pkg-config ccache mold git ca-certificates
  # libraries
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libsqlite3-dev libcli11-dev libspdlog-dev
  libfmt-dev libtomlplusplus-dev nlohmann-json3-dev libexpected-dev libxxhash-dev libfuse3-dev libmunge-dev libssl-dev
  libacl1-dev libcpp-httplib-dev libncurses-dev libgtest-dev libgmock-dev libslurm-dev
  # and for libfuse.sh
  dpkg-dev meson
  # Slurm and what a cluster on one machine uses
  slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge fuse3 lua5.1 sqlite3
  iproute2 procps psmisc util-linux mount passwd attr acl e2fsprogs
  python3 python3-pytest python3-prometheus-client curl
  # programs that read through the cache in those tests
  python3-venv python3-lmdb lmdb-utils
)
lint=(clang-format clang-tidy mandoc shellcheck)
demo=(asterisk-core-sounds-en-wav asterisk-core-sounds-es-wav asterisk-core-sounds-fr-wav asterisk-core-sounds-it-wav
  asterisk-core-sounds-ru-wav)
# The test with PyTorch; 650 MB, so that only "all" brings it. Without it that test is skipped, and says so.
torch=(python3-torch "${demo[@]}")
slurm24=(debootstrap)
bench=(rsync fpart rclone)

policy=/usr/sbin/policy-rc.d
marker='# written by the atlas dev script while it installs packages'

forget_policy() { if grep -qsF "$marker" "$policy"; then rm -f "$policy"; fi; }

missing() { # PACKAGE...: prints those that are not installed
  # dpkg-query's exit code only says that some name is unknown, which is what is being asked.
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii  *//p' || true)
  printf '%s\n' "$@" | grep -vxF -f <(printf '%s\n' "$installed") || true
}

want=()
for group in "${@:-base}"; do
  case "$group" in
    base) want+=("${build[@]}" "${lint[@]}") ;;
    build) want+=("${build[@]}") ;;
    demo) want+=("${demo[@]}") ;;
    torch) want+=("${torch[@]}") ;;
    bench) want+=("${bench[@]}") ;;
    slurm24) want+=("${slurm24[@]}") ;;
    all) want+=("${build[@]}" "${lint[@]}" "${torch[@]}" "${slurm24[@]}" "${bench[@]}") ;;
    *) echo "packages: unknown group '$group': base, build, demo, torch, slurm24, bench or all" >&2; exit 2 ;;
  esac
done

mapfile -t need < <(missing "${want[@]}")
[ "${#need[@]}" -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "packages: these packages are missing and only root can install them: ${need[*]}" >&2
  exit 2
fi
echo "packages: installing ${#need[@]}: ${need[*]}" >&2
trap forget_policy EXIT
# Package scripts must not start slurmctld, slurmd or munge on this machine: the tests run their own, in namespaces.
if [ ! -e "$policy" ]; then printf "#!/bin/sh\n%s\nexit 101\n" "$marker" >"$policy"; chmod +x "$policy"; fi
export DEBIAN_FRONTEND=noninteractive
install=(apt-get -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install)
log=$(mktemp)
if ! "${install[@]}" "${need[@]}" >"$log" 2>&1; then
  # A machine that never ran apt-get update, or an old list.
  apt-get -o DPkg::Lock::Timeout=300 -qq update >>"$log" 2>&1 || true
  if ! "${install[@]}" "${need[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    echo "packages: apt-get install failed; try 'apt-get update' and look at the lines above" >&2
    exit 1
  fi
fi
rm -f "$log"
