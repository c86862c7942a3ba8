"""Who the current caller is, and the one rule for whom it may act."""

from __future__ import annotations

import asyncio

import pytest

from hola.errors import PermissionDenied
from hola.security.caller import (
    NOBODY,
    Caller,
    CallerKind,
    acting_tenant,
    current_caller,
    current_tenant,
    served,
)
from hola.types import DEFAULT_TENANT

CLIENT = Caller("acme", CallerKind.CLIENT, "key-1")
SERVICE = Caller(DEFAULT_TENANT, CallerKind.SERVICE, "drafter")


@pytest.mark.parametrize(
    ("caller", "asked", "tenant"),
    [
        (CLIENT, "", "acme"),
        (CLIENT, "acme", "acme"),
        (CLIENT, DEFAULT_TENANT, "acme"),
        (SERVICE, "", DEFAULT_TENANT),
        (SERVICE, "acme", "acme"),
        (SERVICE, "other", "other"),
        (NOBODY, "", DEFAULT_TENANT),
        (NOBODY, "acme", "acme"),
    ],
)
def test_only_services_act_for_others(caller, asked, tenant):
    assert acting_tenant(caller, asked) == tenant


@pytest.mark.parametrize("asked", ["other", "Acme", "acme ", "a/b"])
def test_a_client_that_names_another_tenant_is_refused(asked):
    with pytest.raises(PermissionDenied, match="acts for no other"):
        acting_tenant(CLIENT, asked)


def test_outside_of_a_call_nobody_calls():
    assert current_caller() == NOBODY
    assert current_tenant() == DEFAULT_TENANT


def test_a_caller_lasts_as_long_as_its_call():
    with served(SERVICE):
        with served(CLIENT):
            assert current_tenant() == "acme"
        assert current_caller() is SERVICE
    assert current_caller() is NOBODY


async def test_calls_at_the_same_time_have_their_own_callers():
    async def call(tenant: str) -> str:
        with served(Caller(tenant, CallerKind.CLIENT)):
            await asyncio.sleep(0)
            return await asyncio.create_task(child())

    async def child() -> str:
        return current_tenant()

    names = [f"t{n}" for n in range(5)]
    assert await asyncio.gather(*map(call, names)) == names
