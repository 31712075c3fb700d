from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.proxies import (
    CallableSource,
    DirectSource,
    FileSource,
    GatewaySource,
    ListSource,
    ProxySource,
    proxy_source,
    reloading,
    sources,
)

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = "http://user:topsecret@192.0.2.1:8000", "http://192.0.2.2:8000"


def labels(source: ProxySource) -> list[str]:
    return [endpoint.label for endpoint in source.endpoints()]


def refused(source: ProxySource) -> str:
    with pytest.raises(ConfigurationError) as caught:
        source.check()
    assert "topsecret" not in str(caught.value)
    return str(caught.value)


def refresh(source: ProxySource) -> bool:
    return asyncio.run(source.refresh())


@pytest.fixture
def proxy_file(tmp_path: Path) -> Path:
    path = tmp_path / "proxies.txt"
    path.write_text(f"{A}\n{B}\n")
    path.chmod(0o600)
    return path


def touch(path: Path, text: str) -> None:
    """Write another version whose time stamp differs however coarse the file system's clock is."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


# --- which source is meant -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "proxies", "kind"),
    [
        ("direct", None, DirectSource),
        (" DIRECT ", None, DirectSource),
        ("http://u-{session}:p@gw.example:8000", None, GatewaySource),
        (None, [A, B], ListSource),
        ("", (A,), ListSource),
        (None, f"{A},{B}", ListSource),
        (None, "192.0.2.1:80,192.0.2.2:80", ListSource),
        (None, json.dumps([A, B]), ListSource),
        (None, "[::1]:8080", ListSource),
        (None, "user:topsecret@gw", ListSource),
        (None, "nowhere/proxies.txt", FileSource),
        (None, "proxies.txt", FileSource),
        (None, Path("nowhere"), FileSource),
        (None, "os.getcwd", CallableSource),
        (None, lambda: [A], CallableSource),
    ],
)
def test_source_is_recognised_by_the_form_of_the_setting(
    proxy: object, proxies: object, kind: type[ProxySource]
) -> None:
    """A URL, list, comma list, JSON, path, import path and callable each mean their own source."""
    assert type(proxy_source(proxy, proxies)) is kind


@pytest.mark.parametrize(
    ("proxy", "proxies", "named"),
    [
        (None, None, "SESSION_FILTER_PROXY"),
        ("", None, "SESSION_FILTER_PROXY"),
        (A, [B], "SESSION_FILTER_PROXY"),
        (5, None, "SESSION_FILTER_PROXY"),
        ([A], None, "SESSION_FILTER_PROXY"),
        (None, 5, "SESSION_FILTER_PROXIES"),
        (None, {A: 1}, "SESSION_FILTER_PROXIES"),
    ],
)
def test_case_1_neither_both_or_something_else_is_refused(
    proxy: object, proxies: object, named: str
) -> None:
    """Exactly one of the two settings must be given, in a form that means something."""
    with pytest.raises(ConfigurationError) as caught:
        proxy_source(proxy, proxies)
    assert caught.value.setting == named
    assert "topsecret" not in str(caught.value)


def test_direct_is_said_out_loud(caplog: pytest.LogCaptureFixture) -> None:
    """Sessions without a proxy cost one warning and have no endpoints to wait for."""
    source = proxy_source("direct", None)
    source.check()
    assert (source.direct, list(source.endpoints()), source.pending) == (True, [], False)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert refresh(source) is False


def test_gateway_is_one_endpoint_for_all_sessions(caplog: pytest.LogCaptureFixture) -> None:
    """A template makes one endpoint under which five sessions are five users, without a warning."""
    source = GatewaySource("http://u-{session}:topsecret@gw.example:8000")
    source.check()
    (endpoint,) = source.endpoints()
    assert endpoint.per_session
    assert len({endpoint.url(f"session{n:05}") for n in range(5)}) == 5
    assert not caplog.records


def test_gateway_without_template_is_a_list_of_one_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fixed proxy in PROXY works, and the log says that all sessions share its exit."""
    source = GatewaySource(A)
    source.check()
    assert labels(source) == ["http://192.0.2.1:8000"]
    assert "share one exit" in caplog.text
    assert "topsecret" not in caplog.text


