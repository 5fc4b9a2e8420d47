#!/bin/bash
# Puts a Python with pinned packages under PREFIX (default: .tools/python of this repository); runs once, then answers at once.
# Uses: tests/get-python.sh [GROUP ...]; then PREFIX/bin/python. A group is a file tests/python/GROUP.txt of pinned packages:
#   readers   what tests read the relay's answers with (the default)
#   stores    stand-ins for the clouds' object stores
#   lake      what reads published tables: DuckDB, polars, deltalake
#   compare   what `tidemill bench clone` compares with
#   spark     Spark, which reads them too, with the Java of get-java.sh
# It is a virtual environment of the machine's python3. Where there is none, or its venv cannot bring pip (a bare Debian), it is
# Debian's python3, unpacked next to its own libraries.
set -euo pipefail

script=get-python.sh
# The oldest and the newest release that every pinned package has been built for.
oldest=10 newest=14
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=${PREFIX:-$tests/../.tools/python}
# shellcheck source=tests/debian-prefix.sh
. "$tests/debian-prefix.sh"
[ $# -gt 0 ] || set -- readers

# A group is there when what was installed is what its file says today.
ready() {
    local group
    for group in "$@"; do
        cmp -s "$tests/python/$group.txt" "$PREFIX/installed/$group.txt" || return 1
    done
    "$PREFIX/bin/python" -c '' 2>/dev/null
}

fits() {
    "$1" -c "import sys; sys.exit(not (3, $oldest) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null
}

make_venv() {
    local python=$1
    fits "$python" && "$python" -c 'import ensurepip, venv' 2>/dev/null || return 1
    "$python" -m venv --clear "$PREFIX/venv" >"$PREFIX/log" 2>&1 || return 1
    mkdir -p "$PREFIX/bin"
    printf '#!/bin/sh\nexec "$(dirname "$0")/../venv/bin/python" "$@"\n' >"$PREFIX/bin/python.part"
    echo "$script: a virtual environment of $("$python" --version 2>&1) in $PREFIX"
}

# Packages go into PREFIX/packages there; pip is the wheel that Debian carries.
unpack_debian() {
    require_debian
    [ "$distribution" = debian ] ||
        fail "needs python3 from 3.$oldest to 3.$newest with venv and pip on this $distribution; install them (python3, python3-venv)"
    echo "$script: no python3 with venv here; unpacking Debian's into $PREFIX (about 15 MB to download)"
    configure_apt
    # libstdc++ is for the packages, which bring all else.
    unpack "python3 libstdc++6 zlib1g" "python3-pip-whl"
    wrap python-alone "$(cd "$PREFIX/root" && ls usr/bin/python3.[0-9]* | head -n 1)"
    cat >"$PREFIX/bin/python.part" <<'WRAPPER'
#!/bin/sh
here=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH=$here/packages${PYTHONPATH:+:$PYTHONPATH} exec "$here/bin/python-alone" "$@"
WRAPPER
}

make_python() {
    rm -rf "$PREFIX/venv" "$PREFIX/packages" "$PREFIX/installed" "$PREFIX/bin"
    make_venv python3 || unpack_debian
    chmod +x "$PREFIX/bin/python.part"
    mv "$PREFIX/bin/python.part" "$PREFIX/bin/python"
    fits "$PREFIX/bin/python" || fail "the python in $PREFIX is not one from 3.$oldest to 3.$newest; see $PREFIX/log"
}

pip() {
    local wheel
    if [ -d "$PREFIX/venv" ]; then
        "$PREFIX/bin/python" -m pip --disable-pip-version-check "$@"
    else
        wheel=$(ls "$PREFIX"/root/usr/share/python-wheels/pip-*.whl)
        PYTHONPATH=$wheel "$PREFIX/bin/python" -m pip --disable-pip-version-check "$@" --target "$PREFIX/packages" --upgrade
    fi
}

install_group() {
    local group=$1 list=$tests/python/$1.txt
    echo "$script: installing the packages of $group from the package index into $PREFIX"
    # Built packages only: a compiler's errors would say nothing here.
    pip install --quiet --no-input --only-binary :all: --requirement "$list" >"$PREFIX/log" 2>&1 ||
        fail "cannot install $(grep -v '^#' "$list" | head -n 1) and what else $list names (no network, or no package index answers?); see $PREFIX/log"
    mkdir -p "$PREFIX/installed"
    cp "$list" "$PREFIX/installed/$group.txt"
}

for group in "$@"; do
    [ -e "$tests/python/$group.txt" ] || fail "there is no group $group; see the files in tests/python"
done
ready "$@" && exit 0
lock_prefix
PREFIX=$(cd "$PREFIX" && pwd)
ready "$@" && exit 0
"$PREFIX/bin/python" -c '' 2>/dev/null || make_python
for group in "$@"; do
    ready "$group" || install_group "$group"
done
ready "$@" || fail "$PREFIX/bin/python does not run; delete $PREFIX and run again"
