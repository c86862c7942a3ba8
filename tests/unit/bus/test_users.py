"""The ACL file for Redis: hashes only, and the least each user needs."""

from __future__ import annotations

import hashlib

from hola.bus.acl import acl_rule
from hola.bus.users import users_file


def users() -> dict[str, str]:
    lines = users_file("secret", "other").splitlines()
    return {line.split()[1]: line for line in lines if line.startswith("user ")}


def test_passwords_are_kept_as_hashes_only():
    text = users_file("secret", "other")
    assert "secret" not in text
    assert hashlib.sha256(b"secret").hexdigest() in users()["hola"]


def test_the_default_user_is_locked_and_keeps_its_rights():
    assert users()["default"] == "user default off ~* &* +@all"


def test_ours_has_the_documented_rule_and_the_others_less():
    assert users()["hola"].endswith(acl_rule())
    assert users()["probe"].endswith("-@all +ping")
    assert "+xread " not in users()["keda"]
    assert "+get" not in users()["keda"]
