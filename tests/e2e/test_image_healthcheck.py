"""The image's HEALTHCHECK, run as written in the Dockerfile, against a real health service."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


@pytest.fixture
def command(repo_root) -> list[str]:
    text = (repo_root / "Dockerfile").read_text("utf-8")
    match = re.search(r"^HEALTHCHECK (?:.*\\\n)*\s+CMD (\[.*\])$", text, re.MULTILINE)
    assert match is not None
    program, *arguments = json.loads(match[1])
    assert program == "python"
    return [sys.executable, *arguments]


@pytest.fixture
def server():
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None).wait()


def run(command: list[str], port: int, **settings: str) -> int:
    environment = os.environ | {"HOLA_LISTEN": f"0.0.0.0:{port}", **settings}
    return subprocess.run(command, env=environment, capture_output=True, timeout=30).returncode


def test_a_serving_service_is_healthy(command, server):
    _, port = server
    assert run(command, port) == 0


def test_the_health_port_is_asked_where_there_is_one(command, server):
    _, port = server
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        other = held.getsockname()[1]
        assert run(command, other, HOLA_HEALTH_LISTEN=f"127.0.0.1:{port}") == 0
        assert run(command, port, HOLA_HEALTH_LISTEN=f"127.0.0.1:{other}") != 0


def test_a_service_that_does_not_serve_is_not(command, server):
    servicer, port = server
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert run(command, port) == 1


def test_nobody_listening_is_not_healthy(command):
    with socket.socket() as held:  # bound but not listening: connections are refused
        held.bind(("127.0.0.1", 0))
        assert run(command, held.getsockname()[1]) != 0
