# Sourced by get-mysql.sh, get-mariadb.sh, get-mariadb-11.8.sh, get-java.sh, get-mydumper.sh and get-python.sh: unpacks Debian packages with everything they need under one directory.
# Installs nothing, needs no root, and knows no mirror: every address comes from the machine's own apt configuration.
# A caller sets `script` (its own name) and PREFIX.
#   PREFIX/root   the unpacked packages, libc and dynamic loader included, so the host's libraries do not matter
#   PREFIX/bin    commands that run from there
#   PREFIX/apt    private apt state (source list, index, downloads) and PREFIX/apt/log, what apt said

fail() {
    echo "$script: $1" >&2
    exit 1
}

# Two tests that start at once must not unpack over each other.
lock_prefix() {
    mkdir -p "$PREFIX"
    exec 9>"$PREFIX/.lock"
    flock 9
}

require_debian() {
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "needs Linux on amd64, this is $(uname -s) on $(uname -m)"
    local command
    for command in apt-get apt-config dpkg-deb; do
        command -v "$command" >/dev/null || fail "needs a Debian machine, and \`$command\` is not here"
    done
    # shellcheck source=/dev/null
    distribution=$(. /etc/os-release && echo "$ID")
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
}

# The Debian archive this machine is configured to use. `--print-uris` needs neither index files nor root.
debian_mirror() {
    local addresses
    addresses=$(apt-get --print-uris update 2>/dev/null | sed -n "s|^'\(.*\)/dists/\([^/']*\)/InRelease'.*|\1 \2|p")
    { echo "$addresses" | grep " $codename\$" || echo "$addresses" | grep -v security; } | head -n 1 | cut -d ' ' -f 1
}

# Sets `package_source` to the apt source line of another suite of this machine's own Debian archive.
debian_source() {
    local suite=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
    [ "$distribution" = debian ] || fail "needs Debian, this is $distribution"
    [ -e "$keyring" ] || fail "needs the package debian-archive-keyring to verify what it downloads"
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || fail "apt has no Debian archive configured; add one to /etc/apt/sources.list"
    # The signature is verified; the index's expiry date is not, for a mirror that lags or a clock that is off is no reason to fail.
    package_source="deb [signed-by=$keyring arch=amd64 check-valid-until=no check-date=no] $mirror $suite main"
}

# A private apt: an empty dpkg status makes it compute the whole closure, libc included, without looking at the host.
# With an argument that line is the only package source, without one the host's sources are used.
configure_apt() {
    apt_dir=$PREFIX/apt
    mkdir -p "$apt_dir"/lists/partial "$apt_dir"/archives/partial "$apt_dir"/none
    : >"$apt_dir/status"
    {
        # Proxies and certificates of the host; its hooks and cache settings stay out.
        apt-config dump | grep -iE '^Acquire::https?(::|  *")' || true
        cat <<CONFIG
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$apt_dir/none";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$apt_dir/none";
Dir::State "$apt_dir";
Dir::State::lists "$apt_dir/lists";
Dir::State::status "$apt_dir/status";
Dir::Cache "$apt_dir";
Dir::Cache::archives "$apt_dir/archives";
Dir::Log "$apt_dir";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
CONFIG
        if [ $# -gt 0 ]; then
            echo "$1" >"$apt_dir/sources.list"
            echo "Dir::Etc::sourcelist \"$apt_dir/sources.list\";"
            echo "Dir::Etc::sourceparts \"$apt_dir/none\";"
        fi
    } >"$apt_dir/apt.conf"
    export APT_CONFIG=$apt_dir/apt.conf DEBIAN_FRONTEND=noninteractive
}

# unpack "PACKAGES WITH THEIR CLOSURE" "PACKAGES ALONE"
unpack() {
    local closure=$1 alone=$2 package
    : >"$apt_dir/log"
    apt-get -q -o APT::Update::Error-Mode=any update >>"$apt_dir/log" 2>&1 ||
        fail "cannot download: apt-get update failed (no network, or no mirror answers?); see $apt_dir/log"
    # shellcheck disable=SC2086
    apt-get -q -y --download-only install $closure >>"$apt_dir/log" 2>&1 ||
        fail "cannot download $closure; see $apt_dir/log"
    if [ -n "$alone" ]; then
        # shellcheck disable=SC2086
        (cd "$apt_dir/archives" && apt-get -q download $alone) >>"$apt_dir/log" 2>&1 ||
            fail "cannot download $alone; see $apt_dir/log"
    fi
    rm -rf "$PREFIX/root.part" "$PREFIX/root"
    mkdir -p "$PREFIX/root.part" "$PREFIX/bin"
    for package in "$apt_dir"/archives/*.deb; do
        dpkg-deb -x "$package" "$PREFIX/root.part" || fail "cannot unpack $package: delete $PREFIX and run again"
    done
    mv "$PREFIX/root.part" "$PREFIX/root"
    rm -rf "$apt_dir/archives" "$apt_dir/lists"
}

# wrap NAME PATH [ARGUMENT ...]: a command in PREFIX/bin that runs root/PATH through the unpacked dynamic loader.
# It finds everything relative to itself, so the directory may move; `$here` in an argument is PREFIX.
wrap() {
    local name=$1 path=$2
    shift 2
    [ -x "$PREFIX/root/$path" ] || fail "the packages hold no $path; delete $PREFIX and run again"
    cat >"$PREFIX/bin/$name.part" <<WRAPPER
#!/bin/sh
unset LD_PRELOAD LD_LIBRARY_PATH
here=\$(cd "\$(dirname "\$0")/.." && pwd)
libraries=\$here/root/usr/lib/x86_64-linux-gnu:\$here/root/lib/x86_64-linux-gnu
loader=\$here/root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
[ -x "\$loader" ] || loader=\$here/root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
program=\$here/root/$path
exec "\$loader" --library-path "\$libraries" --argv0 "\$program" "\$program" $* "\$@"
WRAPPER
    chmod +x "$PREFIX/bin/$name.part"
    mv "$PREFIX/bin/$name.part" "$PREFIX/bin/$name"
}
