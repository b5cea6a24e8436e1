"""What an `s3://` URL says: where the bucket is, whose credentials, how long to wait, which client asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from agentcache_core.errors import ConfigurationError
from agentcache_core.urls import Options, StoreUrl

ClientChoice = Literal["auto", "obstore", "s3fs"]
Style = Literal["auto", "path", "virtual"]


@dataclass(frozen=True, slots=True)
class S3Settings:
    """One bucket and prefix. Credentials never appear in a repr; without `key` the environment, the profile and the
    machine's role are asked.

    timeout: seconds for a connection, and for the store to begin an answer. client: who sends the requests; `auto`
    takes obstore where it is installed and knows enough. style: the bucket in the path or in the host name; `auto` is
    the host name on AWS and the path elsewhere.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    anonymous: bool = False
    timeout: float = 5.0
    client: ClientChoice = "auto"
    style: Style = "auto"

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ConfigurationError("s3:// needs a bucket, as in s3://bucket/prefix")
        if bool(self.key) != bool(self.secret):
            raise ConfigurationError("s3:// needs both key and secret, or neither")

    @property
    def folder(self) -> str:
        """What every object's key begins with: "" or a path that ends with a slash."""
        inner = self.prefix.strip("/")
        return f"{inner}/" if inner else ""


def settings_of(url: StoreUrl) -> S3Settings:
    """The settings that an `s3://` URL spells out. Raises `ConfigurationError`."""
    options = Options(url)
    settings = S3Settings(
        bucket=url.host,
        prefix=url.path,
        endpoint=options.text("endpoint").rstrip("/"),
        region=options.text("region"),
        key=options.text("key") or url.username,
        secret=options.text("secret") or url.password,
        anonymous=options.flag("anon", False),
        timeout=options.duration("timeout", 5.0),
        client=cast(ClientChoice, options.choice("client", ("auto", "obstore", "s3fs"), "auto")),
        style=cast(Style, options.choice("style", ("auto", "path", "virtual"), "auto")),
    )
    options.finish()
    if settings.endpoint and not settings.endpoint.startswith(("http://", "https://")):
        raise ConfigurationError(f"option endpoint of s3:// begins with http:// or https://, got {settings.endpoint!r}")
    return settings
