"""Conditions under which a rule holds: on which answers a literal means what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from scrapy_session_filter.verdicts.answer import Answer

REFUSING = frozenset((401, 403, 405, 406, 409, 412, 418, 429, 430, 444, 451, 498, 503, 999))


def anywhere(answer: Answer) -> bool:  # noqa: ARG001 - a gate takes the answer
    """Require nothing."""
    return True


def sparse(answer: Answer) -> bool:
    """Require a page that is not full of links."""
    return not answer.is_rich


def short(answer: Answer) -> bool:
    """Require a short page that is not full of links."""
    return answer.is_short


def thin(answer: Answer) -> bool:
    """Require a short page with next to no visible text."""
    return answer.is_thin


def thin_or_failed(answer: Answer) -> bool:
    """Require an error status or a thin page."""
    return answer.status >= 400 or answer.is_thin


class Having:
    """Require one of some statuses, and what another gate requires."""

    def __init__(self, statuses: Container[int], page: Callable[[Answer], bool] = anywhere) -> None:
        self.statuses, self.page = statuses, page

    def __call__(self, answer: Answer) -> bool:
        """Return whether the answer passes."""
        return answer.status in self.statuses and self.page(answer)


_ERRORS = range(400, 1 << 31)
#: an error status: headers of a solved challenge linger on good answers
failed = Having(_ERRORS)
#: a status that refuses
refused = Having(REFUSING)
#: an error status and a thin page
thin_failure = Having(_ERRORS, thin)
#: a thin 503: there "access denied" is news, on a 403 it only repeats the status
denied_by_503 = Having((503,), thin)


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
