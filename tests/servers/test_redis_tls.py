"""TLS with a real Redis 7: who is trusted, who is refused and with which words, and that no word is a credential."""

from __future__ import annotations

import logging
import shutil
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agentcache_core import Cache
from agentcache_core.errors import BackendUnavailable, ConfigurationError
from agentcache_core.testing.servers import RedisServer, fetched_program
from agentcache_core.urls import open_backend

Open = Callable[[str], Any]
OPTIONS = "timeout=5s"


def _refused(call: Callable[[], object], words: str) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable, match=words) as caught:
        call()
    return caught.value


def test_a_certificate_of_a_trusted_authority_is_accepted(tls_redis: Any, certificates: Any, open_store: Open) -> None:
    for host in ("127.0.0.1", "localhost"):
        url = f"rediss://{host}:{tls_redis.port}/0?ca_certs={certificates.ours.file}&{OPTIONS}"
        store = open_store(url)
        version = store.put(b"a/k", b"v" * 200_000)
        assert store.get(b"a/k") == (b"v" * 200_000, version)
        assert store.add(b"a/n", 1) >= 1
        assert store.put(b"a/k", b"w", if_version=version) is not None


def test_another_authority_is_refused_and_the_words_say_what_to_change(
    tls_redis: Any, certificates: Any, open_store: Open
) -> None:
    for option in (f"ca_certs={certificates.others.file}&", ""):
        store = open_store(f"{tls_redis.url}?{option}{OPTIONS}")
        for call in (lambda store=store: store.get(b"k"), lambda store=store: store.put(b"k", b"v")):
            _refused(call, "not signed by a CA that is trusted here; name the file of its CA in ca_certs")


def test_only_the_named_authority_is_trusted_not_the_systems_as_well(
    tls_redis: Any, certificates: Any, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ours.file))  # where OpenSSL looks for the system's
    assert open_store(f"{tls_redis.url}?check_hostname=true&{OPTIONS}").put(b"k", b"v") is not None
    store = open_store(f"{tls_redis.url}?ca_certs={certificates.others.file}&check_hostname=true&{OPTIONS}")
    _refused(lambda: store.get(b"k"), "not signed by a CA that is trusted here")


def test_a_certificate_for_another_name_is_refused_unless_names_are_not_checked(
    start_tls_redis: Callable[..., Any], certificates: Any, open_store: Open
) -> None:
    server = start_tls_redis(shows=certificates.ours.sign("elsewhere", "elsewhere.example"))
    url = f"{server.url}?ca_certs={certificates.ours.file}&{OPTIONS}"
    _refused(lambda: open_store(url).get(b"k"), "for another name; .* or set check_hostname=no")
    assert open_store(f"{url}&check_hostname=no").put(b"k", b"v") is not None
    stranger = f"{server.url}?ca_certs={certificates.others.file}&check_hostname=no&{OPTIONS}"
    _refused(lambda: open_store(stranger).get(b"k"), "not signed by a CA")


def test_an_expired_certificate_is_refused(
    start_tls_redis: Callable[..., Any], certificates: Any, open_store: Open
) -> None:
    server = start_tls_redis(shows=certificates.ours.sign("old", "127.0.0.1", days=-1))
    store = open_store(f"{server.url}?ca_certs={certificates.ours.file}&{OPTIONS}")
    _refused(lambda: store.get(b"k"), "certificate has expired")


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_a_server_that_asks_for_certificates_is_shown_one(
    start_tls_redis: Callable[..., Any], certificates: Any, open_store: Open, protocol: str
) -> None:
    server = start_tls_redis("--tls-protocols", protocol, clients="yes")
    url = f"{server.url}?ca_certs={certificates.ours.file}&{OPTIONS}"
    certificate, key = certificates.client
    store = open_store(f"{url}&certfile={certificate}&keyfile={key}")
    assert store.put(b"a/k", b"v") is not None
    assert [stat.name for stat in store.scan(b"a/")] == [b"a/k"]
    for _ in range(5):
        _refused(lambda: open_store(url).get(b"k"), r"client certificate.*certfile(,| and) keyfile")
    certificate, key = certificates.others.sign("client")
    stranger = open_store(f"{url}&certfile={certificate}&keyfile={key}")
    _refused(lambda: stranger.get(b"k"), r"client certificate in certfile|client certificate.*\(certfile, keyfile\)")


