"""How a session is put on a request: one binding for each download engine."""

from __future__ import annotations

from scrapy_session_filter.engines.base import EngineBinding
from scrapy_session_filter.engines.http import HttpBinding

__all__ = ["EngineBinding", "HttpBinding"]
