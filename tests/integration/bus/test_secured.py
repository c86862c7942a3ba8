"""Redis that asks for certificates and a password: both are checked, and both can be rotated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hola.bus.connect import open_bus
from hola.bus.redis import RedisBus
from hola.bus.security import BusSecurity
from hola.bus.streams import BusLimits
from hola.errors import BusUnavailable, ConfigError
from tests.support.bus import (
    PATIENCE_S,
    by,
    followed,
    job,
    started,
    summary,
    token_ids,
    tokens,
)
from tests.support.redis import Server, Tls, cluster, durable, free_port, user, watched
from tests.support.security import Pki, replace_file

pytestmark = pytest.mark.redis

SHORT = BusLimits(retry_s=0.3, reconnect_s=0.3)
# Redis 7.0 replays its append-only file as the default user: without rights it loses all of it.
LOCKED = "default off ~* &* +@all"
LONG = BusLimits(retry_s=3 * PATIENCE_S, reconnect_s=3 * PATIENCE_S)


@dataclass
class Secured:
    """A server that speaks TLS to those with a certificate, its keys, and what a client needs."""

    server: Server
    pki: Path
    security: BusSecurity

    @property
    def url(self) -> str:
        return f"rediss://hola@localhost:{self.server.port}/0"


def files(folder: Path) -> tuple[Tls, BusSecurity]:
    """Certificates for servers and for a client, and the client's password."""
    pki = Pki.at(folder / "pki")
    pki.issue("redis")
    client = pki.issue("drafter")
    (folder / "password").write_text("s3cret\n")
    return Tls(pki.folder, "redis"), BusSecurity(
        ca=client["tls_ca"],
        cert=client["tls_cert"],
        key=client["tls_key"],
        password_file=str(folder / "password"),
    )


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    """It listens with TLS alone; its one user but the default has a password in a file."""
    tls, security = files(tmp_path)
    port = free_port()
    options = [
        *durable(),
        *tls.options(port),
        "--user",
        *LOCKED.split(),
        *user("hola", "s3cret", "hola"),
    ]
    server = Server(tmp_path / "redis", options, port=port)
    server.start()
    yield Secured(server, tls.folder, security)
    server.stop()


async def run(bus: RedisBus, name: str) -> None:
    """Publish, take, write, follow and acknowledge one request."""
    await bus.jobs.publish(job(name))
    delivery = await bus.jobs.take("a", timeout_s=PATIENCE_S)
    assert delivery is not None
    following = asyncio.create_task(followed(bus, name))
    for event in (started(name), tokens(0, 2), summary(2)):
        await bus.journal.append(name, by("a", event))
    await bus.jobs.ack(delivery)
    assert token_ids(await following) == [0, 1]


async def test_a_client_with_certificate_and_password_gets_through(secured: Secured) -> None:
    bus = await open_bus(secured.url, security=secured.security)
    assert isinstance(bus, RedisBus)
    await run(bus, "r1")
    await bus.close()


