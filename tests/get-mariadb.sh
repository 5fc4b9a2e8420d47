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

# The SQL files in the order in which they build a system schema; newer releases renamed mysql_* to mariadb_*.
system_tables() {
    local share=$1 brand
    for brand in mariadb mysql; do
        if [ -e "$share/${brand}_system_tables.sql" ]; then
            echo "${brand}_system_tables.sql ${brand}_performance_tables.sql ${brand}_system_tables_data.sql" \
                "maria_add_gis_sp_bootstrap.sql ${brand}_sys_schema.sql"
            return
        fi
    done
    return 1
}

# A command that builds a fresh data directory: root@localhost with no password, nobody else.
write_initialize() {
    local share=$1 names=$2
    cat >"$PREFIX/bin/mariadb-initialize.part" <<WRAPPER
#!/bin/sh
set -e
here=\$(cd "\$(dirname "\$0")/.." && pwd)
data=\$1
shift
mkdir -p "\$data"
{
    # One statement a line, as --bootstrap reads them.
    printf '%s\n' "CREATE DATABASE mysql;" "USE mysql;" "SET @auth_root_socket=NULL, @skip_auth_anonymous=1;"
    cd "$share"
    for name in $names; do if [ -e "\$name" ]; then sed '/@current_hostname/d' "\$name"; fi; done
    echo "DELETE FROM mysql.global_priv WHERE User = 'root' AND Host <> 'localhost';"
} | "\$here/bin/mariadbd" --datadir="\$data" --bootstrap --skip-log-bin "\$@"
WRAPPER
    chmod +x "$PREFIX/bin/mariadb-initialize.part"
    mv "$PREFIX/bin/mariadb-initialize.part" "$PREFIX/bin/mariadb-initialize"
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
    share=usr/share/mysql
    [ -d "$PREFIX/root/$share" ] || share=usr/share/mariadb
    names=$(system_tables "$PREFIX/root/$share") || fail "the packages hold no SQL for the system tables; delete $PREFIX and run again"
    wrap mariadb usr/bin/mariadb
    wrap mariadbd usr/sbin/mariadbd --no-defaults "--basedir=\"\$here/root/usr\" --lc-messages-dir=\"\$here/root/$share\""
    write_initialize "\$here/root/$share" "$names"
fi
ready || fail "needs MariaDB 10.11 or newer, found: $("$PREFIX/bin/mariadbd" --version 2>&1 | head -n 1)"
