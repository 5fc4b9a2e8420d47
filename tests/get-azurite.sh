#!/bin/bash
# Puts Azurite, a stand-in for Azure's blob store, under PREFIX (default: .tools/azurite of this repository); runs once, then
# answers at once. Uses: tests/get-azurite.sh; then node PREFIX/node_modules/azurite/dist/src/blob/main.js.
# It needs the machine's node, 20 or later, and npm: what Debian has of them is hundreds of packages.
set -euo pipefail

script=get-azurite.sh
# Later ones need a newer node.
version=3.35.0
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-$tests/../.tools/azurite}
# shellcheck source=tests/debian-prefix.sh
. "$tests/debian-prefix.sh"

ready() {
    [ -e "$PREFIX/node_modules/azurite/dist/src/blob/main.js" ] && [ "$(cat "$PREFIX/installed" 2>/dev/null)" = "$version" ]
}

node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null ||
    fail "Azurite needs node 20 or later and npm, and they are not here; install them to test against Azure's stand-in"
ready && exit 0
lock_prefix
ready && exit 0
echo "$script: installing Azurite $version from the package registry into $PREFIX (about 190 MB on disk)"
rm -rf "$PREFIX/node_modules"
npm install --prefix "$PREFIX" --no-fund --no-audit --no-save --ignore-scripts "azurite@$version" >"$PREFIX/log" 2>&1 ||
    fail "cannot install Azurite (no network, or no package registry answers?); see $PREFIX/log"
echo "$version" >"$PREFIX/installed"
ready || fail "the package azurite is not what it was: $PREFIX/node_modules/azurite/dist/src/blob/main.js is missing"
