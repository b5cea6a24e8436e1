"""What the environment, the profile and the machine's role say of S3, read as every AWS program reads it.

s3fs does this by itself. obstore knows a part of it (no profiles, no single sign-on, no programs that give
credentials), so it is told what botocore found; where even that does not suffice, `odd` says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agentcache_backends.filesystem.s3.settings import S3Settings

CREDENTIALS_KEPT = timedelta(minutes=10)
"""How long obstore may keep what botocore gave it; botocore renews it a quarter of an hour before it ends."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_BEYOND_OBSTORE = ("use_fips_endpoint", "use_dualstack_endpoint", "s3")
_PARTITIONS = ("aws", "aws-us-gov")
"""Those whose host names end with amazonaws.com."""

Credentials = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where to send requests, and how to sign them. `odd` is why only s3fs can do that, or "". `credentials` is None
    where requests are not signed."""

    endpoint: str
    region: str
    credentials: Callable[[], Credentials] | None = field(default=None, repr=False)
    certificates: bytes | None = field(default=None, repr=False)
    virtual: bool = False
    odd: str = ""


def look_around(settings: S3Settings) -> Surroundings:
    """What holds for a bucket here. May ask the machine's role, which takes a second where there is none."""
    if odd := _odd_path(settings.folder):
        return Surroundings("", "", odd=odd)
    import botocore.session  # type: ignore[import-untyped]  # it ships no types
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # it ships no types

    try:
        if settings.endpoint and (settings.key or settings.anonymous):
            return _spelled_out(settings)
        return _asked(settings, botocore.session.get_session())
    except (BotoCoreError, OSError) as error:
        return Surroundings("", "", odd=f"the AWS configuration cannot be used ({type(error).__name__})")


def _spelled_out(settings: S3Settings) -> Surroundings:
    """Where the URL says everything."""
    bundle = os.environ.get("AWS_CA_BUNDLE", "")
    return _surroundings(settings, settings.endpoint, settings.region, _signing(settings, None), bundle)


def _asked(settings: S3Settings, session: Any) -> Surroundings:
    """Where botocore fills in what the URL leaves open."""
    endpoint, region = settings.endpoint, settings.region or session.get_config_variable("region") or ""
    if not endpoint and not session.get_config_variable("ignore_configured_endpoint_urls"):
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    if odd := _odd_settings(session, endpoint, region):
        return Surroundings(endpoint, region, odd=odd)
    credentials = _signing(settings, session)
    if credentials is None and not settings.anonymous:
        return Surroundings(endpoint, region, odd="no credentials were found")
    return _surroundings(settings, endpoint, region, credentials, session.get_config_variable("ca_bundle") or "")


def _surroundings(
    settings: S3Settings, endpoint: str, region: str, credentials: Callable[[], Credentials] | None, bundle: str
) -> Surroundings:
    on_aws = not endpoint
    # A bucket with dots in its name does not fit the certificate of a host name.
    virtual = settings.style == "virtual" or (settings.style == "auto" and on_aws and "." not in settings.bucket)
    place = endpoint.rstrip("/") or f"https://s3.{region}.amazonaws.com"
    if virtual:
        scheme, _, host = place.partition("://")
        place = f"{scheme}://{settings.bucket}.{host}"
    certificates = Path(bundle).read_bytes() if bundle and place.startswith("https") else None
    return Surroundings(place, region or "us-east-1", credentials, certificates, virtual)


def _signing(settings: S3Settings, session: Any) -> Callable[[], Credentials] | None:
    if settings.anonymous:
        return None
    if settings.key:
        return lambda: {
            "access_key_id": settings.key,
            "secret_access_key": settings.secret,
            "token": None,
            "expires_at": None,
        }
    found = session.get_credentials()
    if found is None:
        return None

    def current() -> Credentials:
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + CREDENTIALS_KEPT,
        }

    return current


def _odd_path(folder: str) -> str:
    """obstore refuses what is not a plain path."""
    segments = folder[:-1].split("/") if folder else []
    return "the prefix has empty or dotted parts" if {"", ".", ".."} & set(segments) else ""


def _odd_settings(session: Any, endpoint: str, region: str) -> str:
    for name in _BEYOND_OBSTORE:
        if session.get_config_variable(name):
            return f"the AWS configuration says {name}"
    if endpoint:
        return ""
    if {"endpoint_url", "services"} & set(session.get_scoped_config()):
        return "the AWS profile names an endpoint"
    if not region:
        return "no region is known"
    if session.get_partition_for_region(region) not in _PARTITIONS:
        return f"region {region} is not on amazonaws.com"
    return ""
