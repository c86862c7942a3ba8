"""`hola certs` and `hola keys`: files with the right content and rights, nothing overwritten."""

from __future__ import annotations

import json
import ssl
import stat
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hola.security.api_keys import caller_of_key, parse_keys
from hola_cli import certs


@pytest.fixture
def folder(tmp_path, run):
    folder = tmp_path / "deep" / "certs"
    assert run("certs", "init", "--dir", str(folder)).exit_code == 0
    return folder


def load(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def alternatives(certificate, kind):
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(kind)


def test_the_authority_and_what_it_signs_fit(folder, run):
    result = run("certs", "issue", "verifier", "--dir", str(folder), "--json")
    told = json.loads(result.stdout)
    authority, issued = load(folder / "ca.crt"), load(folder / "verifier.crt")
    issued.verify_directly_issued_by(authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(told["certificate"], told["key"])
    context.load_verify_locations(told["settings"]["HOLA_TLS_CA"])
    assert told["expires"] == issued.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert set(told["settings"]) == {"HOLA_TLS_CERT", "HOLA_TLS_KEY", "HOLA_TLS_CA"}


def test_only_the_owner_reads_keys(folder, run):
    run("certs", "issue", "verifier", "--dir", str(folder))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600, "verifier.crt": 0o644, "verifier.key": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_names_and_addresses(folder, run):
    hosts = ("verifier.hola.svc", "*.verifier.hola", "10.0.0.7", "localhost")
    options = [word for host in hosts for word in ("--host", host)]
    run("certs", "issue", "verifier", "--dir", str(folder), *options)
    issued = load(folder / "verifier.crt")
    names = ["verifier", "localhost", "verifier.hola.svc", "*.verifier.hola"]
    assert alternatives(issued, x509.DNSName) == names
    addresses = [ip_address(text) for text in ("127.0.0.1", "::1", "10.0.0.7")]
    assert alternatives(issued, x509.IPAddress) == addresses


def test_a_tenants_device_is_no_server(folder, run):
    run("certs", "issue", "camera", "--tenant", "acme", "--dir", str(folder))
    issued = load(folder / "camera.crt")
    assert alternatives(issued, x509.UniformResourceIdentifier) == ["urn:hola:tenant:acme"]
    assert alternatives(issued, x509.DNSName) == ["camera"]
    purposes = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_nothing_is_overwritten_without_being_told_to(folder, run):
    run("certs", "issue", "verifier", "--dir", str(folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for command in (["init"], ["issue", "verifier"]):
        result = run("certs", *command, "--dir", str(folder))
        assert result.exit_code == 2
        assert "is there already; --force replaces it" in result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run("certs", "issue", "verifier", "--force", "--dir", str(folder)).exit_code == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after["ca.key"] == before["ca.key"]
    assert after["verifier.key"] != before["verifier.key"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["issue", "a/b"], "cannot be a certificate's name"),
        (["issue", "../x"], "cannot be a certificate's name"),
        (["issue", "ca"], "the authority's own name"),
        (["issue", "x", "--host", "a b"], "neither a host name nor an IP address"),
        (["issue", "x", "--host", ""], "neither a host name nor an IP address"),
        (["issue", "x", "--host", "*"], "neither a host name nor an IP address"),
        (["issue", "x", "--tenant", "a b"], "tenant"),
        (["issue", "x", "--days", "0"], "validity"),
        (["issue", "x", "--days", "nan"], "validity"),
        (["issue", "x", "--days", "40000"], "validity"),
        (["init", "--force", "--name", "a b"], "cannot be a certificate's name"),
        (["init", "--force", "--days", "-1"], "validity"),
    ],
)
def test_bad_input_is_told_and_leaves_no_file(folder, run, arguments, why):
    before = sorted(folder.iterdir())
    result = run("certs", *arguments, "--dir", str(folder))
    assert result.exit_code == 2
    assert why in result.stderr
    assert sorted(folder.iterdir()) == before


def test_an_authority_that_is_not_there_or_broken(tmp_path, folder, run):
    result = run("certs", "issue", "x", "--dir", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "`hola certs init` makes an authority" in result.stderr
    for content in (b"", b"garbage"):
        (folder / "ca.key").write_bytes(content)
        result = run("certs", "issue", "x", "--dir", str(folder))
        assert result.exit_code == 2
        assert "cannot be read" in result.stderr


def test_a_folder_that_cannot_be_made(tmp_path, run):
    (tmp_path / "file").write_bytes(b"")
    result = run("certs", "init", "--dir", str(tmp_path / "file" / "certs"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(certs.os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        certs._replace(tmp_path / "x.key", b"secret", 0o600)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_pip_line(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for command in (["init"], ["issue", "x"]):
        result = run("certs", *command)
        assert result.exit_code == 4
        assert "pip install 'hola-edge[auth]'" in result.stderr


def test_a_key_is_printed_once_and_its_line_works(run):
    told = json.loads(run("keys", "create", "--tenant", "acme", "--json").stdout)
    keys = parse_keys(told["line"].encode(), "f")
    assert caller_of_key(told["key"], keys).tenant == "acme"
    result = run("keys", "create", "-t", "acme")
    assert "line for HOLA_API_KEYS: " in result.stderr
    assert "sha256:" not in result.stdout


@pytest.mark.parametrize("before", [None, b"", b"# keys\n", b"# keys"])
def test_keys_are_appended_line_by_line(tmp_path, run, before):
    path = tmp_path / "keys"
    if before is not None:
        path.write_bytes(before)
    made = [run("keys", "create", "-t", f"t{n}", "-a", str(path)).stdout.strip() for n in range(3)]
    keys = parse_keys(path.read_bytes(), "f")
    assert [caller_of_key(text, keys).tenant for text in made] == ["t0", "t1", "t2"]
    if before is None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_for_nobody_or_nowhere(tmp_path, run):
    assert run("keys", "create", "-t", "a b").exit_code == 2
    result = run("keys", "create", "-t", "acme", "-a", str(tmp_path))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert result.stdout == ""
