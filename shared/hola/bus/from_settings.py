"""From HOLA_* settings to a bus."""

from __future__ import annotations

from hola.bus.connect import open_bus
from hola.bus.ports import Bus
from hola.bus.security import BusSecurity
from hola.bus.streams import BusLimits
from hola.config import Settings


async def bus_from(settings: Settings) -> Bus:
    """The bus at HOLA_BUS with the bounds the settings give. Raises as `open_bus`."""
    limits = BusLimits(
        queue_limit=settings.queue_limit,
        # Where tenants have limits of their own, the router alone knows them.
        tenant_queue_limit=None if settings.tenants else settings.tenant_requests or None,
        job_idle_s=settings.job_idle_s,
        max_attempts=settings.job_attempts,
        journal_ttl_s=settings.journal_ttl_s,
    )
    return await open_bus(settings.bus, limits=limits, security=security_of(settings))


def security_of(settings: Settings) -> BusSecurity:
    """The files of HOLA_BUS_CA, _CERT, _KEY and _PASSWORD_FILE."""
    return BusSecurity(
        ca=settings.bus_ca,
        cert=settings.bus_cert,
        key=settings.bus_key,
        password_file=settings.bus_password_file,
    )
