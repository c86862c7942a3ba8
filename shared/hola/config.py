"""Every HOLA_* setting in one frozen table, read once from a mapping, with loud errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from hola.errors import ConfigError

PREFIX = "HOLA_"
DEFAULT_LISTEN = {
    "router": "127.0.0.1:7070",
    "drafter": "127.0.0.1:7071",
    "verifier": "127.0.0.1:7072",
    "compressor": "127.0.0.1:7073",
}


class Settings(BaseSettings):
    """All settings of all services; a service reads those it needs.

    Field `x_y` is the variable HOLA_X_Y. Build one with keyword arguments (tests, the embedded
    node) or with `load_settings`; it never reads the environment by itself.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    listen: str = Field("", description="address to serve gRPC on; empty: the service's own port")
    name: str = Field("", description="this process in logs and on the bus; empty: host and pid")
    bus: str = Field(
        "redis://127.0.0.1:6379/0",
        description="jobs and journals: redis://, rediss://, unix://, redis+sentinel://,"
        " redis+cluster:// or memory:",
    )
    bus_ca: str = Field("", description="file: authorities of rediss:// servers; empty: system's")
    bus_cert: str = Field("", description="file: client certificate for rediss://")
    bus_key: str = Field("", description="file: private key of HOLA_BUS_CERT")
    bus_password_file: str = Field(
        "", description="file: password of HOLA_BUS's user, read at each connection"
    )
    router: str = Field("grpc://127.0.0.1:7070", description="router that clients call")
    drafter: str = Field("grpc://127.0.0.1:7071", description="drafter that clients call directly")
    verifier: str = Field(
        "grpc://127.0.0.1:7072",
        description="verifiers that drafters call:"
        " an address, several with commas, dns:///host:port, or registry:",
    )
    advertise: str = Field(
        "", description="address a verifier announces in the registry; empty: it announces nothing"
    )
    resolve_s: float = Field(
        5, gt=0, description="seconds between two looks at what HOLA_VERIFIER names"
    )
    detect_s: float = Field(
        1, gt=0, description="seconds of silence after which a verifier counts as gone"
    )
    hedge: Literal["off", "p95"] = Field(
        "off",
        description="p95: ask a second verifier when an answer takes longer than 95 of 100 did",
    )
    models_dir: str = Field(
        "",
        description="folder with one folder per model family;"
        " empty: ./models, the checkout's models, ~/.local/share/hola/models",
    )
    model: str = Field("demo", min_length=1, description="model family to run or to ask for")
    data_dir: str = Field(
        "", description="folder of document collections; empty: ~/.local/share/hola/data"
    )
    store: str = Field(
        "sqlite",
        min_length=1,
        description="documents: sqlite (files in HOLA_DATA_DIR),"
        " weaviate://host:port?grpc=50051 or weaviates://",
    )
    store_key_file: str = Field(
        "", description="file: API key for HOLA_STORE, read at each connection"
    )
    embedder: str = Field(
        "minilm",
        min_length=1,
        description="text encoder of dense retrieval; none: BM25 alone, as where it is not there",
    )
    threads: int = Field(0, ge=0, le=1024, description="engine threads; 0: one per core")
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto", description="where engines run; auto: the best one available"
    )
    memory_budget_mb: int = Field(
        0, ge=0, description="MiB for weights and KV caches; 0: half of the free memory"
    )
    max_sessions: int = Field(64, ge=1, description="verifier sessions at a time")
    session_ttl_s: float = Field(
        120, gt=0, description="seconds after which a silent verifier session is freed"
    )
    job_idle_s: float = Field(
        10,
        gt=0,
        description="seconds without a heartbeat after which a job goes to another drafter",
    )
    job_attempts: int = Field(5, ge=1, description="deliveries of a job before it is given up")
    concurrency: int = Field(4, ge=1, description="jobs a drafter runs at a time")
    journal_ttl_s: float = Field(3600, gt=0, description="seconds a request's journal is kept")
    queue_limit: int = Field(
        256, ge=1, description="jobs or blocks that may wait; more are refused"
    )
    tenant_rate: float = Field(
        0, ge=0, description="requests per second that a tenant may begin; 0: any number"
    )
    tenant_burst: int = Field(
        10, ge=1, description="requests at once, where HOLA_TENANT_RATE is set"
    )
    tenant_requests: int = Field(
        0, ge=0, description="requests of a tenant waiting or running; 0: HOLA_QUEUE_LIMIT"
    )
    tenants: str = Field("", description="file: limits of tenants that have their own, TOML")
    kv_share: float = Field(
        0.95,
        gt=0,
        le=1,
        description="part of its KV memory from which on a verifier is full for new requests",
    )
    unread_s: float = Field(
        60, gt=0, description="seconds a client may leave its stream unread before it is cut"
    )
    max_message_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, le=2**31 - 1, description="largest gRPC message, bytes"
    )
    detach_grace_s: float = Field(
        30, ge=0, description="seconds a request runs on with no client attached"
    )
    drain_s: float = Field(10, ge=0, description="seconds for running requests at shutdown")
    verifier_wait_s: float = Field(
        30, gt=0, description="seconds a request waits for a verifier before it fails"
    )
    reattach_s: float = Field(
        30, ge=0, description="seconds a client tries to take up a broken stream"
    )
    connect_timeout_s: float = Field(5, gt=0, description="seconds to reach a service")
    rpc_timeout_s: float = Field(10, gt=0, description="deadline of short calls, seconds")
    answer_timeout_s: float = Field(
        300, gt=0, description="seconds to wait for one answer of a verifier, its prefill included"
    )
    max_calls: int = Field(1000, ge=1, description="calls a server runs at a time, streams too")
    keepalive_s: float = Field(
        20,
        ge=1,
        le=86400,
        description="seconds between pings; half of it unanswered, 10 at most, ends a connection",
    )
    tls_cert: str = Field("", description="file: this process's certificate and its chain, PEM")
    tls_key: str = Field("", description="file: the certificate's private key, PEM, not encrypted")
    tls_ca: str = Field(
        "",
        description="file: authorities whose certificates are trusted, PEM; set: channels use TLS",
    )
    tls_server_name: str = Field(
        "", description="name a server's certificate must have; empty: the host that is called"
    )
    client_certs: Literal["auto", "require", "off"] = Field(
        "auto",
        description="ask callers for a certificate; auto: unless they show a key or token instead",
    )
    api_keys: str = Field(
        "", description="file: hashed API keys of a router's and drafter's clients"
    )
    jwks: str = Field("", description="file: public keys (JWKS) of the issuer of clients' tokens")
    jwt_issuer: str = Field("", description="issuer that clients' tokens must name")
    jwt_audience: str = Field("", description="audience that clients' tokens must name")
    jwt_tenant_claim: str = Field(
        "tenant", min_length=1, description="claim of a token that holds the tenant"
    )
    token: str = Field("", repr=False, description="API key or token that a client shows")
    token_file: str = Field("", description="file with HOLA_TOKEN instead, read for every call")
    health_listen: str = Field(
        "", description="host:port of a plaintext health service and nothing else; empty: none"
    )
    reflection: bool = Field(
        False, description="1: serve reflection though callers are authenticated"
    )
    max_connections: int = Field(
        4096, ge=1, description="connections a server keeps at a time; more are hung up on"
    )
    max_calls_per_tenant: int = Field(
        256, ge=1, description="calls an authenticated tenant runs at a time on one server"
    )
    connection_age_s: float = Field(
        3600, ge=1, description="seconds until new calls need a new connection; streams go on"
    )
    connection_idle_s: float = Field(
        600, ge=1, description="seconds until a server hangs up on a connection without calls"
    )
    insecure: bool = Field(False, description="1: plaintext to and from other machines is allowed")
    metrics_listen: str = Field("", description="host:port of /metrics; empty: none")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe message that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only keyword arguments count: `load_settings` reads the environment, once."""
        return (init_settings,)

    def listen_on(self, service: str) -> str:
        """Where `service` ("router", ...) serves: HOLA_LISTEN, else its default port."""
        return self.listen or DEFAULT_LISTEN[service]


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the settings table, as text."""

    name: str
    default: str
    description: str
    form: str


