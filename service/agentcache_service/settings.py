"""Settings of the service: one typed object, embedded defaults, everything overridable by `AGENTCACHE_SERVICE_*`."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_COMMA_BEFORE_URL = r",(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)"


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "agentcache-service"


class Settings(BaseSettings):
    """What an operator may choose. The defaults need no other program: SQLite, local files, an in-process worker.

    Lists (`cors_origins`, `cache_tiers`) are written comma-separated in the environment. Secrets are `SecretStr`: they
    never show in a repr or a log line.
    """

    model_config = SettingsConfigDict(env_prefix="AGENTCACHE_SERVICE_", extra="ignore", validate_default=True)

    data_dir: Path = Field(default_factory=_state_home, description="where databases, assets and the master key live")
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str = Field(default="", description="the address customers see; default http://<host>:<port>")
    workers: int = Field(default=1, ge=1, le=64)

    database_url: str = Field(default="", description="SQLAlchemy or postgresql:// URL; default SQLite in data_dir")
    cache_tiers: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="engine tiers, hottest first; default memory and SQLite in data_dir"
    )
    files_url: str = Field(
        default="", description="file:// or s3:// place of outbox mails, packages and credentials; default data_dir"
    )
    semantic: Literal["off", "minilm"] = Field(
        default="off", description="the embedding model of answers by meaning; minilm needs the extra of that name"
    )
    semantic_threshold: float = Field(
        default=0.95, gt=0, le=1, description="the least cosine similarity of an answer by meaning, of every namespace"
    )
    redis_url: SecretStr | None = Field(default=None, description="rate limits and live events between several workers")

    mail_transport: Literal["outbox", "smtp"] = "outbox"
    smtp_url: SecretStr | None = Field(
        default=None, description="smtp://, smtps:// or smtp+starttls:// with user and password"
    )
    mail_from: str = "AgentCache <no-reply@agentcache.invalid>"

    master_key: SecretStr | None = Field(
        default=None, description="32 bytes in base64; default: a 0600 file in data_dir"
    )
    previous_master_keys: Annotated[list[str], NoDecode] = Field(default_factory=list, repr=False)

    cors_origins: Annotated[list[str], NoDecode] = Field(default_factory=list)
    max_json_bytes: int = Field(default=1 << 20, ge=1024)
    max_value_bytes: int = Field(default=64 << 20, ge=1024)
    metrics_token: SecretStr | None = None
    worker_in_process: bool = True
    rate_limits: bool = True
    outgoing_allow: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="networks (CIDR) that outgoing calls may reach although they are private"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    plans_file: Path | None = Field(default=None, description="another plans.toml")
    payments: Literal["local", "stripe"] = Field(default="local", description="local is play money with test cards")
    stripe_secret_key: SecretStr | None = None
    stripe_webhook_secret: SecretStr | None = None
    stripe_api: str = Field(default="", description="another server that speaks Stripe's API, for tests")
    credential_store: Literal["local", "ipfs"] = "local"
    ipfs_api: str = Field(default="", description="the RPC address of an IPFS node, for credential_store=ipfs")
    partners_dir: Path | None = Field(
        default=None, description="partner files that replace or extend the packaged ones"
    )
    partner_clients: SecretStr | None = Field(
        default=None,
        description='OAuth clients and postback secrets: {"replicate": {"id": …, "secret": …, "postback": …}}',
    )
    session_days: int = Field(default=14, ge=1, le=90)

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: object) -> object:
        if isinstance(values, dict):
            for name in ("cache_tiers", "cors_origins", "outgoing_allow", "previous_master_keys"):
                if isinstance(values.get(name), str):
                    # A tier's URL may hold commas of its own (`redis+cluster://a:7000,b:7000`).
                    commas = _COMMA_BEFORE_URL if name == "cache_tiers" else ","
                    parts = (part.strip().rstrip(",") for part in re.split(commas, values[name]))
                    values[name] = [part for part in parts if part]
        return values

    @model_validator(mode="after")
    def _fill_and_check(self) -> Settings:
        self.data_dir = self.data_dir.expanduser().resolve()
        if not self.public_url:
            host = f"[{self.host}]" if ":" in self.host else self.host
            self.public_url = f"http://{host}:{self.port}"
        self.public_url = self.public_url.rstrip("/")
        if urlsplit(self.public_url).scheme not in {"http", "https"}:
            raise ValueError("public_url must begin with http:// or https://")
        if not self.database_url:
            self.database_url = f"sqlite:///{self.data_dir / 'service.db'}"
        if not self.cache_tiers:
            self.cache_tiers = [f"sqlite:///{self.data_dir / 'cache.db'}"]
        if "*" in self.cors_origins:
            raise ValueError("cors_origins must name origins; '*' would let any page use a visitor's session")
        if self.mail_transport == "smtp" and self.smtp_url is None:
            raise ValueError("mail_transport=smtp needs smtp_url, for example smtp+starttls://user:password@host:587")
        if self.payments == "stripe" and (self.stripe_secret_key is None or self.stripe_webhook_secret is None):
            raise ValueError("payments=stripe needs stripe_secret_key and stripe_webhook_secret")
        if self.credential_store == "ipfs" and not self.ipfs_api:
            raise ValueError("credential_store=ipfs needs ipfs_api, for example http://127.0.0.1:5001")
        for network in self.outgoing_allow:
            ipaddress.ip_network(network)
        return self

    @property
    def is_https(self) -> bool:
        """True when customers reach the service over TLS: cookies are then `Secure` and host-bound."""
        return self.public_url.startswith("https://")

    @property
    def is_loopback(self) -> bool:
        """True when the service listens on this machine only."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
