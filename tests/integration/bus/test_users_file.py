"""`hola keys redis` on a real Redis: each user does its work and no more."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from hola.bus.streams import GROUP, Keys
from hola_cli.main import app

pytestmark = pytest.mark.redis


@pytest.fixture
def server(tmp_path: Path):
    made = CliRunner().invoke(app, ["keys", "redis", str(tmp_path / "secrets")])
    assert made.exit_code == 0, made.output
    socket = tmp_path / "s"
    words = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path)]
    words += ["--aclfile", str(tmp_path / "secrets/users.acl"), "--save", ""]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < until:
            time.sleep(0.02)
        yield tmp_path / "secrets", socket
    finally:
        process.terminate()
        process.wait(10)


def test_each_user_does_its_work_and_no_more(server) -> None:
    secrets, socket = server
    assert secrets.stat().st_mode & 0o777 == 0o700
    queue, password = Keys().queue("default"), (secrets / "password").read_text("ascii")
    with redis.Redis(unix_socket_path=str(socket), username="hola", password=password) as ours:
        ours.xgroup_create(queue, GROUP, id="0", mkstream=True)
        jobs = [ours.xadd(queue, {"p": "x"}) for _ in range(5)]
        ours.xreadgroup(GROUP, "a", {queue: ">"}, count=2)
        ours.xack(queue, GROUP, jobs[0])
        ours.xdel(queue, jobs[0])
        ours.hset(Keys().compression.queued, mapping={"a/job": "a/1-0", "b/job": "b/1-0"})
        with pytest.raises(redis.exceptions.NoPermissionError):
            ours.flushall()
    scaler = (secrets / "keda-password").read_text("ascii")
    with redis.Redis(unix_socket_path=str(socket), username="keda", password=scaler) as keda:
        assert keda.xinfo_groups(queue)[0]["lag"] == 3  # what KEDA's lagCount reads
        counted = "return redis.call('hlen', KEYS[1])"  # what its listName reads of a hash
        assert keda.eval(counted, 1, Keys().compression.queued) == 2
        with pytest.raises(redis.exceptions.NoPermissionError):
            keda.xrange(queue)
    with redis.Redis(unix_socket_path=str(socket), username="probe", password="any") as probe:
        assert probe.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.xlen(queue)
    with (
        redis.Redis(unix_socket_path=str(socket)) as nobody,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        nobody.ping()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("mine")
    made = CliRunner().invoke(app, ["keys", "redis", str(tmp_path)])
    assert made.exit_code == 2, made.output
    assert (tmp_path / "password").read_text() == "mine"
    assert os.listdir(tmp_path) == ["password"]
