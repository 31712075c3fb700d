"""How a session is picked for a request; see `scrapy_session_filter.policies.base` to write one."""

from __future__ import annotations

from scrapy_session_filter.policies.base import (
    KEEP,
    RETIRE,
    Ask,
    Decision,
    Policy,
    PolicyContext,
    Reaction,
)

#: Import paths of the policies that ``SESSION_FILTER_POLICY`` knows by name.
POLICIES = {
    "adaptive": "scrapy_session_filter.policies.adaptive.AdaptivePolicy",
    "classic": "scrapy_session_filter.policies.classic.ClassicPolicy",
    "random": "scrapy_session_filter.policies.simple.RandomPolicy",
    "round-robin": "scrapy_session_filter.policies.simple.RoundRobinPolicy",
    "least-used": "scrapy_session_filter.policies.simple.LeastUsedPolicy",
    "until-blocked": "scrapy_session_filter.policies.simple.UntilBlockedPolicy",
}

__all__ = [
    "KEEP",
    "POLICIES",
    "RETIRE",
    "Ask",
    "Decision",
    "Policy",
    "PolicyContext",
    "Reaction",
]
