#!/bin/sh
# run.sh NAME_test.lua: runs a lua test with Slurm's version of lua, in a directory of its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
ATLAS_LUA=$(cd "$here/../../../etc/slurm" && pwd)
TEST_DIR=$(mktemp -d)
trap 'rm -rf "$TEST_DIR"' EXIT
export ATLAS_LUA TEST_DIR
export LUA_PATH="$here/?.lua;$ATLAS_LUA/?.lua" ATLAS_LIBEXEC="$TEST_DIR/libexec"
export SLURM_CONF="$TEST_DIR/slurm.conf" ATLAS_CONF="$TEST_DIR/atlas.toml"
lua5.1 "$here/$1"
