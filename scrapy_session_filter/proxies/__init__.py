"""Proxies: what one is, where they come from, and which of them a session gets."""

from __future__ import annotations

from scrapy_session_filter.proxies.allocation import SiteProxies
from scrapy_session_filter.proxies.choosing import proxy_source
from scrapy_session_filter.proxies.endpoint import ProxyEndpoint, mask
from scrapy_session_filter.proxies.endpoint_health import EndpointHealth
from scrapy_session_filter.proxies.parsing import Wire, parse_proxy
from scrapy_session_filter.proxies.reloading import CallableSource, FileSource
from scrapy_session_filter.proxies.sources import (
    DirectSource,
    GatewaySource,
    ListSource,
    ProxySource,
)

__all__ = [
    "CallableSource",
    "DirectSource",
    "EndpointHealth",
    "FileSource",
    "GatewaySource",
    "ListSource",
    "ProxyEndpoint",
    "ProxySource",
    "SiteProxies",
    "Wire",
    "mask",
    "parse_proxy",
    "proxy_source",
]