def test_files_that_cannot_be_used_are_refused_when_the_backend_is_opened(certificates: Any, tmp_path: Path) -> None:
    nothing, (certificate, key) = tmp_path / "nothing.pem", certificates.client
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for options, words in (
        (f"ca_certs={nothing}", f"ca_certs: {nothing} holds no certificates .No such file"),
        (f"ca_certs={text}", f"ca_certs: {text} holds no certificates"),
        (f"certfile={nothing}", "No such file"),
        (f"certfile={certificate}&keyfile={certificates.server[1]}", "no certificate with its key"),
        (f"keyfile={key}", "needs certfile"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            open_backend(f"rediss://127.0.0.1/0?{options}")
    for scheme in ("redis", "redis+cluster"):
        with pytest.raises(ConfigurationError, match=r"option ca_certs of .* needs TLS"):
            open_backend(f"{scheme}://127.0.0.1/?ca_certs={certificates.ours.file}")


def test_a_new_certificate_is_taken_up_without_a_restart(
    start_tls_redis: Callable[..., Any], certificates: Any, open_store: Open, tmp_path: Path
) -> None:
    server = start_tls_redis(clients="yes")
    certfile, keyfile = tmp_path / "client.pem", tmp_path / "client.key"

    def install(pair: tuple[Path, Path]) -> None:
        shutil.copyfile(pair[0], certfile)
        shutil.copyfile(pair[1], keyfile)
        server.ask("CLIENT", "KILL", "TYPE", "normal")

    install(certificates.others.sign("client"))
    store = open_store(
        f"{server.url}?ca_certs={certificates.ours.file}&certfile={certfile}&keyfile={keyfile}&{OPTIONS}"
    )
    _refused(lambda: store.get(b"k"), "client certificate")
    install(certificates.client)
    assert store.put(b"k", b"v") is not None
    certfile.unlink()
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    _refused(lambda: store.get(b"k"), "certfile and keyfile: .*No such file")


def test_tls_where_there_is_none_and_none_where_there_is(tls_redis: Any, open_store: Open) -> None:
    with RedisServer(program=fetched_program("redis7/redis-server")) as plain:
        store = open_store(f"rediss://127.0.0.1:{plain.port}/0?timeout=300ms")  # waits for the end of a line
        _refused(lambda: store.get(b"k"), "did not answer in time|does not answer in TLS")
    store = open_store(f"redis://127.0.0.1:{tls_redis.port}/0?{OPTIONS}")
    _refused(lambda: store.get(b"k"), r"does not speak Redis; .* use rediss://|closed the connection")


def test_a_frozen_server_costs_no_more_than_the_time_also_in_the_handshake(
    start_tls_redis: Callable[..., Any], certificates: Any, open_store: Open
) -> None:
    server = start_tls_redis()
    url = f"{server.url}?ca_certs={certificates.ours.file}&timeout=300ms"
    warm, cold = open_store(url.replace("300ms", "5s")), open_store(url)
    warm.put(b"k", b"v")
    server.freeze()
    began = time.monotonic()
    _refused(lambda: cold.get(b"k"), "in time")
    assert time.monotonic() - began < 10 * 0.6
    server.thaw()
    assert cold.get(b"k").data == b"v"
    assert warm.get(b"k").data == b"v"


def test_a_connection_lost_between_two_calls_goes_unnoticed(
    start_tls_redis: Callable[..., Any], certificates: Any, open_store: Open
) -> None:
    server = start_tls_redis()
    store = open_store(f"{server.url}?ca_certs={certificates.ours.file}&{OPTIONS}")
    for call in (
        lambda: store.get(b"k"),
        lambda: store.put(b"k", b"v", if_absent=True),
        lambda: store.add(b"n", 1),
        lambda: store.get_many([b"k", b"l"]),
    ):
        store.put(b"warm", b"v")
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        call()


PASSWORD = "pa/ss:w@rd?#%41 &é"


@pytest.mark.parametrize("where", ["url", "environment"])
def test_users_of_an_access_list_are_told_apart_and_their_passwords_never_shown(
    start_tls_redis: Callable[..., Any],
    certificates: Any,
    open_store: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_tls_redis()
    assert server.ask("ACL", "SETUSER", "agent", "on", f">{PASSWORD}", "~ac1:*", "+@all").startswith("+OK")
    assert server.ask("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~ac1:*", "+get", "+mget").startswith("+OK")
    assert server.ask("ACL", "SETUSER", "default", "off").startswith("+OK")
    tail = f"127.0.0.1:{server.port}/0?ca_certs={certificates.ours.file}&{OPTIONS}"

    def opened(user: str, password: str) -> Any:
        if where == "environment":
            monkeypatch.setenv("AGENTCACHE_REDIS_USERNAME", user)
            monkeypatch.setenv("AGENTCACHE_REDIS_PASSWORD", password)
            return open_store(f"rediss://{tail}")
        return open_store(f"rediss://{quote(user, safe='')}:{quote(password, safe='')}@{tail}")

    able = opened("agent", PASSWORD)
    assert able.put(b"a/k", b"v") is not None
    reader = opened("reader", PASSWORD)
    assert reader.get(b"a/k").data == b"v"
    troubles = [_refused(lambda: reader.put(b"a/k", b"w"), "lacks a permission")]
    for user, password in (("agent", f"{PASSWORD}no"), ("nobody", PASSWORD), ("default", PASSWORD)):
        wrong = opened(user, password)
        troubles.append(_refused(lambda wrong=wrong: wrong.get(b"a/k"), "refuses the user name or password"))
        troubles.append(_refused(lambda wrong=wrong: wrong.put(b"a/k", b"w"), "refuses the user name or password"))
    for trouble in troubles:
        _shows_no_credential(trouble, repr(able), repr(reader), caplog.text)


def _shows_no_credential(error: BaseException, *texts: str) -> None:
    told = [*texts, "".join(traceback.format_exception(error))]
    chain: list[BaseException | None] = [error]
    while chain:
        cause = chain.pop()
        if cause is not None:
            told += [str(cause), repr(cause), *(str(argument) for argument in cause.args)]
            chain += [cause.__cause__, cause.__context__]
    for text in told:
        for secret in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "pa/ss", "w@rd"):
            assert secret not in text


def test_a_server_that_repeats_what_it_does_not_know_repeats_it_to_nobody(
    start_tls_redis: Callable[..., Any], certificates: Any, open_store: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_tls_redis("--rename-command", "AUTH", "")
    assert "pa/ss" in server.ask("AUTH", PASSWORD)
    place = f"{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/0?ca_certs={certificates.ours.file}&{OPTIONS}"
    for user in ("", "user"):
        store = open_store(f"rediss://{user}:{place}")
        for call in (lambda store=store: store.get(b"k"), lambda store=store: store.put(b"k", b"v")):
            _shows_no_credential(_refused(call, "Redis at"), repr(store), caplog.text)


def test_a_cache_over_tls_goes_on_when_the_certificate_is_wrong(tls_redis: Any, certificates: Any) -> None:
    heard: list[Any] = []
    with Cache(f"{tls_redis.url}?ca_certs={certificates.others.file}&timeout=5s") as cache:
        cache.events.subscribe(heard.append)
        assert cache.get_or_compute("k", lambda: "computed") == "computed"
    assert any("ca_certs" in str(event) for event in heard)
