"""Signed tokens: only the issuer's, only in time, only for us, only as the public key allows."""

from __future__ import annotations

import base64
import hmac
import json
import time
from contextlib import suppress

import pytest
from hypothesis import example, given, strategies as st
from joserfc import jws, jwt
from joserfc.jwk import OKPKey, RSAKey

from hola.config import Settings
from hola.errors import ConfigError, Unauthenticated
from hola.security.caller import CallerKind
from hola.security.key_set import parse_key_set
from hola.security.tokens import LEEWAY_S, Rules, token_rules, verify_token
from tests.support.security import AUDIENCE, ISSUER, claims, key_set, signing_key, token, unsigned

RULES = Rules(ISSUER, AUDIENCE, "tenant")
KEY, SECOND, STRANGER = signing_key("k1"), signing_key("k2"), signing_key("k1")
KEYS = parse_key_set(key_set(KEY, SECOND), "f")
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})


def verify(text, keys=KEYS, rules=RULES, **options):
    return verify_token(text, keys, rules, **options)


def test_a_token_names_its_tenant_and_subject():
    found = verify(token(KEY))
    assert (found.caller.tenant, found.caller.name) == ("acme", "ann")
    assert found.caller.kind is CallerKind.CLIENT
    assert found.until > time.time()
    assert verify(token(SECOND, tenant="other")).caller.tenant == "other"


def test_a_subject_cannot_forge_log_lines():
    assert verify(token(KEY, sub="ann\n\x1b[2Jroot")).caller.name == "ann??[2Jroot"
    assert len(verify(token(KEY, sub="a" * 1000)).caller.name) == 80
    assert verify(token(KEY, sub=None)).caller.name == ""


def test_the_claim_of_the_tenant_can_be_chosen():
    rules = Rules(ISSUER, AUDIENCE, "org")
    assert verify(token(KEY, org="x"), rules=rules).caller.tenant == "x"


def test_the_audience_may_be_one_of_several():
    assert verify(token(KEY, aud=["other", AUDIENCE])).caller.tenant == "acme"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA, "RS256"),
        (RSA, "PS384"),
        (ED, "EdDSA"),
        (ED, "Ed25519"),
        (signing_key("e3", "P-384"), "ES384"),
        (signing_key("e5", "P-521"), "ES512"),
    ],
)
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_every_kind_of_public_key(key, algorithm):
    text = token(key, algorithm)
    assert verify(text, parse_key_set(key_set(key, KEY), "f")).caller.tenant == "acme"
    with pytest.raises(Unauthenticated):
        verify(text)


def test_one_key_needs_no_name():
    only = parse_key_set(key_set(KEY), "f")
    assert verify(token(KEY, header={"alg": "ES256"}), only).caller.tenant == "acme"
    with pytest.raises(Unauthenticated, match="not known here"):
        verify(token(KEY, header={"alg": "ES256"}))


def now(offset: float) -> int:
    return int(time.time() + offset)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exp": now(-LEEWAY_S - 5)}, "has expired"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"nbf": now(86_400)}, "not yet valid"),
        ({"nbf": "x"}, "nbf"),
        ({"iat": now(86_400)}, "future"),
        ({"iss": "https://other.test"}, "iss"),
        ({"iss": None}, "iss"),
        ({"iss": [ISSUER]}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": {"a": AUDIENCE}}, "aud"),
        ({"tenant": None}, "'tenant' is not a tenant's name"),
        ({"tenant": ""}, "'tenant' is not a tenant's name"),
        ({"tenant": "a/b"}, "'tenant' is not a tenant's name"),
        ({"tenant": ["acme"]}, "'tenant' is not a tenant's name"),
        ({"tenant": 7}, "'tenant' is not a tenant's name"),
    ],
)
def test_claims_that_do_not_hold(changes, why):
    with pytest.raises(Unauthenticated) as raised:
        verify(token(KEY, **changes))
    assert why in raised.value.message


def test_clocks_may_differ_a_little():
    moment = 1_900_000_000
    text = token(KEY, exp=moment, nbf=moment)
    for offset in (1 - LEEWAY_S, 0, LEEWAY_S - 1):
        assert verify(text, clock=lambda at=moment + offset: at).caller.tenant == "acme"
    with pytest.raises(Unauthenticated, match="expired"):
        verify(text, clock=lambda: moment + LEEWAY_S)
    with pytest.raises(Unauthenticated, match="not yet valid"):
        verify(text, clock=lambda: moment - LEEWAY_S - 1)


def tampered(text: str, **changes) -> str:
    head, _, signature = text.split(".")
    return ".".join((head, unsigned({}, claims(**changes)).split(".")[1], signature))


def signed(payload: bytes) -> str:
    return jws.serialize_compact({"alg": "ES256", "kid": "k1"}, payload, KEY, ["ES256"])


