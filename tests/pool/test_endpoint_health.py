"""What is remembered of a proxy that does not work."""

from __future__ import annotations

from scrapy_session_filter.proxies import EndpointHealth
from scrapy_session_filter.proxies.endpoint_health import FIRST_FAULT_REST

from .conftest import proxies


def test_only_a_rest_is_remembered() -> None:
    """A rest is saved until the proxy works; a single fault of one that worked is not worth it."""
    health, (endpoint,) = EndpointHealth(), proxies(1)
    assert health.failed(endpoint, 10.0)
    assert health.dump(endpoint.key, 1000.0)["wake"] > 1010.0
    health.worked(endpoint)
    assert not health.failed(endpoint, 20.0)
    assert health.changed == {endpoint.key}
    saved = health.dump(endpoint.key, 1000.0)
    assert saved == {}
    health.load(endpoint.key, saved, now=30.0, wall_offset=1000.0)
    assert health.wake(endpoint) < 30.0


def test_a_restart_cuts_a_rest_short() -> None:
    """What was wrong may be mended; if it is not, the next rest is as long as ever."""
    health, (endpoint,) = EndpointHealth(), proxies(1)
    now = 0.0
    for _ in range(7):
        assert health.failed(endpoint, now)
        now = health.wake(endpoint)
    saved = health.dump(endpoint.key, 1000.0)
    again = EndpointHealth()
    again.load(endpoint.key, saved, now=0.0, wall_offset=1000.0)
    assert again.wake(endpoint) == FIRST_FAULT_REST
    assert again.failed(endpoint, FIRST_FAULT_REST)
    assert again.wake(endpoint) - FIRST_FAULT_REST == FIRST_FAULT_REST * 2**7