def test_gateway_that_cannot_be_read_is_refused() -> None:
    """The error names SESSION_FILTER_PROXY and hides the password."""
    assert refused(GatewaySource("http:/user:topsecret@gw:1")).startswith("SESSION_FILTER_PROXY = ")


# --- lists ---------------------------------------------------------------------------------------


def test_case_44_same_proxy_is_used_once(caplog: pytest.LogCaptureFixture) -> None:
    """Spellings of one proxy are one endpoint, and one INFO line counts them."""
    caplog.set_level(logging.INFO)
    source = ListSource(["192.0.2.9:80", "http://192.0.2.9", "HTTP://192.0.2.9:80/", "P.example:1"])
    source.check()
    assert labels(source) == ["http://192.0.2.9:80", "http://p.example:1"]
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.INFO, "SESSION_FILTER_PROXIES: a proxy stands there more than once (2 of 4)")
    ]


def test_case_45_and_46_other_credentials_are_other_proxies() -> None:
    """One address with other users, without any, or with another password: all distinct."""
    at = "@gw.example:8000"
    source = ListSource(
        [f"http://u1:p{at}", f"http://u2:p{at}", f"http://u1:q{at}", "http://gw.example:8000"]
    )
    source.check()
    assert len({endpoint.key for endpoint in source.endpoints()}) == 4


def test_keys_of_proxies_that_differ_in_the_password_do_not_depend_on_their_order() -> None:
    """Sessions that gateways keep in the password find their own exit again after a restart."""
    urls = [f"http://u:p_session-{n}@gw.example:8000" for n in range(50)]
    forth, back = ListSource(urls), ListSource(urls[::-1])
    forth.check()
    back.check()
    assert len({endpoint.key for endpoint in forth.endpoints()}) == 50
    assert {e.password: e.key for e in forth.endpoints()} == {
        e.password: e.key for e in back.endpoints()
    }


def test_bad_item_is_refused_with_its_place() -> None:
    """The second of three is bad, and the error says so."""
    assert "(item 2)" in refused(ListSource([B, "http://user:topsecret@192.0.2.1:0", A]))


@pytest.mark.parametrize("items", [[], [5], [None], [["http://h:1"]]])
def test_list_without_usable_text_is_refused(items: list[Any]) -> None:
    """An empty list and items that are no text stop the crawl."""
    refused(ListSource(items))


