#!/bin/bash
# Puts a Java that Spark runs on under PREFIX (default: .tools/java of this repository); runs once, then answers at once.
# Uses: tests/get-java.sh; then JAVA_HOME=PREFIX. It is the machine's java where that is 17 or 21, else Debian's, unpacked next to
# its own libraries.
set -euo pipefail

script=get-java.sh
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-$tests/../.tools/java}
# shellcheck source=tests/debian-prefix.sh
. "$tests/debian-prefix.sh"

fits() {
    "$1" -version 2>&1 | grep -qE 'version "(17|21)[."]'
}

ready() {
    [ -x "$PREFIX/bin/java" ] && fits "$PREFIX/bin/java"
}

# Java's own directory points at files in /etc: here they lie below the same root.
repair_links() {
    local link target
    find "$PREFIX/root" -type l -lname '/*' | while read -r link; do
        target=$PREFIX/root$(readlink "$link")
        if [ -e "$target" ]; then ln -sfn "$(realpath --relative-to="$(dirname "$link")" "$target")" "$link"; fi
    done
}

ready && exit 0
lock_prefix
PREFIX=$(cd "$PREFIX" && pwd)
ready && exit 0
rm -rf "$PREFIX/bin"
if java=$(command -v java) && fits "$java"; then
    mkdir -p "$PREFIX/bin"
    ln -s "$(realpath "$java")" "$PREFIX/bin/java"
    echo "$script: the java of this machine, in $PREFIX"
else
    require_debian
    echo "$script: no java 17 or 21 here; unpacking Debian's into $PREFIX (about 65 MB to download, 260 MB on disk)"
    configure_apt
    # Debian 12 has the one, Debian 13 the other.
    release=17
    [ "$codename" != trixie ] || release=21
    unpack "openjdk-$release-jre-headless" ""
    repair_links
    wrap java "usr/lib/jvm/java-$release-openjdk-amd64/bin/java"
fi
ready || fail "$PREFIX/bin/java does not run; delete $PREFIX and run again"
