"""Settings of a node agent: `archive.toml` in its data folder, overridden by LANTAI_NODE_* in the environment."""

from __future__ import annotations

import json
import ssl
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from federation.categories import CATEGORIES
from federation.http.limits import ConnectionBounds
from federation.process import environment
from federation.process.addresses import check_address
from federation.process.os_errors import whose
from federation.process.settings_errors import words
from federation.process.tls_files import TlsFileError, http_context
from federation.rpc.transport import Credentials, is_loopback

FILE = "archive.toml"
PREFIX = "LANTAI_NODE_"


class SettingsError(Exception):
    """The settings can not be used; the message names the key and what to do."""


class NodeSettings(BaseSettings):
    """One archive's settings. An unknown key is a start-up error."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)
    data: ClassVar[Path] = Path()

    archive: str = Field(pattern=r"^\d{6}$", description="GB/T 2260 code of the archive's division")
    name: str = Field(min_length=1, description="name of the archive")
    listen: str = Field("", description="host:port for a gateway that dials in; empty = none")
    gateways: tuple[str, ...] = Field((), description="host:port of every gateway this agent dials out to")
    gateway_names: tuple[str, ...] = Field(
        ("gateway",), description="names gateways may prove by certificate"
    )
    federation: str = Field("lantai", pattern=r"^[a-z0-9.-]+$")
    ca: str = ""
    certificate: str = ""
    key: str = ""
    plaintext_on_loopback: bool = Field(False, description="no TLS; only on loopback addresses, for try-outs")
    metrics_listen: str = Field("", description="host:port of /metrics and /livez; empty = none")
    health_listen: str = Field(
        "", description="host:port of grpc.health.v1 alone, in the clear, for probes; empty = none"
    )
    session_age_s: float = Field(
        750.0, ge=2.0, description="sessions this agent dialled are renewed before this age"
    )
    closed_categories: tuple[str, ...] = Field((), description="categories not searched from outside")
    desk_listen: str = Field("", description="host:port of the review desk's own API; empty = none")
    desk_certificate: str = Field("", description="TLS certificate of the desk's API; needed off loopback")
    desk_key: str = ""
    desk_connections: int = Field(256, ge=1, description="connections the desk's API holds at once")
    desk_connections_of_a_line: int = Field(
        128, ge=1, description="of these, one line's; not counted on loopback"
    )
    desk_forget_after_days: int = Field(
        180, ge=1, description="days after its end when a request and its proofs leave the desk's file"
    )
    hours: dict[str, Any] = Field({}, description="when the archive serves; see docs/desk.md")
    rota: dict[str, Any] = Field({}, description="who is on duty and how people are called")
    release: dict[str, Any] = Field(
        {}, description="the rule of automatic release; off unless enabled = true"
    )
    documents: dict[str, Any] = Field(
        {}, description="what documents are issued with; empty = approval notices only, see docs/documents.md"
    )
    worker_queue: int = Field(32, ge=1, le=1024, description="slow searches waiting for the worker thread")

    @field_validator("listen", "metrics_listen", "health_listen", "desk_listen")
    @classmethod
    def _is_listened_at(cls, value: str) -> str:
        if value:
            check_address(value, least_port=0)
        return value

    @field_validator("gateways")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            check_address(one)
        return value

    @field_validator("closed_categories")
    @classmethod
    def _are_categories(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """A category nobody knows would close nothing."""
        unknown = [one for one in value if one not in CATEGORIES]
        if unknown:
            raise ValueError(
                f"没有这样的类别 · no such category: {', '.join(unknown)}; 可用 · known: {', '.join(CATEGORIES)}"
            )
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> NodeSettings:
        if self.desk_listen and not self.desk_certificate and not is_loopback(self.desk_listen):
            raise ValueError(
                "审核台含未脱敏内容，明文只允许本机地址：请设置 desk_certificate 与 desk_key"
                " · the desk shows unmasked records: plain HTTP is for loopback only; set desk_certificate and desk_key"
            )
        return self

    def session_addresses(self) -> list[tuple[str, str]]:
        """The settings that say where sessions with gateways are had, each with an address; SettingsError when there is none."""
        if not self.listen and not self.gateways:
            raise SettingsError(
                "listen 与 gateways 至少设置一项 · set listen or gateways, or nobody can reach this archive"
            )
        listens = [("listen", self.listen)] if self.listen else []
        return [*listens, *(("gateways", address) for address in self.gateways)]

    def desk_bounds(self) -> ConnectionBounds:
        """Of the desk's API. On loopback everybody comes from one address, which may hold them all."""
        of_a_line = (
            self.desk_connections if is_loopback(self.desk_listen) else self.desk_connections_of_a_line
        )
        return ConnectionBounds(self.desk_connections, of_a_line)

    def desk_tls(self, folder: Path) -> ssl.SSLContext | None:
        """TLS of the desk's API, None = plain on loopback; SettingsError when the certificate can not be used."""
        if not self.desk_certificate:
            return None
        if not self.desk_key:
            raise SettingsError("desk_key: 缺少 · missing: desk_certificate is set")
        try:
            return http_context(
                ("desk_certificate", folder / self.desk_certificate), ("desk_key", folder / self.desk_key)
            )
        except TlsFileError as error:
            raise SettingsError(str(error)) from error

    def credentials(self, folder: Path) -> Credentials:
        """Where the certificate lies; relative paths start at the data folder."""

        def path(text: str) -> Path | None:
            return (folder / text) if text else None

        return Credentials(
            federation=self.federation,
            ca=path(self.ca),
            certificate=path(self.certificate),
            key=path(self.key),
            plaintext_on_loopback=self.plaintext_on_loopback,
        )


