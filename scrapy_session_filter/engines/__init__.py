"""How a session is put on a request: one binding for each download engine."""

from __future__ import annotations

from scrapy_session_filter.engines.base import EngineBinding
from scrapy_session_filter.engines.http import HttpBinding
from scrapy_session_filter.engines.selection import Engines

__all__ = ["EngineBinding", "Engines", "HttpBinding"]
