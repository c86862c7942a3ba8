"""Every HOLA_* setting in one frozen table; flags, environment and file, with loud errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from hola.errors import ConfigError
from hola.settings_sources import Given, gather
from hola.settings_table import BY_ALL, BY_ITSELF, ON_SIGHUP, PREFIX, SECRET, Variable, table_of

DEFAULT_LISTEN = {
    "router": "127.0.0.1:7070",
    "drafter": "127.0.0.1:7071",
    "verifier": "127.0.0.1:7072",
    "compressor": "127.0.0.1:7073",
}


class Settings(BaseSettings):
    """All settings of all services; a service reads those it needs.

    Field `x_y` is the variable HOLA_X_Y, the flag --x-y and `x_y` in a file. Build one with
    keyword arguments (tests, the embedded node) or with `load_settings`; it never reads the
    environment by itself. What the table of docs/CONFIG.md says of a setting stands beside it:
    bounds, description, and in `json_schema_extra` ON_SIGHUP or BY_ITSELF where a running process
    takes changes up. Unit and readers are found in the name and the code.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    config: str = Field(
        "",
        description="file: settings as TOML; the environment and flags come before it",
        json_schema_extra=BY_ALL,
    )
    listen: str = Field("", description="address to serve gRPC on; empty: the service's own port")
    name: str = Field("", description="this process in logs and on the bus; empty: host and pid")
    bus: str = Field(
        "redis://127.0.0.1:6379/0",
        description="jobs and journals: redis://, rediss://, unix://, redis+sentinel://,"
        " redis+cluster:// or memory:",
    )
    bus_ca: str = Field(
        "",
        description="file: authorities of rediss:// servers; empty: system's",
        json_schema_extra=BY_ITSELF,
    )
    bus_cert: str = Field(
        "", description="file: client certificate for rediss://", json_schema_extra=BY_ITSELF
    )
    bus_key: str = Field(
        "", description="file: private key of HOLA_BUS_CERT", json_schema_extra=BY_ITSELF
    )
    bus_password_file: str = Field(
        "",
        description="file: password of HOLA_BUS's user, read at each connection",
        json_schema_extra=BY_ITSELF,
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
    offline: bool = Field(False, description="1: a model hub is never asked, whatever is added")
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
    gate_tier: str = Field(
        "auto",
        min_length=1,
        description="draft tier that a router loads to draft answers for its retrieval gate;"
        " auto: the family's largest; off: none, the gate judges without",
    )
    answer_worth_ms: float = Field(
        20_000,
        gt=0,
        description="milliseconds a user would wait for one more right answer: what the gate weighs"
        " retrieval against",
    )
    latency_target_ms: float = Field(
        2000,
        gt=0,
        description="milliseconds that reading retrieved passages may take, unless a request says",
    )
    ingest_mb: int = Field(1024, ge=1, description="MiB of files that one ingest call may send")
    ingest_files: int = Field(10_000, ge=1, description="files that one ingest call may send")
    ingest_file_mb: int = Field(
        64, ge=1, description="MiB of one file over the wire, unpacked; JSON lines may have more"
    )
    ingest_inline_mb: int = Field(
        4, ge=0, description="MiB above which an ingest call becomes a job and is answered at once"
    )
    ingest_calls: int = Field(2, ge=1, description="ingest calls of a tenant at a time at a router")
    ingest_jobs: int = Field(
        1, ge=0, description="ingest jobs a router runs at a time; 0: none, others on its folder do"
    )
    ingest_spool_mb: int = Field(
        4096, ge=1, description="MiB that files of ingests may take until they are done"
    )
    compress_tenants: str = Field(
        "",
        description="tenants, with commas, whose clients may call a compressor; services may",
    )
    compress_hub: bool = Field(
        False, description="1: compression jobs may name hub ids (owner/name) as their source"
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
        0,
        ge=0,
        description="requests per second that a tenant may begin; 0: any number",
        json_schema_extra=ON_SIGHUP,
    )
    tenant_burst: int = Field(
        10,
        ge=1,
        description="requests at once, where HOLA_TENANT_RATE is set",
        json_schema_extra=ON_SIGHUP,
    )
    tenant_requests: int = Field(
        0, ge=0, description="requests of a tenant waiting or running; 0: HOLA_QUEUE_LIMIT"
    )
    tenants: str = Field(
        "",
        description="file: limits of tenants that have their own, TOML",
        json_schema_extra=ON_SIGHUP,
    )
    kv_share: float = Field(
        0.95,
        gt=0,
        le=1,
        description="part of its KV memory from which on a verifier is full for new requests",
        json_schema_extra=ON_SIGHUP,
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
    tls_cert: str = Field(
        "",
        description="file: this process's certificate and its chain, PEM",
        json_schema_extra=BY_ITSELF,
    )
    tls_key: str = Field(
        "",
        description="file: the certificate's private key, PEM, not encrypted",
        json_schema_extra=BY_ITSELF,
    )
    tls_ca: str = Field(
        "",
        description="file: authorities whose certificates are trusted, PEM; set: channels use TLS",
        json_schema_extra=BY_ITSELF,
    )
    tls_server_name: str = Field(
        "", description="name a server's certificate must have; empty: the host that is called"
    )
    client_certs: Literal["auto", "require", "off"] = Field(
        "auto",
        description="ask callers for a certificate; auto: unless they show a key or token instead",
    )
    api_keys: str = Field(
        "",
        description="file: hashed API keys of a router's and drafter's clients",
        json_schema_extra=BY_ITSELF,
    )
    jwks: str = Field(
        "",
        description="file: public keys (JWKS) of the issuer of clients' tokens",
        json_schema_extra=BY_ITSELF,
    )
    jwt_issuer: str = Field("", description="issuer that clients' tokens must name")
    jwt_audience: str = Field("", description="audience that clients' tokens must name")
    jwt_tenant_claim: str = Field(
        "tenant", min_length=1, description="claim of a token that holds the tenant"
    )
    token: str = Field(
        "", repr=False, description="API key or token that a client shows", json_schema_extra=SECRET
    )
    token_file: str = Field(
        "",
        description="file with HOLA_TOKEN instead, read for every call",
        json_schema_extra=BY_ITSELF,
    )
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
    trace: str = Field(
        "",
        description="where spans of requests go: file:PATH, otlp: (as OTEL_EXPORTER_OTLP_* say),"
        " otlp://host:port; empty: nowhere",
    )
    trace_share: float = Field(
        1, ge=0, le=1, description="part of the requests that is traced, where no caller decided"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe message that is logged", json_schema_extra=ON_SIGHUP
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON", json_schema_extra=ON_SIGHUP
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


def variables() -> tuple[Variable, ...]:
    """The table of all settings, for the docs, the flags and `hola config`."""
    return table_of(Settings)


def load_settings(environ: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
    """The settings that flags, the HOLA_* variables of `environ` and the file of HOLA_CONFIG give.

    Flags (by the variables' names) come before the environment, that before the file; an empty
    value is unset. Raises ConfigError on an unknown name (naming the nearest known one), on a
    value that does not parse (naming the variable, the value and the expected form), and on a file
    that cannot be used.
    """
    return settings_of(gather(variables(), environ, flags))


def settings_of(given: Mapping[str, Given]) -> Settings:
    """The settings with these values, by variable. Raises ConfigError as `load_settings`."""
    values: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): each.value.strip() for name, each in given.items()
    }
    try:
        return Settings(**values)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_context=False)[0]
        field = str(error["loc"][0])
        variable = next(each for each in variables() if each.field == field)
        wrong = given[variable.name]
        value = "..." if variable.is_secret else wrong.value
        where = "" if wrong.origin == "environment" else f" in {wrong.origin}"
        raise ConfigError(
            f"{variable.name}={value!r}{where} is not valid: expected {variable.form}"
            f" ({variable.description})",
            variable=variable.name,
            value=value,
            expected=variable.form,
        ) from None
