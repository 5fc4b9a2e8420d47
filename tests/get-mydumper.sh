#!/bin/bash
# Puts mydumper under PREFIX (default: .tools/mydumper of this repository); runs once, then answers at once.
# Uses: tests/get-mydumper.sh; then PREFIX/bin/mydumper, with which `tidemill bench clone --beside mydumper` compares.
set -euo pipefail

script=get-mydumper.sh
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-$tests/../.tools/mydumper}
# shellcheck source=tests/debian-prefix.sh
. "$tests/debian-prefix.sh"

ready() {
    "$PREFIX/bin/mydumper" --version 2>/dev/null | grep -q '^mydumper'
}

ready && exit 0
lock_prefix
PREFIX=$(cd "$PREFIX" && pwd)
ready && exit 0

require_debian
echo "$script: unpacking mydumper from Debian packages into $PREFIX (about 20 MB to download)"
configure_apt
unpack "mydumper" ""
wrap mydumper usr/bin/mydumper
# How a client of MariaDB's signs in is in files of their own.
plugins=$(cd "$PREFIX/root" && ls -d usr/lib/x86_64-linux-gnu/libmariadb*/plugin 2>/dev/null | head -n 1 || true)
if [ -n "$plugins" ]; then
    sed -i "s|^exec |MARIADB_PLUGIN_DIR=\$here/root/$plugins exec |" "$PREFIX/bin/mydumper"
fi
ready || fail "what Debian offers does not run: $("$PREFIX/bin/mydumper" --version 2>&1 | head -n 1)"
