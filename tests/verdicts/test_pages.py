# ruff: noqa: E501 - a case is one line, to be read across
"""Whole pages as sites send them, and the pages that look like them."""

from __future__ import annotations

import pytest

from scrapy_session_filter.verdict import About, Kind, Strength
from scrapy_session_filter.verdicts import Answer, Judge

from .pages import LINKS, PROSE, answer, article, html

JUDGE = Judge()

CF_CHALLENGE = html(
    "<noscript>Enable JavaScript and cookies to continue</noscript>"
    "<script>(function(){window._cf_chl_opt={cvId:'3'};})();</script>",
    title="Un instant&hellip;",
)
AKAMAI = (
    b"<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD><BODY><H1>Access Denied</H1>"
    b'You don\'t have permission to access "http&#58;&#47;&#47;shop&#46;example&#47;" on this server.'
    b"<P>Reference&#32;&#35;18&#46;aa&#46;1&#46;bb</BODY></HTML>"
)
DATADOME = html(
    "<p>Please enable JS</p><script>var dd={'rt':'c','cid':'x','t':'fe','host':"
    "'geo.captcha-delivery.com'}</script><script src='https://ct.captcha-delivery.com/c.js'></script>",
    title="shop.example",
)
WIDGET = '<div class="g-recaptcha" data-sitekey="k"></div><script src="https://www.google.com/recaptcha/api.js"></script>'


@pytest.mark.parametrize(
    ("page", "status", "vendor", "about"),
    [
        (CF_CHALLENGE, 200, "cloudflare", About.VISITOR),
        (CF_CHALLENGE, 403, "cloudflare", About.VISITOR),
        (html('<p>Access denied</p><span class="cf-error-code">1009</span>'), 403, "cloudflare", About.COUNTRY),
        (html('<p>Access denied</p><span class="cf-error-code">1010</span>'), 403, "cloudflare", About.USER_AGENT),
        (html('<p>Access denied</p><span class="cf-error-code">1006</span>'), 403, "cloudflare", About.ADDRESS),
        (b"error code: 1020", 403, "cloudflare", About.VISITOR),
        (AKAMAI, 403, "akamai", About.VISITOR),
        (AKAMAI, 200, "akamai", About.VISITOR),
        (DATADOME, 403, "datadome", About.VISITOR),
        (DATADOME.replace(b"'fe'", b"'bv'"), 403, "datadome", About.ADDRESS),
        (b'{"url":"https://geo.captcha-delivery.com/captcha/?x"}', 403, "datadome", About.VISITOR),
        (html('<div id="px-captcha"></div>', "Access to this page has been denied"), 403, "perimeterx", About.VISITOR),
        (html('<iframe src="/_Incapsula_Resource?CWUDNSAI=9&edet=12"></iframe>'), 200, "imperva", About.VISITOR),
        (html("<script>window.gokuProps={}</script>"), 202, "aws_waf", About.VISITOR),
        (html("<p>Just checking</p>", "One moment, please..."), 200, "imunify360", About.VISITOR),
        (html(WIDGET), 200, "recaptcha", About.VISITOR),
        (html('<p>Type the letters</p><form action="/errors/validateCaptcha"></form>'), 200, "amazon", About.VISITOR),
    ],
)  # fmt: skip
def test_block_page(page: bytes, status: int, vendor: str, about: About) -> None:
    """A block page is found at its status, with its vendor and with what it is about."""
    verdict = JUDGE.answer(answer(page, status))
    assert verdict.kind is Kind.BLOCKED
    assert (verdict.vendor, verdict.about) == (vendor, about)
    assert verdict.strength is Strength.STRONG


LOGIN = html(
    '<form action="/login"><input name="user"><input type="password" name="p">'
    + WIDGET
    + "</form>",
    title="Log in",
)


@pytest.mark.parametrize(
    "page",
    [
        LOGIN,
        html('<form><input type="email"><textarea name="m"></textarea>' + WIDGET + "</form>", "Contact us"),
        article("Just a moment..."),
        article("a captcha, and why you have been blocked"),
        html(f"<h1>Just a moment...</h1><ul>{LINKS}</ul><p>{PROSE}</p>", "Just a moment..."),
        html(f"<p>{PROSE}</p><script src='/cdn-cgi/challenge-platform/scripts/jsd/main.js'></script>", "Shop"),
        html(f"<p>{PROSE}</p><script src='/cdn-cgi/challenge-platform/h/g/scripts/jsd/main.js'></script>", "Shop"),
        html("<div id='root'></div><script src='/_Incapsula_Resource?SWJIYLWA=719d&ns=1'></script>" + "<p>x y z</p>" * 80, "App"),
        html('<div id="app"></div><script src="https://js.datadome.co/tags.js"></script>', "Shop"),
        html('<div id="root"></div><script>document.cookie="a=1"; function r(){location.reload()}</script>', "App"),
        html("<p>Nothing was found for this search.</p>", "Search"),
        b'{"items": [], "note": "access denied to nobody"}',
        b"",
    ],
)  # fmt: skip
def test_page_that_looks_like_a_block(page: bytes) -> None:
    """Forms with widgets, articles about captchas, guarded pages, shells and API answers are pages."""
    verdict = JUDGE.answer(answer(page))
    assert verdict.kind is Kind.OK, verdict.evidence


