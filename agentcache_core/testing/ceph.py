"""Ceph's RADOS gateway for tests and measurements: a real S3, with a monitor and one storage daemon behind it.

Everything listens on 127.0.0.1 only, without authentication between the daemons; objects live in the memory of the
storage daemon. `scripts/servers/ceph.sh` fetches the programs.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from agentcache_core.testing.servers import S3Endpoint, Server, ServerFailed, free_port, servers_home

PATIENCE = 120.0
"""Seconds that each step of the start may take. Together they take about 15 on a machine with nothing else to do."""
CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{port}
mon initial members = a
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = true

# Nothing of theirs lies where an installed Ceph has it.
run dir = {folder}/run
crash dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file =
plugin dir = {libraries}/ceph
erasure code dir = {libraries}/ceph/erasure-code
osd class dir = {libraries}/rados-classes
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
log file =
log to stderr = true
mon cluster log file =
debug rgw = 0
debug osd = 0
debug ms = 0

# One storage daemon that keeps everything in memory, and one copy of each object.
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 0
# With these on, the storage daemon does not start: it says that the fsid is wrong.
osd class update on start = false
osd crush update on start = false
rgw thread pool size = 128
rgw dynamic resharding = false
"""


class _Daemon(Server):
    """A daemon of the store behind the gateway. It is up when its admin socket is there."""

    patience = PATIENCE

    def __init__(self, socket: Path, *words: str) -> None:
        super().__init__()
        self._socket = socket
        self._words = words

    def command(self) -> Sequence[str]:
        return self._words

    def answers(self) -> bool:
        return self._socket.exists()


class CephGateway(S3Endpoint):
    """A RADOS gateway with one user and one bucket; a context manager. Raises `ServerFailed` with what its daemons
    wrote when it cannot be started."""

    patience = PATIENCE

    def __init__(self) -> None:
        super().__init__()
        self._home = servers_home() / "ceph"
        self._configuration = self.folder / "ceph.conf"
        self._behind: list[_Daemon] = []

    def command(self) -> Sequence[str]:
        # Without tcp_nodelay a small answer waits 40 ms for the acknowledgement of its header.
        frontend = f"beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1"
        return (*self._program("radosgw"), "-f", "-n", "client.rgw", f"--rgw-frontends={frontend}")

    def answers(self) -> bool:
        with urllib.request.urlopen(self.endpoint, timeout=10) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)

    def start(self) -> Self:
        try:
            if not self._behind:
                self._start_the_store()
            super().start()
            self._make_the_bucket()
        except ServerFailed as error:
            logs = "".join(f"\n{daemon.command()[0]}:\n{daemon.log()[-3000:]}" for daemon in self._behind)
            self.stop()
            raise ServerFailed(f"{error}{logs}") from None
        return self

    def _start_the_store(self) -> None:
        for folder in ("run", "mon", "osd", "rgw"):
            (self.folder / folder).mkdir()
        fsid, osd, port = str(uuid.uuid4()), str(uuid.uuid4()), free_port()
        libraries = next(self._home.glob("usr/lib/*/rados-classes"), self._home / "usr/lib").parent
        self._configuration.write_text(
            CONFIGURATION.format(fsid=fsid, port=port, folder=self.folder, libraries=libraries).lstrip()
        )
        map_of_monitors = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{port}]", map_of_monitors)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_of_monitors)
        self._stand_behind("ceph-mon", "-f", "-i", "a")
        self._run("ceph", "--connect-timeout=60", "osd", "new", osd, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._stand_behind("ceph-osd", "-f", "-i", "0")
        self._run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h1")
        user = ("--uid=test", "--display-name=test", "--access-key=testing", "--secret-key=testing")
        self._run("radosgw-admin", "user", "create", *user)

    def _stand_behind(self, *words: str) -> None:
        name = f"{words[0].removeprefix('ceph-')}.{words[-1]}"
        daemon = _Daemon(self.folder / "run" / f"{name}.asok", *self._program(words[0]), *words[1:])
        self._behind.append(daemon)
        daemon.start()

    def _program(self, name: str) -> tuple[str, ...]:
        program = self._home / name
        if not program.is_file():
            raise ServerFailed(f"{program} is missing: run `make test-servers`, which fetches it")
        return str(program), "-c", str(self._configuration)

    def _run(self, name: str, *words: str) -> None:
        """One command to its end. Raises `ServerFailed` with what it wrote."""
        program, *where = self._program(name)
        try:
            done = subprocess.run(  # noqa: S603 - our own command line
                (program, *words) if name == "monmaptool" else (program, *where, *words),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                cwd=self.folder,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerFailed(f"{name} {words[0]} did not end within {PATIENCE:.0f} s") from error
        if done.returncode:
            raise ServerFailed(f"{name} {words[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}"[-4000:])

    def _make_the_bucket(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]  # no types
        from botocore.session import get_session  # type: ignore[import-untyped]  # no types

        where: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": self.endpoint}
        secret = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        client = get_session().create_client("s3", **where, **secret)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                client.create_bucket(Bucket=self.bucket)
                break
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > until:
                    raise ServerFailed(f"the gateway made no bucket: {error}\n{self.log()[-3000:]}") from error
                time.sleep(0.2)
        client.close()

    def stop(self) -> None:
        """End all of it at once and remove its folder: nothing in it is to be kept."""
        self.kill()
        for daemon in reversed(self._behind):
            daemon.kill()
            daemon.stop()
        self._behind.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
