"""What is remembered of a proxy that does not work."""

from __future__ import annotations

from scrapy_session_filter.proxies import EndpointHealth

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
