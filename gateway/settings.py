"""Settings of the gateway: a TOML file, overridden by GW_* in the environment. An unknown key is a start-up error."""

from __future__ import annotations

import ssl
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from federation.http.limits import ConnectionBounds
from federation.process import environment
from federation.process.addresses import check_address
from federation.process.settings_errors import words
from federation.process.tls_files import TlsFileError, http_context
from federation.rpc.transport import Credentials, is_loopback_host
from federation.tlog.keeping import authority_at
from federation.tlog.stamping import TimeAuthority

DEFAULT_LOG = "gateway"
PREFIX = "GW_"


class SettingsError(Exception):
    """The settings can not be used; the message names the key and what to do."""


class GatewaySettings(BaseSettings):
    """All settings of one gateway process. Relative paths start at the settings file's folder."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data: str = Field("data", description="folder of the gateway's own files: signing key")
    roster: str = Field("roster.toml", description="the roster of member archives")
    clients: str = Field("", description="TOML of platforms that may ask for tokens; empty = none")
    host: str = Field("127.0.0.1", description="address of the HTTP edge")
    port: int = Field(8080, ge=0, le=65535)
    http_certificate: str = Field("", description="TLS certificate of the HTTP edge")
    http_key: str = ""
    behind_tls_proxy: bool = Field(
        False, description="plain HTTP on other addresses than loopback: a proxy in front ends TLS"
    )
    connections: int = Field(512, ge=1, description="connections the HTTP edge holds at once")
    connections_of_a_line: int = Field(
        128, ge=1, description="of these, one line's; not counted on loopback or behind_tls_proxy"
    )
    link_listen: str = Field("", description="host:port where archives dial in; empty = none")
    federation: str = Field("lantai", pattern=r"^[a-z0-9.-]+$")
    ca: str = ""
    certificate: str = ""
    key: str = ""
    plaintext_on_loopback: bool = Field(False, description="no TLS to archives; loopback only, for try-outs")
    trust_list: str = Field(
        "",
        description="the pinned trust list of the federation (JSON): whose keys verify documents; empty = none",
    )
    trust_list_key: str = Field(
        "",
        description="the federation's public key (JWK) by which the trust list must be signed; empty = the file is taken as it is",
    )
    log_key: str = Field(
        "", description="private key of this process's evidence log; empty = log.key in the data folder"
    )
    log_name: str = Field(
        DEFAULT_LOG,
        pattern=r"^[a-z0-9.-]+$",
        description="name of this process's evidence log when its key is made; each replica has its own",
    )
    stamp_authority: str = Field(
        "", description="RFC 3161 authority that stamps this process's evidence log, http(s); empty = none"
    )
    stamp_certificate: str = Field("", description="PEM of the roots its certificate must lead to")
    anchor_file: str = Field(
        "", description="hash-chained file to which the log's roots are posted each hour; empty = none"
    )
    signing_key: str = Field(
        "",
        description="private key of access tokens, the same for all replicas; empty = signing-key.pem in the data folder",
    )
    webhook_key: str = Field(
        "",
        description="private key of calls to platforms, the same for all replicas; empty = webhook-key.pem there",
    )
    issuer: str = Field("https://gateway.lantai", description="issuer of access tokens")
    audience: str = Field("lantai", description="audience of access tokens")
    requests_per_minute: int = Field(6000, ge=1, description="searches a client may send in a minute")
    store: str = Field(
        "sqlite",
        description="case store: sqlite = cases.sqlite in the data folder, or postgresql+psycopg://…",
    )
    store_file: str = Field("", description="file that holds the store's URL, for a secret; replaces store")
    forget_after_days: int = Field(
        180,
        ge=1,
        description="days after its end when a case's personal data are taken out; its journal stays",
    )
    session_age_s: float = Field(750.0, ge=2.0, description="sessions are renewed before this age")

    @field_validator("link_listen")
    @classmethod
    def _is_listened_at(cls, value: str) -> str:
        if value:
            check_address(value, least_port=0)
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> GatewaySettings:
        if not self.http_certificate and not self.behind_tls_proxy and not is_loopback_host(self.host):
            raise ValueError(
                "明文 HTTP 只允许本机地址：请设置 http_certificate 或 behind_tls_proxy"
                " · plain HTTP is for loopback only: set http_certificate and http_key, or behind_tls_proxy = true"
            )
        return self

    def connection_bounds(self) -> ConnectionBounds:
        """Of the HTTP edge. Behind a proxy and on loopback everybody comes from one address, which may hold them all."""
        is_one = self.behind_tls_proxy or is_loopback_host(self.host)
        return ConnectionBounds(self.connections, self.connections if is_one else self.connections_of_a_line)

    def http_tls(self, base: Path) -> ssl.SSLContext | None:
        """TLS of the HTTP edge, None = plain; SettingsError when the certificate can not be used."""
        if not self.http_certificate:
            return None
        if not self.http_key:
            raise SettingsError("http_key: 缺少 · missing: http_certificate is set")
        try:
            return http_context(
                ("http_certificate", base / self.http_certificate), ("http_key", base / self.http_key)
            )
        except TlsFileError as error:
            raise SettingsError(str(error)) from error

    def log_files(self, base: Path) -> tuple[Path, Path]:
        """(file, private key) of this process's evidence log; replicas may share a data folder, but never a log."""
        own = "" if self.log_name == DEFAULT_LOG else f"-{self.log_name}"
        folder = base / self.data
        key = base / self.log_key if self.log_key else folder / f"log{own}.key"
        return folder / f"evidence{own}.sqlite", key

    def log_authority(self, base: Path) -> TimeAuthority | None:
        """Who stamps the evidence log; SettingsError names what is wrong."""
        if not self.stamp_authority:
            return None
        if not self.stamp_certificate:
            raise SettingsError("stamp_certificate: 缺少 · missing: stamp_authority is set")
        roots = base / self.stamp_certificate
        try:
            return authority_at(self.stamp_authority, roots.read_bytes())
        except OSError as error:
            raise SettingsError(
                f"stamp_certificate: 无法读取 · can not read {roots}: {error.strerror}"
            ) from error
        except ValueError as error:
            raise SettingsError(f"stamp_authority, stamp_certificate: {error}") from error

    def store_url(self, base: Path) -> str:
        """The case store's URL for SQLAlchemy; SettingsError names what is wrong."""
        text = self.store
        if self.store_file:
            try:
                text = (base / self.store_file).read_text("utf-8").strip()
            except OSError as error:
                raise SettingsError(
                    f"store_file: {error.strerror} · can not read {self.store_file}"
                ) from error
        if text == "sqlite":
            folder = base / self.data
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return f"sqlite:///{folder / 'cases.sqlite'}"
        if text.startswith("postgresql+psycopg://") and find_spec("psycopg") is None:
            raise SettingsError(
                "store: 缺少 psycopg，请安装 lantai[postgres] · psycopg is missing: install lantai[postgres]"
            )
        if text.startswith(("sqlite:///", "postgresql+psycopg://")):
            return text
        raise SettingsError(
            "store 应为 sqlite 或 postgresql+psycopg:// 网址 · store must be sqlite or a postgresql+psycopg:// URL"
        )

    def credentials(self, base: Path) -> Credentials:
        def path(text: str) -> Path | None:
            return base / text if text else None

        return Credentials(
            federation=self.federation,
            ca=path(self.ca),
            certificate=path(self.certificate),
            key=path(self.key),
            plaintext_on_loopback=self.plaintext_on_loopback,
        )


def unknown_variables() -> list[str]:
    """Variables GW_* that are no setting. They are only warned of: so short a prefix may be another program's."""
    return environment.unknown(PREFIX, GatewaySettings.model_fields)


def load(path: Path) -> GatewaySettings:
    """Read settings; SettingsError names what is wrong."""
    if not path.is_file():
        raise SettingsError(f"没有设置文件 {path} · there is no settings file {path}; see docs/operations.md")

    class Here(GatewaySettings):
        @classmethod
        def settings_customise_sources(  # type: ignore[override]
            cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return sources["env_settings"], TomlConfigSettingsSource(settings_cls, path)

    try:
        return Here()  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(f"设置有误 · the settings are wrong: {words(PREFIX, error)}") from error
    except OSError as error:
        raise SettingsError(f"无法读取 · can not read {path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"设置文件不是合法的 TOML · the settings are not valid TOML: {error}") from error
