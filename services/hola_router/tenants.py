"""What each tenant may use: the settings' limits, and a file's for those that have their own."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hola.config import Settings
from hola.errors import ConfigError, InvalidRequest
from hola.validate import check_tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """`rate` requests per second in the long run (0: any number), `burst` of them at once, and
    `requests` waiting or running at a time (0: as many as the queue holds)."""

    rate: float = 0.0
    burst: int = 10
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """The limits of every tenant."""

    usual: TenantLimits = field(default_factory=TenantLimits)
    own: Mapping[str, TenantLimits] = field(default_factory=dict)

    def limits(self, tenant: str) -> TenantLimits:
        """Its own ones, else the usual ones."""
        return self.own.get(tenant, self.usual)


def tenants_from(settings: Settings) -> Tenants:
    """Read HOLA_TENANT_RATE, _BURST and _REQUESTS, and the file HOLA_TENANTS if there is one.

    The file is TOML: a table per tenant with any of `rate`, `burst` and `requests`; what a table
    leaves out is as usual. It is read anew on SIGHUP. Raises ConfigError naming file, tenant and
    key.
    """
    usual = TenantLimits(
        rate=settings.tenant_rate, burst=settings.tenant_burst, requests=settings.tenant_requests
    )
    if not settings.tenants:
        return Tenants(usual=usual)
    tables = _read(settings.tenants)
    return Tenants(
        usual=usual,
        own={name: _limits(settings.tenants, name, tables[name], usual) for name in tables},
    )


def _read(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(path, str(error)) from error


def _limits(path: str, tenant: str, table: object, usual: TenantLimits) -> TenantLimits:
    try:
        check_tenant(tenant)
    except InvalidRequest as error:
        raise _wrong(path, error.message) from None
    if not isinstance(table, dict):
        raise _wrong(path, f"{tenant}: expected a table [{tenant}]")
    known = {limit.name for limit in fields(TenantLimits)}
    for key, value in table.items():
        where = f"[{tenant}] {key} = {value!r}"
        if key not in known:
            raise _wrong(path, f"{where}: the keys are {', '.join(sorted(known))}")
        if not _fits(key, value):
            raise _wrong(path, f"{where}: expected {_EXPECTED[key]}")
    return replace(usual, **table)


_EXPECTED = {
    "rate": "a number, at least 0",
    "burst": "an integer, at least 1",
    "requests": "an integer, at least 0",
}


def _fits(key: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if key == "rate":
        return math.isfinite(value) and value >= 0
    return isinstance(value, int) and value >= (1 if key == "burst" else 0)


def _wrong(path: str, why: str) -> ConfigError:
    return ConfigError(f"HOLA_TENANTS={path}: {why}", variable="HOLA_TENANTS", value=path)
