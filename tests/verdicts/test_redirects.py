# ruff: noqa: E501 - a case is one line, to be read across
"""Where a redirect leads, compared with what was asked for."""

from __future__ import annotations

import pytest

from scrapy_session_filter.verdict import Kind
from scrapy_session_filter.verdicts import Answer, Judge

JUDGE = Judge()


def redirect(location: str, url: str = "https://shop.example/item/7", status: int = 302) -> Answer:
    return Answer(status, {"location": [location]}, b"", url)


@pytest.mark.parametrize(
    ("location", "url", "vendor"),
    [
        ("https://www.google.com/sorry/index?continue=x", "https://www.google.com/search?q=x", "google"),
        ("https://www.google.co.uk/sorry/index", "https://www.google.co.uk/search", "google"),
        ("/showcaptcha?cc=1", "https://yandex.example/search", "yandex_smartcaptcha"),
        ("https://validate.perfdrive.com/?ssa=1", "https://shop.example/", "radware"),
        ("https://www.linkedin.com/authwall?x", "https://www.linkedin.com/in/someone", "linkedin"),
        ("https://www.instagram.com/accounts/login/?next=/x", "https://www.instagram.com/x/", "instagram"),
        ("/captcha", "https://shop.example/item/7", None),
        ("captcha.php?back=/item/7", "https://shop.example/item/7", None),
        ("//shop.example/security-check/", "https://shop.example/item/7", None),
    ],
)  # fmt: skip
def test_to_a_block_page(location: str, url: str, vendor: str | None) -> None:
    """A redirect to a block page is a block before it is followed."""
    verdict = JUDGE.answer(redirect(location, url))
    assert (verdict.kind, verdict.vendor) == (Kind.BLOCKED, vendor)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://www.shop.example/item/7", "http://shop.example/item/7"),
        ("/item/captcha-solver-review", "https://shop.example/item/7"),
        ("/login", "https://shop.example/account"),
        ("/captcha/2", "https://shop.example/captcha/1"),
        ("https://notgoogle.example/sorry/index", "https://shop.example/"),
        ("https://fakegoogle.com/sorry/index", "https://shop.example/"),
        ("https://www.linkedin.com/authwall?a=2", "https://www.linkedin.com/authwall?a=1"),
        ("https://www.instagram.com/accounts/login/", "https://www.instagram.com/accounts/login"),
        ("", "https://shop.example/"),
        ("http://[", "https://shop.example/"),
        ("\x00\xff", "https://shop.example/"),
        ("/a", "http://["),
    ],
)
def test_elsewhere(location: str, url: str) -> None:
    """Other redirects are OK: to a login, to a captcha that was asked for, to nowhere."""
    assert JUDGE.answer(redirect(location, url)).kind is Kind.OK


def test_only_a_3xx_has_a_location() -> None:
    """A Location beside another status leads nowhere."""
    assert JUDGE.answer(redirect("/captcha", status=200)).kind is Kind.OK
    assert JUDGE.answer(redirect("/captcha", status=201)).kind is Kind.OK


def test_chain_that_was_followed() -> None:
    """The end of a chain that others have followed is compared with its beginning."""
    chain = ("https://shop.example/item/7", "https://shop.example/step")
    blocked = Answer(200, {}, b"", "https://shop.example/captcha", redirects=chain)
    assert JUDGE.answer(blocked).kind is Kind.BLOCKED
    asked_for = Answer(200, {}, b"", "https://shop.example/captcha", redirects=(blocked.url,))
    assert JUDGE.answer(asked_for).kind is Kind.OK
