"""Credentials on a real IPFS node: the node's CIDs are ours, reads are verified, unpinning works."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcache_core.testing.servers import servers_home
from agentcache_service.market.blobs import MAX_BLOCK, BlobError, IpfsRpc, cid_of

HOME = Path(os.environ.get("AGENTCACHE_IPFS_HOME") or servers_home() / "ipfs")
NODE = HOME / "node_modules" / "ipfs" / "src" / "cli.js"

pytestmark = pytest.mark.skipif(
    not NODE.exists() or shutil.which("node") is None,
    reason="the IPFS node is not installed: run `make test-ipfs`, which fetches it once and runs this",
)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _jsipfs(env: dict[str, str], *words: str) -> None:
    subprocess.run(["node", str(NODE), *words], env=env, check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The RPC address of an offline node on loopback."""
    home = tmp_path_factory.mktemp("ipfs")
    env = {**os.environ, "IPFS_PATH": str(home / "repo"), "NODE_OPTIONS": f"--require {HOME / 'polyfill.cjs'}"}
    api, gateway, rpc = _free_ports(3)
    addresses = {
        "API": f"/ip4/127.0.0.1/tcp/{api}",
        "Gateway": f"/ip4/127.0.0.1/tcp/{gateway}",
        "RPC": f"/ip4/127.0.0.1/tcp/{rpc}",
        "Swarm": [],
        "Announce": [],
        "NoAnnounce": [],
        "Delegates": [],
    }
    _jsipfs(env, "init", "--profile=test,lowpower")
    _jsipfs(env, "config", "--json", "Addresses", json.dumps(addresses))
    _jsipfs(env, "config", "--json", "Bootstrap", "[]")
    _jsipfs(env, "config", "--json", "Discovery", '{"MDNS":{"Enabled":false},"webRTCStar":{"Enabled":false}}')
    log = (home / "log").open("wb")
    process = subprocess.Popen(["node", str(NODE), "daemon", "--offline"], env=env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{api}"
    try:
        _wait_for(address, process, home / "log")
        yield address
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the node ended: {log.read_text('utf-8')[-500:]}")
        try:
            urllib.request.urlopen(urllib.request.Request(f"{address}/api/v0/id", method="POST"), timeout=2).close()
        except OSError:
            pause.wait(0.2)
        else:
            return
    pytest.fail(f"the node did not answer: {log.read_text('utf-8')[-500:]}")


@pytest.mark.parametrize("size", [0, 1, 17, 4096, MAX_BLOCK])
def test_the_node_names_a_blob_as_we_do_and_gives_it_back(node: str, size: int) -> None:
    body = bytes(n % 251 for n in range(size))
    store = IpfsRpc(node)
    assert store.put(body) == cid_of(body)
    assert store.get(cid_of(body)) == body
    store.close()


def test_an_unpinned_blob_is_gone_after_the_nodes_collection_and_unpinning_twice_is_fine(node: str) -> None:
    store = IpfsRpc(node, timeout_s=3.0)
    cid = store.put(b"sealed")
    store.remove(cid)
    store.remove(cid)
    collect = urllib.request.Request(f"{node}/api/v0/repo/gc", method="POST")
    urllib.request.urlopen(collect, timeout=30).close()
    with pytest.raises(BlobError):
        store.get(cid)
    store.close()


def test_a_blob_beyond_one_block_is_refused_before_it_is_sent(node: str) -> None:
    store = IpfsRpc(node)
    with pytest.raises(BlobError, match="at most"):
        store.put(bytes(MAX_BLOCK + 1))
    store.close()
