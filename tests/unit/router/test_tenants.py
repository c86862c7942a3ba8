"""Limits of tenants out of the settings and a file, and ids that keep tenants apart."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from hola.config import Settings
from hola.errors import ConfigError, InvalidRequest
from hola.idempotency import request_id_of_key
from hola.types import DEFAULT_TENANT
from hola.validate import check_request_id
from hola_router.naming import bus_id
from hola_router.tenants import TenantLimits, tenants_from

names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
ids = st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True)


def settings(tmp_path, text="", **changes):
    path = tmp_path / "tenants.toml"
    path.write_text(text)
    return Settings(tenants=str(path), **changes)


def test_without_a_file_all_tenants_have_the_usual_limits():
    tenants = tenants_from(Settings(tenant_rate=2.5, tenant_burst=7, tenant_requests=4))
    assert tenants.limits("anybody") == TenantLimits(rate=2.5, burst=7, requests=4)


def test_a_table_changes_what_it_names(tmp_path):
    text = '[acme]\nrate = 5\n["b.c-d"]\nburst = 1\nrequests = 0\n'
    tenants = tenants_from(settings(tmp_path, text, tenant_rate=1, tenant_requests=2))
    assert tenants.limits("acme") == TenantLimits(rate=5, burst=10, requests=2)
    assert tenants.limits("b.c-d") == TenantLimits(rate=1, burst=1, requests=0)
    assert tenants.limits("other") == TenantLimits(rate=1, burst=10, requests=2)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[acme\n", "HOLA_TENANTS"),
        ("acme = 3\n", "acme"),
        ('["a b"]\nrate = 1\n', "a b"),
        ("[acme]\nspeed = 3\n", "speed"),
        ("[acme]\nrate = -1\n", "rate"),
        ("[acme]\nrate = inf\n", "rate"),
        ("[acme]\nrate = nan\n", "rate"),
        ('[acme]\nrate = "5"\n', "rate"),
        ("[acme]\nrate = true\n", "rate"),
        ("[acme]\nburst = 0\n", "burst"),
        ("[acme]\nburst = 1.5\n", "burst"),
        ("[acme]\nrequests = -2\n", "requests"),
    ],
)
def test_a_wrong_file_is_named_with_the_key(tmp_path, text, named):
    with pytest.raises(ConfigError, match=r"tenants\.toml") as wrong:
        tenants_from(settings(tmp_path, text))
    assert named in wrong.value.message


def test_a_missing_file_and_bytes_are_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        tenants_from(Settings(tenants=str(tmp_path / "nowhere")))
    (tmp_path / "garbage").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="garbage"):
        tenants_from(Settings(tenants=str(tmp_path / "garbage")))


def test_the_default_tenants_ids_stay_as_they_are():
    assert bus_id(DEFAULT_TENANT, "r1") == "r1"


def test_a_made_id_begins_as_its_clients():
    made = bus_id("acme", "r1")
    assert made.startswith("r1.")
    assert made == bus_id("acme", "r1") != bus_id("other", "r1")


@given(tenant=names, request_id=ids)
def test_made_ids_are_request_ids(tenant, request_id):
    made = bus_id(tenant, request_id)
    check_request_id(made)
    assert made == request_id or len(made) <= 97


@given(tenant=names, request_id=ids)
def test_nobody_reaches_a_made_id_by_its_name(tenant, request_id):
    """Whoever sees an id of the bus (in a log) gains nothing by asking for it."""
    made = bus_id(tenant, request_id)
    for asking in (DEFAULT_TENANT, "other", tenant):
        if (asking, made) != (tenant, request_id):
            assert bus_id(asking, made) != made


@given(left=st.tuples(names, ids), right=st.tuples(names, ids))
def test_different_requests_have_different_ids(left, right):
    assert (bus_id(*left) == bus_id(*right)) == (left == right)


def test_split_names_do_not_meet():
    assert bus_id("a.b", "c") != bus_id("a", "b.c")
    assert bus_id("ab", "c") != bus_id("a", "bc")


@given(key=st.text(min_size=1, max_size=100))
def test_a_key_has_one_request_id(key):
    try:
        made = request_id_of_key(key)
    except InvalidRequest:
        assert any("\ud800" <= char <= "\udfff" for char in key)
        return
    check_request_id(made)
    assert made == request_id_of_key(key) != request_id_of_key(key[:-1] + "\N{SNOWMAN}a")


@pytest.mark.parametrize("key", ["", "x" * 129, "\ud800"])
def test_a_bad_key_is_refused(key):
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        request_id_of_key(key)