def variables() -> tuple[Variable, ...]:
    """The table of all HOLA_* variables, for the docs and `hola doctor`."""
    return tuple(
        Variable(
            name=PREFIX + field.upper(),
            default=str(info.default),
            description=info.description or "",
            form=_form(info),
        )
        for field, info in Settings.model_fields.items()
    )


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the HOLA_* variables of `environ`; the rest of it is ignored, an empty one is unset.

    Raises ConfigError on an unknown HOLA_* variable (naming the nearest known one) and on a value
    that does not parse (naming the variable, the value and the expected form).
    """
    known = {variable.name: variable for variable in variables()}
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    for name in given:
        if name not in known:
            raise _unknown(name, list(known))
    values: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): value.strip()
        for name, value in given.items()
        if value.strip()
    }
    try:
        return Settings(**values)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_context=False)[0]
        name = PREFIX + str(error["loc"][0]).upper()
        raise ConfigError(
            f"{name}={given[name]!r} is not valid: expected {known[name].form}"
            f" ({known[name].description})",
            variable=name,
            value=given[name],
            expected=known[name].form,
        ) from None


def _unknown(name: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)
    return ConfigError(
        f"unknown setting {name}: did you mean {near[0]}? `hola doctor` lists them all",
        variable=name,
        nearest=near[0],
    )


def _form(info: FieldInfo) -> str:
    """The values a field takes, in words, e.g. "integer, 0 to 1024"."""
    annotation: Any = info.annotation
    if options := getattr(annotation, "__args__", None):
        return "one of " + ", ".join(map(str, options))
    word = {int: "integer", float: "number", bool: "0 or 1", str: "text"}[annotation]
    bounds = {
        key: value
        for constraint in info.metadata
        for key in ("ge", "gt", "le")
        if (value := getattr(constraint, key, None)) is not None
    }
    if "le" in bounds and "gt" in bounds:
        return f"{word}, above {bounds['gt']}, at most {bounds['le']}"
    if "le" in bounds:
        return f"{word}, {bounds['ge']} to {bounds['le']}"
    if "ge" in bounds:
        return f"{word}, at least {bounds['ge']}"
    return f"{word}, above {bounds['gt']}" if "gt" in bounds else word
