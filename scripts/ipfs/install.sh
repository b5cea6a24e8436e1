#!/usr/bin/env bash
# A js-ipfs node for the tests of content-addressed credentials: about 300 MB, fetched once into a folder that clones
# and runs share.
set -euo pipefail
servers="${AGENTCACHE_SERVERS_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/agentcache/servers}"
home="${AGENTCACHE_IPFS_HOME:-$servers/ipfs}"
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    echo "node and npm are needed for the tests on a real IPFS node" >&2
    exit 1
fi
mkdir -p "$home"
cat > "$home/polyfill.cjs" <<'JS'
if (!Promise.withResolvers) {
  Promise.withResolvers = function () {
    let resolve, reject
    const promise = new Promise((yes, no) => { resolve = yes; reject = no })
    return { promise, resolve, reject }
  }
}
if (!Array.fromAsync) {
  Array.fromAsync = async function (source) {
    const items = []
    for await (const item of source) items.push(item)
    return items
  }
}
JS
[ -d "$home/node_modules/ipfs" ] && exit 0
echo "fetching js-ipfs into $home (once, some minutes)"
(cd "$home" && npm init -y >/dev/null && npm install ipfs@0.66.1 --ignore-scripts --no-audit --no-fund --loglevel=error)
