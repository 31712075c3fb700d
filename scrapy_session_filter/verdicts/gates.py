"""Conditions under which a rule holds: on which answers a literal means what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy_session_filter.verdicts.answer import Answer

REFUSING = frozenset((401, 403, 405, 406, 409, 412, 418, 429, 430, 444, 451, 498, 503, 999))


def anywhere(answer: Answer) -> bool:  # noqa: ARG001 - a gate takes the answer
    """Require nothing."""
    return True


def failed(answer: Answer) -> bool:
    """Require an error status: headers of a solved challenge linger on good answers."""
    return answer.status >= 400


def refused(answer: Answer) -> bool:
    """Require a status that refuses."""
    return answer.status in REFUSING


def sparse(answer: Answer) -> bool:
    """Require a page that is not full of links."""
    return not answer.is_rich


def thin(answer: Answer) -> bool:
    """Require a short page with next to no visible text."""
    return answer.is_thin


def thin_or_failed(answer: Answer) -> bool:
    """Require an error status or a thin page."""
    return answer.status >= 400 or answer.is_thin


def thin_failure(answer: Answer) -> bool:
    """Require an error status and a thin page."""
    return answer.status >= 400 and answer.is_thin


def denied_by_503(answer: Answer) -> bool:
    """Require a thin 503: there "access denied" is news, on a 403 it only repeats the status."""
    return answer.status == 503 and answer.is_thin


def bare_script(answer: Answer) -> bool:
    """Require a page of script alone: hardly any text, no link, no style, no app to mount."""
    text = answer.text
    return (
        not answer.is_data
        and answer.is_short
        and len(answer.prose) < 200
        and b"<a " not in text
        and b'rel="stylesheet"' not in text
        and not any(root in text for root in _APP_ROOTS)
    )


_APP_ROOTS = (b'id="app"', b'id="root"', b'id="__next"', b"<app-root", b'id="__nuxt"', b"<form")


def data(answer: Answer) -> bool:
    """Require JSON, XML or plain text."""
    return answer.is_data


def gate_page(answer: Answer) -> bool:
    """Require a page that is nothing but its captcha, without a form to log in or write in.

    A widget in a form guards the form, not the page.
    """
    text = answer.text
    return (
        not answer.is_data
        and answer.is_thin
        and not any(mark in text for mark in _FORM_MARKS)
        and text.count(b"</a") < 6
        and text.count(b"<input") - text.count(b'type="hidden"') - text.count(b"type='hidden'") < 3
    )


_FORM_MARKS = (
    b"password",
    b'type="email"',
    b'type="tel"',
    b'type="search"',
    b"<textarea",
    b"<article",
    b"<select",
)
