#!/bin/bash
# Records binlog.000001 and binlog.000002 anew: runs tables.sql and shop.sql on a private MySQL 9.7 and copies its binlog here.
# Also writes expected.txt, what the tables held at the end, for whoever compares.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=tests/private-server.sh
. ../../tests/private-server.sh

start_server mysql
cat tables.sql shop.sql | sql
for table in customers products orders order_items; do
    echo "== $table"
    echo "SELECT * FROM shop.$table ORDER BY 1, 2" | sql
done >expected.txt
stop_server
rm -f binlog.[0-9]*
for file in $(binlogs); do install -m 644 "$file" .; done
ls -l binlog.[0-9]*