def load(folder: Path) -> NodeSettings:
    """Read the settings of a data folder; SettingsError names what is wrong."""
    path = folder / FILE
    if not path.is_file():
        raise SettingsError(
            f"没有 {path}，请先运行 lantai-node init · there is no {path}; run lantai-node init first"
        )
    return _read(path, path.read_bytes)


def _read(path: Path, content: Callable[[], bytes]) -> NodeSettings:
    """The settings of archive.toml at `path`, whose bytes are, or would be, `content()`. SettingsError."""
    unknown = environment.unknown(PREFIX, NodeSettings.model_fields)
    if unknown:
        raise SettingsError(
            f"环境变量不是设置项 · variables of the environment that are no setting: {', '.join(unknown)}"
        )

    class Here(NodeSettings):
        @classmethod
        def settings_customise_sources(  # type: ignore[override]
            cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return sources["env_settings"], InitSettingsSource(
                settings_cls, tomllib.loads(content().decode("utf-8"))
            )

    try:
        return Here()  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError(f"{FILE} 有误 · {FILE} is wrong: {words(PREFIX, error)}") from error
    except OSError as error:
        raise SettingsError(f"无法读取 · can not read {path}: {error.strerror}{whose(error)}") from error
    except ValueError as error:
        if told := environment.not_json(PREFIX, NodeSettings.model_fields, error):
            raise SettingsError(told) from error
        raise SettingsError(f"{FILE} 不是合法的 TOML · {FILE} is not valid TOML: {error}") from error


def checked(folder: Path, values: dict[str, object]) -> NodeSettings:
    """What `load` would give after `write`; SettingsError when either would fail. Nothing is written."""
    path = folder / FILE
    _require_none(path)
    return _read(path, lambda: _written(values))


def _require_none(path: Path) -> None:
    if path.exists():
        raise SettingsError(f"{path} 已存在，请直接修改 · {path} exists already; edit it instead")


def write(folder: Path, values: dict[str, object]) -> Path:
    """Write archive.toml with these values; an existing one is not replaced."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE
    _require_none(path)
    path.write_bytes(_written(values))
    return path


def _written(values: dict[str, object]) -> bytes:
    lines = ["# 节点设置 · settings of this node agent; keys are explained in docs/operations.md"]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return ("\n".join(lines) + "\n").encode()
