"""`hola health`: asks any HOLA server's standard health service; made for container probes."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import grpc
import grpc.aio
import typer
from grpc_health.v1 import health_pb2

from hola.config import Settings, load_settings
from hola.errors import ConfigError, HolaError, ServiceUnavailable
from hola.rpc.channel import open_channel
from hola.rpc.errors import error_from_call
from hola_cli.jsonform import dump
from hola_cli.options import JsonOption

CHECK = "/grpc.health.v1.Health/Check"


def command(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS",
            help="host:port or unix:///path of any service. Default: HOLA_HEALTH_LISTEN, here.",
        ),
    ] = None,
    service: Annotated[
        str,
        typer.Option(
            "--service",
            metavar="NAME",
            help="One service, e.g. hola.v1.RouterService. Default: all of them.",
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.01, help="Seconds to wait.")
    ] = 2.0,
    plaintext: Annotated[
        bool,
        typer.Option(
            "--plaintext", help="ADDRESS is a plaintext health port, whatever HOLA_TLS_*."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Exit with 0 when the server at ADDRESS is serving, with 6 when not.

    Examples:

    `hola health localhost:7072`

    `hola health unix:///run/hola/verifier.sock --timeout 1`

    `HOLA_HEALTH_LISTEN=0.0.0.0:7080 hola health`
    """
    settings = load_settings(os.environ)
    if address is None:
        address, plaintext = own_health_port(settings), True
    status = asyncio.run(ask(address, service, timeout, settings, plaintext=plaintext))
    if json:
        dump({"address": address, "service": service, "status": status})
    elif status == "SERVING":
        print(f"{address}: SERVING")
    if status != "SERVING":
        raise ServiceUnavailable(f"{address} answers {status}", address=address)


def own_health_port(settings: Settings) -> str:
    """Where HOLA_HEALTH_LISTEN can be reached from here. Raises ConfigError when it is not set."""
    if not settings.health_listen:
        raise ConfigError("no ADDRESS given, and HOLA_HEALTH_LISTEN is not set")
    host, _, port = settings.health_listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else settings.health_listen


async def ask(
    address: str, service: str, timeout_s: float, settings: Settings, *, plaintext: bool = False
) -> str:
    """Status name of the server's health, e.g. SERVING.

    Raises ServiceUnavailable when nobody answers within timeout_s, ConfigError on a malformed
    address.
    """
    channel = open_channel(address, settings, plaintext=plaintext)
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        check = channel.unary_unary(
            CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise _unhealthy(address, service, error, timeout_s) from None
    finally:
        await channel.close()
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _unhealthy(
    address: str, service: str, error: grpc.aio.AioRpcError, timeout_s: float
) -> HolaError:
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return ServiceUnavailable(f"{address} has no service {service!r}", address=address)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceUnavailable(
            f"{address} did not answer within {timeout_s:g} s", address=address
        )
    cause = error_from_call(error)
    return ServiceUnavailable(f"{address} cannot be reached: {cause.message}", address=address)
