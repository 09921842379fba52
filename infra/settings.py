"""One settings tree: command line > environment QT_... > TOML file (QT_CONFIG) > defaults. Unknown names refuse to start.

Numbers that decide are not here: they are the policy's (schemas/policy.py). Settings say where things are.
"""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from infra.broker.access import Access, use
from infra.errors import UserError

PREFIX = "QT_"
OUTSIDE_THE_TREE = {"QT_CONFIG", "QT_SHARED_DATA", "QT_CACHE_DIR", "QT_MAVEN_URL", "QT_LOCAL_API_KEY", "QT_LOCAL_API_SECRET"}
RENAMED = {"EXIT_MODE": "policy exits.mode", "EXIT_BRAIN_V3_ENABLED": "policy exits.profile"}


class Mode(StrEnum):
    """Where orders go. Only sim exists so far."""

    SIM = "sim"


Port = Annotated[int, Field(ge=1, le=65_535)]


class KafkaSecurity(StrEnum):
    """Kafka's own words: TLS or not, a user or none."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Settings(BaseSettings):
    """Every field is also an environment variable: `kafka_bootstrap` is QT_KAFKA_BOOTSTRAP."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    mode: Mode = Mode.SIM
    account: str = Field(default="sim", pattern=r"^[a-z0-9-]{1,32}$")
    run_dir: Path = Path("var")
    host: str = "127.0.0.1"

    kafka_bootstrap: str = Field(default="", description="empty: the embedded broker")
    kafka_port: Port = 19092
    kafka_controller_port: Port = 19093
    kafka_security: KafkaSecurity = Field(default=KafkaSecurity.PLAINTEXT, description="how your Kafka is reached")
    kafka_mechanism: str = Field(
        default="SCRAM-SHA-512", pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$", description="of a Kafka that asks for a user"
    )
    kafka_username: str = Field(default="", description="user on Kafka, with SASL_PLAINTEXT and SASL_SSL")
    kafka_password: SecretStr = Field(default=SecretStr(""), description="its password")
    kafka_ca_file: Path | None = Field(default=None, description="authority of Kafka's certificate, PEM; empty: the machine's list")
    clickhouse_url: str = Field(default="", description="empty: the embedded ClickHouse")
    clickhouse_port: Port = 18123
    clickhouse_database: str = "quantum"
    venue_url: str = Field(default="", description="REST of the venue; empty: the local exchange")
    venue_stream_url: str = Field(default="", description="sockets of the venue; empty: where its REST is")
    spot_rest_url: str = Field(default="", description="REST of spot; empty: where the perpetuals' is")
    spot_socket_url: str = Field(default="", description="WebSocket API of spot; empty: where its REST is")
    exchange_port: Port = 18090
    exchange_control_port: Port = 18091
    probe_port: int = Field(
        default=18100, ge=0, le=65_000, description="first port of the workers' /livez /readyz /metrics; 0: any free port"
    )

    api_key: SecretStr = SecretStr("local-key")
    api_secret: SecretStr = SecretStr("local-secret")

    market: str = Field(default="synthetic", description="synthetic | ticks:PATH | candles:PATH")
    speed: float = Field(
        default=200.0, gt=0, allow_inf_nan=False, description="market seconds per wall second, local exchange only"
    )
    seed: int = 1
    symbols: str = "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,ADAUSDT,DOGEUSDT,AVAXUSDT,BNBUSDT"
    policy_file: Path | None = Field(default=None, description="first policy of a fresh log; later ones by `quantum policy set`")
    model_dir: Path | None = Field(default=None, description="directory of model.onnx and manifest.json; empty: the seed model")

    model_registry: Path = Field(default=Path("models"), description="where `quantum train` writes versions of the ensemble")
    admin_token: SecretStr = Field(default=SecretStr(""), description="signs what lets entries open again; empty: nobody may")
    model_key: SecretStr = Field(default=SecretStr("local-model-key"), description="signs and verifies the manifests of models")

    worker_index: int = Field(default=0, ge=0, description="ordinal of this member among those of its worker")
    weight_limit: int = Field(default=2400, ge=100, description="request weight a minute that the venue allows this address")
    session_timeout_s: float = Field(default=6.0, gt=0, allow_inf_nan=False)
    state_flush_s: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    heartbeat_s: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    snapshot_s: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    guardian_sweep_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    frame_ms: int = Field(default=20, ge=1)
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @field_validator("symbols")
    @classmethod
    def _some(cls, text: str) -> str:
        if not any(name.strip() for name in text.split(",")):
            raise ValueError("names no symbol: want at least one, as in BTCUSDT,ETHUSDT")
        return text

    @field_validator("clickhouse_url", "venue_url", "venue_stream_url", "spot_rest_url", "spot_socket_url")
    @classmethod
    def _url(cls, text: str) -> str:
        """Whatever connects would fail on it later, and by another name."""
        if text:
            parts = urlsplit(text)
            if not parts.scheme or not parts.hostname or parts.port == 0:  # `port` itself raises above 65535
                raise ValueError("is no URL: want scheme://host:port")
        return text

    @property
    def bootstrap(self) -> str:
        return self.kafka_bootstrap or f"{self.host}:{self.kafka_port}"

    @property
    def access(self) -> Access:
        password = self.kafka_password.get_secret_value()
        return Access(self.kafka_security.value, self.kafka_mechanism, self.kafka_username, password, self.kafka_ca_file)

    @property
    def clickhouse(self) -> str:
        return self.clickhouse_url or f"http://{self.host}:{self.clickhouse_port}"

    @property
    def exchange_url(self) -> str:
        return self.venue_url or f"http://{self.host}:{self.exchange_port}"

    @property
    def stream_url(self) -> str:
        return self.venue_stream_url or "ws" + self.exchange_url.removeprefix("http")

    @property
    def spot_url(self) -> str:
        return self.spot_rest_url or self.exchange_url

    @property
    def spot_ws_url(self) -> str:
        return self.spot_socket_url or "ws" + self.spot_url.removeprefix("http")

    @property
    def stop_file(self) -> Path:
        """While it is there, execution opens nothing (`quantum stop`)."""
        return self.run_dir / "stop"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may hold."""
        hidden = (self.api_key, self.api_secret, self.admin_token, self.model_key, self.kafka_password)
        return tuple(found for secret in hidden if (found := secret.get_secret_value()))

    @property
    def exchange_control_url(self) -> str:
        return f"http://{self.host}:{self.exchange_control_port}"

    @property
    def symbol_list(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.symbols.split(",") if name.strip())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _Toml(settings_cls)


class _Toml(PydanticBaseSettingsSource):
    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        return read_toml()


def shown(url: str) -> str:
    """An address as it may be printed: without user and password."""
    scheme, sign, rest = url.partition("://")
    return f"{scheme}{sign}{rest.rpartition('@')[2]}" if sign else url


def read_toml() -> dict[str, Any]:
    name = os.environ.get("QT_CONFIG")
    if not name:
        return {}
    try:
        return tomllib.loads(Path(name).read_text())
    except FileNotFoundError as e:
        raise UserError(f"QT_CONFIG names {name}", "there is no such file", "create it or unset QT_CONFIG") from e
    except OSError as e:
        raise UserError(f"QT_CONFIG names {name}", f"it cannot be read: {e.strerror}", "name a TOML file or unset QT_CONFIG") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{name} cannot be read", str(e), "mend the TOML at that line") from e


def load(**overrides: Any) -> Settings:
    """The settings; Kafka's clients of this process take their access from them. Raises UserError naming the setting, what is wrong
    with it and the nearest right name."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OUTSIDE_THE_TREE
    for name in sorted(os.environ):
        if name in RENAMED:
            raise UserError(f"{name} is set", "this name is of an older system", f"use {RENAMED[name]} instead and unset {name}")
        if name.startswith(PREFIX) and name not in known:
            near = get_close_matches(name, known, 1)
            raise UserError(f"{name} is set", "there is no such setting", f"did you mean {near[0]}?" if near else "unset it")
    try:
        found = Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        near = get_close_matches(name, list(Settings.model_fields), 1)
        hint = (
            f"did you mean {near[0]}?"
            if first["type"] == "extra_forbidden" and near
            else f"correct {PREFIX}{name.upper()}, or the option that sets it"
        )
        raise UserError(f"setting {name}", first["msg"], hint) from e
    use(found.access)
    return found


def origins() -> dict[str, str]:
    """Where each value comes from: environment, file or default (the command line is the caller's to add)."""
    toml = read_toml()
    return {
        name: f"environment {PREFIX}{name.upper()}"
        if PREFIX + name.upper() in os.environ
        else f"file {os.environ['QT_CONFIG']}"
        if name in toml
        else "default"
        for name in Settings.model_fields
    }
