"""adaptive"""
from scrapy_session_filter.policies.adaptive.policy import AdaptivePolicy

__all__ = ["AdaptivePolicy"]