@pytest.mark.parametrize(
    ("page", "status", "kind"),
    [
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>', 403, Kind.OK),
        (b'{"message": "Forbidden"}', 403, Kind.OK),
        (b'{"error": "unauthorized"}', 401, Kind.OK),
        (html("<h1>401 Authorization Required</h1>", "401 Authorization Required"), 401, Kind.OK),
        (LOGIN, 403, Kind.OK),
        (html("<h1>404</h1><p>No such page</p>", "Not found"), 404, Kind.OK),
        (html("<h1>Back soon</h1>", "Offline for Maintenance"), 503, Kind.SITE_ERROR),
        (html('<div id="cf-error-details">Error 522: connection timed out</div>'), 522, Kind.SITE_ERROR),
        (html("<p>Bad request. We can't connect to the server. Generated by cloudfront (CloudFront)</p>"), 403, Kind.SITE_ERROR),
        (html("<p>Request blocked. Generated by cloudfront (CloudFront)</p>"), 403, Kind.BLOCKED),
        (b"<H1>Invalid URL</H1>Reference&#32;&#35;9&#46;aa&#46;1&#46;bb", 400, Kind.OK),
        (html("<h1>Forbidden</h1>", "403 Forbidden"), 403, Kind.BLOCKED),
        (html("<p>Too many requests, slow down</p>"), 403, Kind.THROTTLED),
        (html("<p>large amounts of web requests</p>"), 430, Kind.THROTTLED),
        (html("<p>Sorry</p>"), 200, Kind.OK),
    ],
)  # fmt: skip
def test_evidence_beats_status(page: bytes, status: int, kind: Kind) -> None:
    """What a page says of itself decides before its status does."""
    assert JUDGE.answer(answer(page, status)).kind is kind


def test_weak_evidence_needs_a_second() -> None:
    """One weak wording on a page with other text is nothing; two, or a refusing status, are a block."""
    one = "<p>We saw suspicious activity. " + "Our shop is closed for the day. " * 20 + "</p>"
    two = one.replace("activity.", "activity from automated requests.")
    assert JUDGE.answer(answer(html(one))).kind is Kind.OK
    assert JUDGE.answer(answer(html(two))).kind is Kind.BLOCKED
    assert JUDGE.answer(answer(html(one), 403)).strength is Strength.STRONG
    bare = JUDGE.answer(answer(html("<p>We saw suspicious activity.</p>")))
    assert (bare.kind, bare.strength) == (Kind.BLOCKED, Strength.WEAK)


@pytest.mark.parametrize(
    ("headers", "body", "kind"),
    [
        ({"x-squid-error": ["ERR_ACCESS_DENIED 0"]}, b"", Kind.PROXY_ERROR),
        ({"x-squid-error": ["ERR_CANNOT_FORWARD 0"]}, b"", Kind.PROXY_ERROR),
        ({"x-squid-error": ["ERR_DNS_FAIL 0"]}, b"", Kind.SITE_ERROR),
        ({"x-squid-error": ["ERR_CONNECT_FAIL 111"]}, b"", Kind.SITE_ERROR),
        ({"server": ["tinyproxy/1.11.0"]}, b"", Kind.PROXY_ERROR),
        ({"x-brd-error": ["no peers available"]}, b"", Kind.PROXY_ERROR),
        ({"proxy-status": ["gw; error=proxy_internal_error"]}, b"", Kind.PROXY_ERROR),
        ({}, html("", "ERROR: The requested URL could not be retrieved"), Kind.PROXY_ERROR),
        ({}, html("Unable to determine IP address from host name shop.example",
                  "ERROR: The requested URL could not be retrieved"), Kind.SITE_ERROR),
        ({}, b"", Kind.SITE_ERROR),
    ],
)  # fmt: skip
def test_proxy_error_page(headers: dict[str, list[str]], body: bytes, kind: Kind) -> None:
    """A proxy's own error page is its fault unless it says that the site could not be reached."""
    assert JUDGE.answer(Answer(503, headers, body)).kind is kind


@pytest.mark.parametrize("cookie", ["__cf_bm", "cf_clearance", "_abck", "datadome", "incap_ses_1"])
def test_vendor_cookie_on_a_good_page(cookie: str) -> None:
    """A guard's cookie on a good page says who guards the site, and no more."""
    page = Answer(200, {"set-cookie": [f"{cookie}=x"]}, html(f"<p>{PROSE}</p>"))
    assert JUDGE.answer(page).kind is Kind.OK


def test_marker_in_utf_16() -> None:
    """A page in UTF-16 is read like any other."""
    page = html("<p>Wait</p>", "Just a moment...").decode().encode("utf-16")
    assert JUDGE.answer(answer(page)).kind is Kind.BLOCKED


def test_behind_styles() -> None:
    """A refusal that hides behind very much style is found with its vendor."""
    body = "<p>You've been blocked by network security.</p>" + "<p>x</p>" * 2000
    page = html(body, head=f"<style>{'a{b:c}' * 12_000}</style>")
    assert JUDGE.answer(answer(page, 403)).vendor == "reddit"


def test_picture() -> None:
    """Markers are not looked for in pictures, whatever their bytes."""
    page = answer(CF_CHALLENGE, content_type="image/png")
    assert JUDGE.answer(page).kind is Kind.OK
