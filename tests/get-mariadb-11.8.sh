#!/bin/bash
# Puts a MariaDB 11.8 server under PREFIX (default: .tools/mariadb-11.8 of this repository); runs once, then answers at once.
# Uses: tests/get-mariadb-11.8.sh; then PREFIX/bin/mariadbd and PREFIX/bin/mariadb-initialize DATADIR [SERVER ARGUMENT ...].
# Beside the MariaDB of get-mariadb.sh, for what came after 10.11: VECTOR, timestamps up to 2106, FULL_NODUP row images, parsec.
# Its plugins come along, for the ways to sign in that are not built into the server.
set -euo pipefail

script=get-mariadb-11.8.sh
version_needed='11\.8\.'
# The Debian release that carries it; on any other its binaries bring their own libc and loader.
suite=trixie
plugins=usr/lib/mysql/plugin
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-$tests/../.tools/mariadb-11.8}
# shellcheck source=tests/debian-prefix.sh
. "$tests/debian-prefix.sh"
# shellcheck source=tests/mariadb-initialize.sh
. "$tests/mariadb-initialize.sh"

ready() {
    [ -x "$PREFIX/bin/mariadb-initialize" ] && [ -e "$PREFIX/root/$plugins/auth_parsec.so" ] &&
        "$PREFIX/bin/mariadbd" --version 2>/dev/null | grep -qE "Ver ($version_needed).*MariaDB"
}

ready && exit 0
lock_prefix
PREFIX=$(cd "$PREFIX" && pwd)
ready && exit 0

require_debian
debian_source "$suite"
echo "$script: unpacking MariaDB 11.8 from Debian packages into $PREFIX (about 25 MB to download)"
configure_apt "$package_source"
unpack "mariadb-server-core mariadb-client-core" "mariadb-server"
wrap_mariadb "--plugin-dir=\"\$here/root/$plugins\""
ready || fail "what Debian offers is not MariaDB 11.8: $("$PREFIX/bin/mariadbd" --version 2>&1 | head -n 1)"
