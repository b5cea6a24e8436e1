# Sourced by the scripts beside it: programs that no Python package of ours brings, fetched once, without root, into a
# folder that clones and runs share. Nothing here skips: what cannot be had ends the script with a word on what to do.

servers_home="${AGENTCACHE_SERVERS_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/agentcache/servers}"
mkdir -p "$servers_home"
servers_home="$(cd "$servers_home" && pwd)"

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# already PROGRAM WORDS...: whether a program is there and answers, for example `already redis7/redis-server --version`.
# A program of one's own, put there by hand, is as good.
already() {
    local program="$servers_home/$1"
    shift
    [ -x "$program" ] && "$program" "$@" >/dev/null 2>&1
}

# settle NAME FOLDER: move a finished folder to its place, where a broken one may still be.
settle() {
    rm -rf "${servers_home:?}/$1"
    chmod 755 "$2"
    mv -T "$2" "$servers_home/$1" || [ -d "$servers_home/$1" ] # another run was there first
}

# debian FOLDER PACKAGE...: unpack Debian packages, and those they depend on that this machine lacks, into a folder.
debian() {
    local folder="$1" missing
    shift
    command -v apt-get >/dev/null || fail "needs apt-get, or programs of your own under $servers_home"
    if ! apt-cache show "$@" >/dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || fail "apt knows no package $*: run 'apt-get update' as root"
        apt-get update -qq
    fi
    # Lines `Inst NAME [installed] (candidate ...)`: those without brackets are not here yet.
    missing="$(apt-get install --simulate --no-install-recommends "$@" | sed -n 's/^Inst \([^ ]*\) (.*/\1/p')"
    mkdir -p "$folder/packages"
    # Also what is installed already is fetched where it was named: its files are wanted in one place.
    _download "$folder/packages" "$@" $missing
    for package in "$folder"/packages/*.deb; do
        dpkg-deb --extract "$package" "$folder"
    done
    rm -rf "$folder/packages"
}

_download() {
    local folder="$1"
    shift
    local packages
    packages="$(printf '%s\n' "$@" | sort -u)"
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User= $packages) && return
    # The lists may name a version that has been replaced since.
    [ "$(id -u)" = 0 ] || fail "could not download $*: run 'apt-get update' as root and try again"
    apt-get update -qq
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User= $packages) || fail "could not download $*"
}

# launcher FOLDER PROGRAM [SUBFOLDER]: FOLDER/NAME runs FOLDER/PROGRAM with the libraries beside it, also those in a
# subfolder of the library folder, as the same process.
launcher() {
    local machine further="${3:-}"
    machine="$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")"
    cat > "$1/$(basename "$2")" <<LAUNCHER
#!/bin/sh
here="\$(dirname "\$(readlink -f "\$0")")"
export LD_LIBRARY_PATH="\$here/usr/lib/$machine:${further:+\$here/usr/lib/$machine/$further:}\$here/lib/$machine\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$here/$2" "\$@"
LAUNCHER
    chmod +x "$1/$(basename "$2")"
}