@pytest.mark.parametrize(
    "missing", [{"cert": "", "key": ""}, {"ca": ""}, {"password_file": ""}], ids=lambda m: min(m)
)
async def test_a_client_without_one_of_them_does_not(
    secured: Secured, missing: dict[str, str]
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(BusUnavailable):
            await open_bus(secured.url, limits=SHORT, security=replace(secured.security, **missing))


async def test_a_certificate_of_another_authority_and_a_wrong_password_are_refused(
    secured: Secured, tmp_path: Path
) -> None:
    other = Pki.at(tmp_path / "other").issue("drafter")
    (tmp_path / "wrong").write_text("wr0ng")
    for changes in (
        {"cert": other["tls_cert"], "key": other["tls_key"]},
        {"ca": other["tls_ca"]},
        {"password_file": str(tmp_path / "wrong")},
    ):
        security = replace(secured.security, **changes)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(BusUnavailable) as caught:
                await open_bus(secured.url, limits=SHORT, security=security)
        assert "wr0ng" not in f"{caught.value!r}"


async def test_rotated_certificates_and_password_need_no_restart_of_the_client(
    secured: Secured,
) -> None:
    bus = RedisBus(secured.url, limits=LONG, security=secured.security)
    await run(bus, "r1")
    waiting = asyncio.create_task(bus.jobs.take("b", timeout_s=3 * PATIENCE_S))
    secured.server.stop(gently=True)
    pki = Pki.at(secured.pki, "next-ca")  # nothing of the old authority is trusted now
    for name in ("redis", "drafter"):
        pki.issue(name)
    replace_file(Path(secured.security.password_file), b"n3xt")
    secured.server.options = [
        ">n3xt" if option == ">s3cret" else option for option in secured.server.options
    ]
    await asyncio.to_thread(secured.server.start)
    assert token_ids(await followed(bus, "r1")) == [0, 1], "the append-only file was read"
    await bus.jobs.publish(job("r2"))
    delivery = await waiting
    assert delivery is not None
    assert delivery.job.request_id == "r2"
    await bus.close()


async def test_a_cluster_with_tls_and_a_user(tmp_path: Path) -> None:
    tls, security = files(tmp_path)
    with cluster(tmp_path, *user("hola", "s3cret", "hola"), tls=tls) as nodes:
        url = "rediss+cluster://hola@" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        bus = RedisBus(url, limits=LONG, security=security)
        for number in range(12):
            await run(bus, f"r{number}")
        await bus.close()
        with pytest.raises(BusUnavailable):
            await open_bus(url, limits=SHORT, security=replace(security, cert="", key=""))
        with pytest.raises(BusUnavailable):
            await open_bus(url.replace("hola@", "nobody@"), limits=SHORT, security=security)


@pytest.mark.slow
async def test_sentinels_with_tls_and_a_user(tmp_path: Path) -> None:
    tls, security = files(tmp_path)
    with watched(tmp_path, *user("hola", "s3cret", "hola"), tls=tls) as servers:
        url = servers.url.replace("redis+sentinel://", "rediss+sentinel://hola@")
        bus = RedisBus(url, limits=LONG, security=security)
        await run(bus, "r1")
        await asyncio.to_thread(servers.master.stop)
        await run(bus, "r2")
        await bus.close()


async def test_the_user_may_do_nothing_else(secured: Secured) -> None:
    bus = RedisBus(secured.url, limits=SHORT, security=secured.security)
    await bus.ping()
    commands = bus._link.commands
    for refused in (
        ("GET", "other:key"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("PUBLISH", "hola:x", "1"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", "other:key"),
    ):
        with pytest.raises(BusUnavailable, match=r"(?i)permission"):
            await bus._link.call(lambda _, refused=refused: commands.execute_command(*refused))
    await bus.close()


@pytest.mark.parametrize(
    ("url", "changes", "message"),
    [
        ("redis://localhost", {}, "need a rediss:// URL"),
        ("rediss://localhost", {"key": ""}, "go together"),
        ("rediss://localhost", {"cert": ""}, "go together"),
        ("rediss://u:p@localhost", {}, "not in both"),
        ("rediss://localhost", {"ca": "none.crt"}, "a file of certificates"),
        ("rediss://localhost", {"ca": "garbage"}, "a file of certificates"),
        ("rediss://localhost", {"key": "garbage"}, "a file of certificates"),
        ("rediss://localhost", {"password_file": "none"}, "or of the password"),
        ("rediss://localhost", {"password_file": "empty"}, "or of the password"),
    ],
)
async def test_files_that_cannot_be_used_are_config_errors(
    tmp_path: Path, url: str, changes: dict[str, str], message: str
) -> None:
    pair = Pki.at(tmp_path).issue("drafter")
    for name, content in (("garbage", b"\xffno certificate"), ("empty", b" \n"), ("word", b"w")):
        (tmp_path / name).write_bytes(content)
    files = {
        "ca": pair["tls_ca"],
        "cert": pair["tls_cert"],
        "key": pair["tls_key"],
        "password_file": str(tmp_path / "word"),
    }
    files |= {name: str(tmp_path / file) if file else "" for name, file in changes.items()}
    with pytest.raises(ConfigError, match=message):
        await open_bus(url, security=BusSecurity(**files))


def test_the_page_for_operators_has_the_rule(repo_root: Path) -> None:
    from hola.bus.acl import acl_rule

    assert acl_rule("hola") in (repo_root / "docs" / "BUS.md").read_text().replace("\n", " ")