FORGED = {
    "stranger's key of the same name": lambda: token(STRANGER),
    "unknown name": lambda: token(KEY, header={"alg": "ES256", "kid": "k9"}),
    "name of another key": lambda: token(KEY, header={"alg": "ES256", "kid": "k2"}),
    "name that is no text": lambda: unsigned({"alg": "ES256", "kid": ["k1"]}, claims(), b"x" * 64),
    "alg none": lambda: unsigned({"alg": "none", "kid": "k1"}, claims()),
    "alg None": lambda: unsigned({"alg": "None", "kid": "k1"}, claims()),
    "no alg": lambda: unsigned({"kid": "k1"}, claims(), b"x" * 64),
    "signature of zeros": lambda: unsigned({"alg": "ES256", "kid": "k1"}, claims(), bytes(64)),
    "changed tenant": lambda: tampered(token(KEY), tenant="other"),
    "no signature": lambda: token(KEY).rpartition(".")[0] + ".",
    "key inside the token": lambda: token(
        STRANGER, header={"alg": "ES256", "jwk": STRANGER.as_dict(private=False)}
    ),
    "critical extension": lambda: unsigned(
        {"alg": "ES256", "kid": "k1", "crit": ["exp"], "exp": 1}, claims(), b"x" * 64
    ),
    "unencoded payload": lambda: unsigned(
        {"alg": "ES256", "kid": "k1", "b64": False, "crit": ["b64"]}, claims(), b"x" * 64
    ),
    "no object": lambda: jws.serialize_compact(
        {"alg": "ES256", "kid": "k1"}, b"[1]", KEY, ["ES256"]
    ),
    "no JSON": lambda: jws.serialize_compact({"alg": "ES256", "kid": "k1"}, b"x", KEY, ["ES256"]),
    "deep JSON": lambda: signed(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "encrypted": lambda: ".".join(["eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0", "", "a", "b", "c"]),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens(name):
    with pytest.raises(Unauthenticated) as raised:
        verify(FORGED[name]())
    assert "." + claims()["tenant"] not in raised.value.message


@pytest.mark.parametrize(
    "secret",
    [KEY.as_pem(private=False), key_set(KEY), KEY.as_bytes("DER", private=False)],
    ids=["pem", "key set", "der"],
)
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_a_public_key_is_no_shared_secret(secret, digest):
    head = {"alg": "HS" + digest[3:], "kid": "k1"}
    signed = unsigned(head, claims()).rpartition(".")[0]
    signature = hmac.digest(secret, signed.encode(), digest)
    with pytest.raises(Unauthenticated):
        verify(unsigned(head, claims(), signature))


def test_an_rsa_token_does_not_pass_for_an_ec_key():
    text = jwt.encode({"alg": "RS256", "kid": "k1"}, claims(), RSA, ["RS256"])
    mixed = parse_key_set(key_set(KEY, RSA), "f")
    with pytest.raises(Unauthenticated, match="algorithm is not one of its key"):
        verify(text, mixed)


def test_a_key_may_allow_one_algorithm_only():
    data = json.loads(key_set(RSA))
    data["keys"][0]["alg"] = "RS512"
    keys = parse_key_set(json.dumps(data).encode(), "f")
    assert verify(token(RSA, "RS512"), keys).caller.tenant == "acme"
    with pytest.raises(Unauthenticated):
        verify(token(RSA, "RS256"), keys)


GOOD = token(KEY)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
@example("..")
@example("a.b.c")
@example("eyJhbGciOiJFUzI1NiJ9..")
@example("\x00.\x00.\x00")
def test_garbage_is_refused(text):
    with pytest.raises(Unauthenticated):
        verify(text)


@given(st.integers(0, len(GOOD) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_token_with_another_character_is_refused(place, character):
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    with suppress(Unauthenticated):
        # Base64 has several spellings of one signature; what is signed has one.
        assert verify(changed).caller == verify(GOOD).caller
        assert changed.rpartition(".")[0] == GOOD.rpartition(".")[0]


def entries(**changes) -> bytes:
    return json.dumps({"keys": [signing_key().as_dict(private=False) | changes]}).encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON"),
        (b'{"keys": {}}', "no JSON"),
        (b'{"keys": [1]}', "no JSON"),
        (b'{"keys": ' + b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"keys": []}', "no RSA, EC or Ed25519 key"),
        (b'{"keys": [{"kty": "PQ"}]}', "no RSA, EC or Ed25519 key"),
        (b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', "symmetric"),
        (entries(use="enc"), "no RSA, EC or Ed25519 key"),
        (entries(alg="RS256"), "algorithm"),
        (entries(alg="HS256"), "algorithm"),
        (entries(x="AAAA"), "not valid"),
        (entries(x=7), "not valid"),
        (json.dumps({"keys": [KEY.as_dict(private=True)]}).encode(), "private key"),
        (key_set(KEY, STRANGER), "name"),
    ],
)
def test_a_key_file_that_cannot_be_used(content, why):
    with pytest.raises(ConfigError, match=f"HOLA_JWKS=f holds.*{why}"):
        parse_key_set(content, "f")


@pytest.mark.parametrize("bits", [1, 1024, 2047])
def test_a_short_rsa_key_is_refused(bits):
    modulus = base64.urlsafe_b64encode((2**bits - 1).to_bytes((bits + 7) // 8)).decode()
    data = {"kty": "RSA", "e": "AQAB", "n": modulus.rstrip("=")}
    with pytest.raises(ConfigError, match=f"of {bits} bits, at least 2048"):
        parse_key_set(json.dumps({"keys": [data]}).encode(), "f")


@given(st.binary(max_size=300))
@example(b'{"keys":[{"kty":"EC","crv":"P-256"}]}')
@example(b'{"keys":[{"kty":"RSA","n":"","e":""}]}')
@example(b'{"keys":[{"kty":[],"crv":{}}]}')
def test_any_key_file_is_refused_in_order(content):
    with pytest.raises(ConfigError, match="HOLA_JWKS"):
        parse_key_set(content, "f")


def test_issuer_and_audience_must_be_known():
    assert token_rules(Settings(jwks="f", jwt_issuer="i", jwt_audience="a")) == Rules(
        "i", "a", "tenant"
    )
    for partial in ({}, {"jwt_issuer": "i"}, {"jwt_audience": "a"}):
        with pytest.raises(ConfigError, match="HOLA_JWT_ISSUER and HOLA_JWT_AUDIENCE"):
            token_rules(Settings(jwks="f", **partial))
