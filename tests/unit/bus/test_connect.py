"""Which URLs are a bus, and what is said of the others."""

from __future__ import annotations

import pytest

from hola.bus.connect import open_bus
from hola.bus.memory import MemoryBus
from hola.bus.redis import RedisBus
from hola.errors import ConfigError
from tests.support.bus import job


async def test_memory_is_a_bus_of_its_own_each_time() -> None:
    first, second = await open_bus("memory:"), await open_bus("memory:")
    assert isinstance(first, MemoryBus)
    await first.ping()
    await first.jobs.publish(job())
    assert (await first.jobs.depth(), await second.jobs.depth()) == (1, 0)
    await first.close()
    await second.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "redis:",
        "redis://",
        "redis://:6379",
        "redis://host:port",
        "redis://host:99999",
        "redis://[::1",
        "unix://",
        "http://host",
        "memory:name",
        "memory",
        "redis://user:s3cret@",
        "s3cret@host",
        "redis://host/0?no_such_option=1",
        "redis://host/0?socket_timeout=soon",
    ],
)
async def test_any_other_url_is_a_config_error_that_names_the_forms(url: str) -> None:
    with pytest.raises(ConfigError, match="bus URL") as caught:
        await open_bus(url)
    assert "s3cret" not in caught.value.message


def test_a_password_is_not_in_the_complaint_about_an_option() -> None:
    with pytest.raises(ConfigError) as caught:
        RedisBus("redis://user:s3cret@host/0?no_such_option=1")
    assert "s3cret" not in caught.value.message
