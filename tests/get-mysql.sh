#!/bin/bash
# Puts a MySQL 9.7 server and its client tools under PREFIX (default: .tools/mysql of this repository); runs once, then answers at once.
# Uses: tests/get-mysql.sh; then PREFIX/bin/{mysqld,mysql,mysqladmin,mysqlbinlog}. mysqld has --basedir and its kin built in.
# Debian carries MySQL only in its unstable suite, whose binaries need a newer libc than a stable machine has: hence their own loader.
set -euo pipefail

script=get-mysql.sh
version_needed='9\.[7-9]|9\.[1-9][0-9]|[1-9][0-9]\.'
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-$tests/../.tools/mysql}
# shellcheck source=tests/debian-prefix.sh
. "$tests/debian-prefix.sh"

ready() {
    "$PREFIX/bin/mysqld" --version 2>/dev/null | grep -qE "Ver ($version_needed)"
}

ready && exit 0
lock_prefix
PREFIX=$(cd "$PREFIX" && pwd)
ready && exit 0

require_debian
debian_source sid
echo "$script: unpacking MySQL 9.7 from Debian packages into $PREFIX (about 60 MB to download)"
configure_apt "$package_source"
unpack "mysql-server-core mysql-client-core" "mysql-client"

share="--basedir=\"\$here/root/usr\" --lc-messages-dir=\"\$here/root/usr/share/mysql\" --plugin-dir=\"\$here/root/usr/lib/mysql/plugin\" --secure-file-priv="
wrap mysql usr/bin/mysql
wrap mysqladmin usr/bin/mysqladmin
wrap mysqlbinlog usr/bin/mysqlbinlog
wrap mysqld usr/sbin/mysqld --no-defaults "$share"
ready || fail "what Debian offers is not MySQL 9.7: $("$PREFIX/bin/mysqld" --version 2>&1 | head -n 1)"
