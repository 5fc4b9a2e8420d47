#!/bin/bash
# Puts a MariaDB server, 10.11 or newer, under PREFIX (default: .tools/mariadb of this repository); runs once, then answers at once.
# Uses: tests/get-mariadb.sh; then PREFIX/bin/mariadbd and PREFIX/bin/mariadb-initialize DATADIR [SERVER ARGUMENT ...].
# An installed server of that version is wrapped; otherwise the packages of this Debian release are unpacked, nothing is installed.
set -euo pipefail

script=get-mariadb.sh
version_needed='10\.1[1-9]\.|1[1-9]\.|[2-9][0-9]\.'
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-$tests/../.tools/mariadb}
# shellcheck source=tests/debian-prefix.sh
. "$tests/debian-prefix.sh"
# shellcheck source=tests/mariadb-initialize.sh
. "$tests/mariadb-initialize.sh"

good() {
    "$1" --version 2>/dev/null | grep -qE "Ver ($version_needed).*MariaDB"
}

ready() {
    [ -x "$PREFIX/bin/mariadb-initialize" ] && good "$PREFIX/bin/mariadbd"
}

# An installed server counts when the SQL that builds its system tables lies beside it.
installed() {
    local server
    for server in "$(command -v mariadbd || true)" /usr/sbin/mariadbd /usr/libexec/mariadbd /usr/local/sbin/mariadbd; do
        [ -x "$server" ] && good "$server" && system_tables "$(share_of "$server")" >/dev/null && echo "$server" && return
    done
    return 1
}

share_of() {
    "$1" --no-defaults --verbose --help 2>/dev/null | awk '$1 == "lc-messages-dir" { print $2 }'
}

ready && exit 0
lock_prefix
PREFIX=$(cd "$PREFIX" && pwd)
ready && exit 0

mkdir -p "$PREFIX/bin"
if server=$(installed); then
    echo "$script: using the installed $server"
    share=$(share_of "$server")
    printf '#!/bin/sh\nexec %s --no-defaults "$@"\n' "$server" >"$PREFIX/bin/mariadbd"
    printf '#!/bin/sh\nexec mariadb "$@"\n' >"$PREFIX/bin/mariadb"
    chmod +x "$PREFIX/bin/mariadbd" "$PREFIX/bin/mariadb"
    write_initialize "$share" "$(system_tables "$share")"
else
    require_debian
    echo "$script: unpacking MariaDB from Debian packages into $PREFIX (about 30 MB to download)"
    configure_apt
    unpack "mariadb-server-core mariadb-client-core" ""
    wrap_mariadb
fi
ready || fail "needs MariaDB 10.11 or newer, found: $("$PREFIX/bin/mariadbd" --version 2>&1 | head -n 1)"
