"""Rules as users write them: plain data, by name.

``SESSION_FILTER_RULES`` maps names to rules of the user's own, or to None for built-in ones that
are switched off::

    SESSION_FILTER_RULES = {
        "shop-queue": {"where": "title", "literal": "You are in the queue", "effect": "rate-limit"},
        "cf-title": None,
    }

Fields: ``where`` (a value of `Where`), ``literal``, ``effect`` (`EFFECTS`; a denied page if left
out), ``gate`` (`GATES`: on which answers it holds; all if left out), ``also`` (a second literal that
must be there), ``vendor`` and ``strength`` (``"strong"`` if left out, ``"weak"``).
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import Strength
from scrapy_session_filter.verdicts import gates, rules
from scrapy_session_filter.verdicts.rules import Rule, Where

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scrapy_session_filter.verdicts.answer import Answer
    from scrapy_session_filter.verdicts.rules import Effect

SETTING = "SESSION_FILTER_RULES"
#: what an answer is once a rule holds, by its reason
EFFECTS: dict[str, Effect] = {
    effect.reason: effect
    for effect in (
        *(rules.CHALLENGE, rules.CAPTCHA, rules.DENIED, rules.LOGIN, rules.ADDRESS),
        *(rules.COUNTRY, rules.AGENT, rules.RATE, rules.PROXY, rules.ORIGIN, rules.PAGE),
    )
}
#: on which answers a rule holds: any; error and refusing statuses; pages without many links, short
#: ones, and those with next to no text; both; JSON, XML and plain text; a captcha and nothing else
GATES: dict[str, Callable[[Answer], bool]] = {
    "anywhere": gates.anywhere,
    "failed": gates.failed,
    "refused": gates.refused,
    "sparse": gates.sparse,
    "short": gates.short,
    "thin": gates.thin,
    "thin-or-failed": gates.thin_or_failed,
    "thin-failure": gates.thin_failure,
    "data": gates.data,
    "gate-page": gates.gate_page,
}
_STRENGTHS = {strength.value: strength for strength in Strength}
_PLACES = {where.value: where for where in Where}
_FIELDS = ("where", "literal", "effect", "gate", "also", "vendor", "strength")


def own_rules(table: Mapping[str, Any], known: frozenset[str]) -> tuple[tuple[Rule, ...], set[str]]:
    """Return the user's rules, and the names of the built-in ones (``known``) that give way.

    A rule of a built-in one's name replaces it. Raises `ConfigurationError` that names the rule.
    """
    for name, fields in table.items():
        if fields is None and name not in known:
            alike = get_close_matches(str(name), known, 3)
            hint = f" such as {', '.join(alike)}" if alike else ""
            raise ConfigurationError(SETTING, {name: None}, f"names of built-in rules{hint}")
    own = tuple(_rule(name, fields) for name, fields in table.items() if fields is not None)
    return own, set(table) & known


def _rule(name: str, fields: object) -> Rule:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(SETTING, name, "names that are texts")
    if not isinstance(fields, dict) or not {"where", "literal"} <= fields.keys() <= {*_FIELDS}:
        expected = (
            f"for {name} None, or a dict of where and literal, and of {', '.join(_FIELDS[2:])}"
        )
        raise ConfigurationError(SETTING, fields, expected)
    for field in ("literal", "also", "vendor"):
        value = fields.get(field, "-")
        if not isinstance(value, str) or not value.strip():
            raise ConfigurationError(SETTING, value, f"for {field} of {name} a text")
    where = _one_of(_PLACES, name, "where", fields["where"])
    literal = fields["literal"]
    if where is Where.STATUS and not (literal.isascii() and literal.isdecimal()):
        raise ConfigurationError(SETTING, literal, f"for literal of {name} a status in digits")
    return Rule(
        name,
        fields.get("vendor"),
        _one_of(EFFECTS, name, "effect", fields.get("effect", rules.DENIED.reason)),
        where,
        literal,
        "the user",
        _one_of(GATES, name, "gate", fields.get("gate", "anywhere")),
        fields.get("also", ""),
        _one_of(_STRENGTHS, name, "strength", fields.get("strength", "strong")),
    )


def _one_of(table: dict[str, Any], name: str, field: str, value: object) -> Any:
    if not isinstance(value, str) or value not in table:
        expected = f"for {field} of {name} one of {', '.join(table)}"
        raise ConfigurationError(SETTING, value, expected)
    return table[value]