def test_oddities_are_said_once_for_the_whole_list(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand broken escapes are one warning with a count, case 47's addresses one INFO."""
    caplog.set_level(logging.INFO)
    ListSource([f"http://u{n}:100%@10.0.0.1:{n + 1}" for n in range(1000)]).check()
    messages = [(r.levelno, r.getMessage().split(": ")[1]) for r in caplog.records]
    assert len(messages) == 2
    assert {level for level, _ in messages} == {logging.WARNING, logging.INFO}
    assert "1000 of 1000" in caplog.text


def test_source_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a bound on the number of proxies."""
    monkeypatch.setattr(sources, "MAX_PROXIES", 100)
    assert "at most 100" in refused(ListSource([B] * 101))


def test_case_48_hundred_thousand_proxies_load_fast_and_small() -> None:
    """100,000 proxies take at most 3 s of processor and 400 bytes each."""
    urls = [
        f"http://user{n}:pw{n}@198.51.{n // 256 % 256}.{n % 256}:{8000 + n // 65536}"
        for n in range(100_000)
    ]
    source = ListSource(urls)
    started = time.process_time()
    source.check()
    if sys.gettrace() is None:  # a coverage run counts lines, not seconds
        assert time.process_time() - started <= 3
    assert len(source.endpoints()) == 100_000

    few = ListSource(urls[:5000])
    tracemalloc.start()
    few.check()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size / 5000 <= 400


# --- files ---------------------------------------------------------------------------------------


def test_case_22_file_may_hold_what_editors_leave(tmp_path: Path) -> None:
    """BOM, CRLF, comments, blank lines, blanks around lines and no last line end are all fine."""
    path = tmp_path / "p"
    path.write_bytes(b"\xef\xbb\xbf# mine\r\n\r\n  192.0.2.1:80 \r\n\t#x\n192.0.2.2:80")
    source = FileSource(path)
    source.check()
    assert labels(source) == ["http://192.0.2.1:80", "http://192.0.2.2:80"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "at least one"),
        (b"# only\n\n", "at least one"),
        (b"192.0.2.1:80\n\nuser:topsecret@h:0\n", "line 3"),
        (b"192.0.2.1:80\nuser:topsecret@" + b"h" * 5000 + b":1\n", "line 2"),
        (b"x" * 1_000_000, "4096"),
        (b"\xff\xfe1\x009\x00", "UTF-8"),
        (b"192.0.2.1:80\n\xffuser:topsecret@h:1\n", "line 2"),
        (b"192.0.2.1:80\x00\n", "line 1"),
    ],
)
def test_case_22_bad_content_is_refused_with_its_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """What is no list of proxies stops the crawl and names the line."""
    path = tmp_path / "p"
    path.write_bytes(content)
    assert said in refused(FileSource(path))


def test_case_22_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    """What is no file cannot be a list of proxies."""
    assert "nothing.txt" in refused(FileSource(tmp_path / "nothing.txt"))
    assert "a file" in refused(FileSource(tmp_path))
    assert "a file" in refused(FileSource("a\x00b"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_case_22_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    """Opening a pipe nobody writes to would hang; it is refused instead."""
    os.mkfifo(tmp_path / "pipe")
    assert "a file" in refused(FileSource(tmp_path / "pipe"))


def test_case_22_unreadable_file_is_refused(
    proxy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's reason stands in the error."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in refused(FileSource(proxy_file))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
@pytest.mark.parametrize(
    ("mode", "content", "warns"), [(0o644, A, True), (0o600, A, False), (0o644, B, False)]
)
def test_case_23_readable_passwords_are_warned_of_once(
    proxy_file: Path, caplog: pytest.LogCaptureFixture, mode: int, content: str, warns: bool
) -> None:
    """Only a file that holds credentials and that everybody can read is worth a warning."""
    proxy_file.write_text(content)
    proxy_file.chmod(mode)
    FileSource(proxy_file).check()
    assert ("chmod" in caplog.text) is warns


def test_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` means what it means in a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "p").write_text(B)
    source = proxy_source(None, "~/p")
    source.check()
    assert len(source.endpoints()) == 1


def test_file_is_read_again_when_it_changed(proxy_file: Path) -> None:
    """Unchanged it is left alone; changed, its proxies are taken over."""
    source = FileSource(proxy_file)
    source.check()
    assert 0 < source.refresh_interval <= 5
    assert refresh(source) is False
    touch(proxy_file, f"{B}\n192.0.2.3:80\n")
    assert refresh(source) is True
    assert labels(source) == [B, "http://192.0.2.3:80"]
    touch(proxy_file, f"192.0.2.3:80\n{B}\n")
    assert refresh(source) is False  # the same proxies in another order


@pytest.mark.parametrize("bad", ["", "user:topsecret@h:0\n", None])
def test_bad_change_keeps_the_old_list_and_is_reported_once(
    proxy_file: Path, caplog: pytest.LogCaptureFixture, bad: str | None
) -> None:
    """Emptied, spoilt or deleted while the crawl runs: one ERROR, and the old proxies stay."""
    source = FileSource(proxy_file)
    source.check()
    if bad is None:
        proxy_file.unlink()
    else:
        touch(proxy_file, bad)
    assert [refresh(source) for _ in range(3)] == [False] * 3
    assert len(source.endpoints()) == 2
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "topsecret" not in caplog.text
    touch(proxy_file, f"{A}\n")
    assert refresh(source) is True
    assert len(source.endpoints()) == 1


def test_file_that_is_being_written_is_left_for_the_next_look(
    proxy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes while it is read is not believed."""
    source = FileSource(proxy_file)
    source.check()
    looks = iter([(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)])
    touch(proxy_file, f"{B}\n")
    monkeypatch.setattr(source, "_look", lambda: next(looks))
    assert refresh(source) is False
    assert len(source.endpoints()) == 2
    assert refresh(source) is True
    assert len(source.endpoints()) == 1


# --- callables -----------------------------------------------------------------------------------


def test_plain_function_is_asked_at_start_and_again() -> None:
    """Its answer at start is there at once, a later one after a refresh."""
    answers = iter([[A], (B, A), {B, A}])
    source = CallableSource(lambda: next(answers), refresh=7.0)
    source.check()
    assert (labels(source), source.pending) == (["http://192.0.2.1:8000"], False)
    assert source.refresh_interval == 7.0
    assert refresh(source) is True
    assert labels(source) == [B, "http://192.0.2.1:8000"]
    assert refresh(source) is False


class AsyncObject:
    async def __call__(self) -> list[str]:
        return [A]


async def async_function() -> list[str]:
    await asyncio.sleep(0)
    return [A]


@pytest.mark.parametrize("function", [async_function, AsyncObject(), f"{__name__}.async_function"])
def test_async_function_is_pending_until_the_first_refresh(
    function: str | Callable[[], Any],
) -> None:
    """Nothing is known at start; `pending` says that the first refresh must be awaited."""
    source = CallableSource(function)
    source.check()
    assert source.pending
    assert refresh(source) is True
    assert not source.pending


def unpaired(arg: int) -> list[str]:
    return [A] * arg


@pytest.mark.parametrize(
    "path",
    ["os.nothing", "no_such_module.x", "os.path", unpaired, "not a path", f"{__name__}.unpaired"],
)
def test_cases_8_and_9_path_or_signature_that_does_not_fit_is_refused(path: Any) -> None:
    """What cannot be imported, called, or called without arguments, is refused at start."""
    with pytest.raises(ConfigurationError, match="takes no arguments"):
        CallableSource(path)


def test_case_8_error_while_importing_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that breaks when imported is refused with its own error."""
    (tmp_path / "broken_proxy_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
        CallableSource("broken_proxy_module.proxies")
    sys.modules.pop("broken_proxy_module", None)


def raising() -> list[str]:
    msg = "cannot reach http://u:topsecret@api.example/list?key=topsecret"
    raise OSError(msg)


def sleeper() -> Any:
    return async_function()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raising, "OSError: cannot reach"),
        (list, "at least one"),
        (lambda: None, "NoneType"),
        (lambda: A, "not str"),
        (A.encode, "not bytes"),
        (lambda: {A: 1}, "not dict"),
        (lambda: 5, "not int"),
        (lambda: [A, 5], "item 2"),
        (lambda: ["http://user:topsecret@h:0"], "item 1"),
        (lambda: (raising()[0] for _ in range(3)), "OSError"),
        (sleeper, "not coroutine"),
    ],
)
def test_plain_function_that_fails_at_start_is_refused(
    function: Callable[[], Any], said: str
) -> None:
    """Whatever it raises or wrongly returns stops the crawl, without its secrets."""
    assert said in refused(CallableSource(function))


def test_async_function_that_fails_at_first_raises_and_later_keeps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first failure is the caller's to act on; later ones are logged and change nothing."""
    answers: list[Any] = [OSError("http://u:topsecret@api"), [A], [], OSError("x"), [B]]

    async def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = CallableSource(ask)
    source.check()
    with pytest.raises(ConfigurationError, match="OSError") as caught:
        refresh(source)
    assert "topsecret" not in str(caught.value)
    assert [refresh(source) for _ in range(4)] == [True, False, False, True]
    assert [r.levelno for r in caplog.records] == [logging.ERROR, logging.ERROR]
    assert labels(source) == [B]


@pytest.mark.parametrize("is_async", [True, False])
def test_function_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    """After ASK_TIMEOUT the old proxies stay, and a hanging thread does not keep the process."""
    monkeypatch.setattr(reloading, "ASK_TIMEOUT", 0.01)
    release = threading.Event()
    calls = 0

    def plain() -> list[str]:
        nonlocal calls
        calls += 1
        if calls > 1:
            assert threading.current_thread().daemon
            release.wait(10)
        return [A]

    async def never() -> list[str]:
        if plain_source.endpoints():
            await asyncio.Event().wait()
        return [A]

    plain_source = CallableSource(plain)
    plain_source.check()
    source: ProxySource = plain_source
    if is_async:
        source = CallableSource(never)
        source._endpoints = tuple(plain_source.endpoints())
    assert refresh(source) is False
    release.set()
    assert re.search("TimeoutError", caplog.text)
    assert labels(source) == ["http://192.0.2.1:8000"]
