"""The default policy: it learns what each site allows; see `policy` for how it is put together."""

from __future__ import annotations

from scrapy_session_filter.policies.adaptive.policy import AdaptivePolicy

__all__ = ["AdaptivePolicy"]
