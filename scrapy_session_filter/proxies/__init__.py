"""Where proxies come from, and which of them a session gets."""

from __future__ import annotations

from scrapy_session_filter.proxies.allocation import EndpointHealth, SiteProxies

__all__ = ["EndpointHealth", "SiteProxies"]
