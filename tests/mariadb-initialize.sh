# Sourced by the scripts that get a MariaDB: the command that builds its data directories, and the wrapping of unpacked packages.
# A caller sets PREFIX and has sourced debian-prefix.sh.

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

# After `unpack`: the programs and the initialisation, from the packages under PREFIX/root. Arguments are more of the server's.
wrap_mariadb() {
    local share=usr/share/mysql names
    [ -d "$PREFIX/root/$share" ] || share=usr/share/mariadb
    names=$(system_tables "$PREFIX/root/$share") || fail "the packages hold no SQL for the system tables; delete $PREFIX and run again"
    wrap mariadb usr/bin/mariadb
    wrap mariadbd usr/sbin/mariadbd --no-defaults "--basedir=\"\$here/root/usr\" --lc-messages-dir=\"\$here/root/$share\"" "$@"
    write_initialize "\$here/root/$share" "$names"
}
