"""Folder names of tenants: one each, and none that leads elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hola.errors import InvalidRequest
from hola.retrieval.rules import tenant_folder

TENANT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(one=TENANT, other=TENANT)
def test_tenants_never_share_a_folder_even_without_case(one, other):
    assert (tenant_folder(one) == tenant_folder(other)) is (one == other)
    assert tenant_folder(one) == tenant_folder(one).lower()


@given(tenant=TENANT)
def test_a_folder_name_is_one_plain_step(tenant):
    folder = tenant_folder(tenant)
    assert not set(folder) & set("/\\.\x00 :")
    assert folder.isascii()


def test_a_plain_tenant_is_its_own_folder():
    assert tenant_folder("team-a_1") == "team-a_1"


@pytest.mark.parametrize("tenant", ["", "x" * 201, "é" * 40, "\udfff"])
def test_a_tenant_that_has_no_folder_is_refused(tenant):
    with pytest.raises(InvalidRequest):
        tenant_folder(tenant)
