# Sourced by the scripts that record binlogs: one private server on a socket only, from tests/get-mysql.sh or tests/get-mariadb.sh.
# The server writes row events with full images and full metadata unless its arguments say otherwise. It ends with the script.
#   start_server mysql|mariadb|mariadb-11.8 [SERVER ARGUMENT ...]    fresh data directory, waits until it answers
#   sql [CLIENT ARGUMENT ...]                           runs SQL from stdin as root
#   stop_server                                         orderly shutdown, so that the last binlog is closed
#   binlogs                                             its binlog files, in order

here_tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
server_dir=
server_pid=

end_server() {
    [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
    [ -z "$server_dir" ] || rm -rf "$server_dir"
}
trap end_server EXIT

start_server() {
    local kind=$1 user=() dialect=() tools
    shift
    tools=${TIDEMILL_TOOLS:-$here_tests/../.tools}/$kind
    PREFIX=$tools "$here_tests/get-$kind.sh"
    [ "$(id -u)" != 0 ] || user=(--user=root)
    server_dir=$(mktemp -d)
    server_kind=$kind
    client=$tools/bin/${kind%%-*}
    if [ "$kind" = mysql ]; then
        "$tools/bin/mysqld" --initialize-insecure --datadir="$server_dir/data" "${user[@]}" 2>"$server_dir/log"
        dialect=(--gtid-mode=ON --enforce-gtid-consistency=ON --mysqlx=OFF)
        server=$tools/bin/mysqld
    else
        "$tools/bin/mariadb-initialize" "$server_dir/data" "${user[@]}" >"$server_dir/log" 2>&1
        server=$tools/bin/mariadbd
    fi
    "$server" --datadir="$server_dir/data" --socket="$server_dir/socket" --pid-file="$server_dir/pid" --skip-networking \
        --server-id=1 --log-bin=binlog --binlog-format=ROW --binlog-row-image=FULL --binlog-row-metadata=FULL \
        --character-set-server=utf8mb4 --default-time-zone=+00:00 "${dialect[@]}" "${user[@]}" "$@" 2>>"$server_dir/log" &
    server_pid=$!
    until echo "SELECT 1" | sql >/dev/null 2>&1; do
        kill -0 "$server_pid" 2>/dev/null || {
            cat "$server_dir/log" >&2
            echo "the $kind server ended while starting" >&2
            exit 1
        }
    done
    # What the initialisation wrote is no part of a recording.
    case $kind in
        mysql) echo "RESET BINARY LOGS AND GTIDS" | sql ;;
        mariadb*) echo "RESET MASTER" | sql ;;
    esac
}

sql() {
    "$client" --no-defaults --socket="$server_dir/socket" --user=root --default-character-set=utf8mb4 "$@"
}

stop_server() {
    echo SHUTDOWN | sql
    wait "$server_pid"
    server_pid=
}

binlogs() {
    find "$server_dir/data" -name 'binlog.[0-9]*' | sort
}
