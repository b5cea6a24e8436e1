"""Packages of agents: what the archive check refuses, what the secrets scan sees, and content-addressed storage."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_service.market.archive import ArchiveRefused, check_package
from agentcache_service.market.blobs import BlobCorrupt, BlobError, BlobMissing, LocalCas, cid_of, is_cid
from agentcache_service.market.secrets_scan import scan


def packed(files: dict[str, bytes], *, readme: bool = True) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        if readme:
            archive.writestr("README.md", "# An agent\n\nRun `python src/main.py`.")
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_plain_package_is_accepted_with_the_digest_of_every_file() -> None:
    package = check_package(packed({"src/main.py": b"print('hello')\n"}))
    assert [file.path for file in package.files] == ["README.md", "src/main.py"]
    assert package.files[1].size == 15
    assert package.readme.startswith("# An agent")
    assert package.findings == ()


@pytest.mark.parametrize(
    "name",
    ["../evil.py", "/etc/passwd", "a/../../b", "C:/x", "a\\b", "a//b", "./a", "nul.txt", "a/con", "trailing.", "x\ny"],
)
def test_a_path_that_leaves_the_package_or_cannot_be_unpacked_is_refused(name: str) -> None:
    with pytest.raises(ArchiveRefused):
        check_package(packed({name: b"x"}))


@given(st.text(alphabet="./\\ab:\n ", min_size=1, max_size=12))
def test_an_accepted_path_stays_inside_whatever_it_is_called(name: str) -> None:
    try:
        package = check_package(packed({name: b"x"}))
    except ArchiveRefused:
        return
    root = Path("/package")
    assert all((root / file.path).resolve().is_relative_to(root) for file in package.files)


def test_a_link_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("README.md", "# x")
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveRefused, match="link"):
        check_package(buffer.getvalue())


def test_a_bomb_is_given_up_while_reading() -> None:
    with pytest.raises(ArchiveRefused, match="times its size"):
        check_package(packed({"zeros.bin": bytes(30 << 20)}))


def test_a_header_that_lies_about_a_size_is_not_believed() -> None:
    body = bytearray(packed({"zeros.bin": bytes(3 << 20)}))
    central = body.rindex(b"PK\x01\x02")
    body[central + 24 : central + 28] = struct.pack("<I", 10)
    with pytest.raises(ArchiveRefused):
        check_package(bytes(body))


def test_the_same_name_in_another_case_is_refused() -> None:
    with pytest.raises(ArchiveRefused, match="twice"):
        check_package(packed({"a/Main.py": b"x", "a/main.py": b"y"}))


def test_a_file_inside_a_file_is_refused() -> None:
    with pytest.raises(ArchiveRefused, match="inside a file"):
        check_package(packed({"a": b"x", "a/b": b"y"}))


def test_a_package_without_a_readme_is_refused() -> None:
    with pytest.raises(ArchiveRefused, match="README"):
        check_package(packed({"src/main.py": b"x"}, readme=False))


@pytest.mark.parametrize("body", [b"", b"PK", b"not a zip", packed({"a": b"x"})[:-30]])
def test_what_is_not_a_whole_archive_is_refused(body: bytes) -> None:
    with pytest.raises(ArchiveRefused):
        check_package(body)


@given(st.binary(max_size=400))
def test_no_bytes_make_the_check_fail_in_another_way(body: bytes) -> None:
    with pytest.raises(ArchiveRefused):
        check_package(b"PK\x03\x04" + body)


SECRETS = [
    ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
    ("AWS access key", "aws = AKIA" + "IOSFODNN7EXAMPLQ"),
    ("GitHub token", "t = ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"),
    ("OpenAI key", "OPENAI=sk-proj-" + "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z"),
    ("AgentCache key", "ac_" + "0123456789abcdef" * 4),
    ("password in an address", "postgres://ada:" + "s3cr3tpass@db.example/x"),
    ("a long random value with a secret's name", 'api_key = "' + 'Zk3vQ9xR7tW2mB5nJ8pL1cF4"'),
]


@pytest.mark.parametrize(("what", "line"), SECRETS)
def test_a_secret_is_found_and_never_repeated(what: str, line: str) -> None:
    (finding,) = scan("src/config.py", f"a = 1\n{line}\n".encode())
    assert (finding.what, finding.line) == (what, 2)
    assert line not in repr(finding)


@pytest.mark.parametrize(
    "line",
    [
        "api_key = os.environ['API_KEY']",
        "password: YOUR_PASSWORD_GOES_RIGHT_HERE",
        "redis://localhost:6379/0",
        "token = None",
    ],
)
def test_ordinary_lines_are_not_secrets(line: str) -> None:
    assert scan("src/config.py", line.encode()) == []


def test_an_environment_file_is_held_but_its_example_is_not() -> None:
    assert scan(".env", b"A=1")
    assert scan(".env.example", b"A=1") == []


def test_a_cid_is_the_one_ipfs_gives_to_a_raw_block() -> None:
    assert cid_of(b"hello world") == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    assert is_cid(cid_of(b""))


def test_a_blob_is_kept_once_and_verified_when_read(tmp_path: Path) -> None:
    store = LocalCas(tmp_path)
    cid = store.put(b"sealed")
    assert store.put(b"sealed") == cid
    assert store.get(cid) == b"sealed"
    (path,) = (found for found in tmp_path.rglob("*") if found.is_file())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"changed")
    with pytest.raises(BlobCorrupt):
        store.get(cid)
    store.remove(cid)
    store.remove(cid)
    with pytest.raises(BlobMissing):
        store.get(cid)


def test_only_a_cid_can_name_a_file(tmp_path: Path) -> None:
    with pytest.raises(BlobError, match="not a CID"):
        LocalCas(tmp_path).get("../../etc/passwd")
