"""Proxy sources that change while a crawl runs: a file, and a function of the user's."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import stat
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.loading import accepts, load
from scrapy_session_filter.proxies.endpoint import mask
from scrapy_session_filter.proxies.parsing import MAX_LENGTH, Wire
from scrapy_session_filter.proxies.sources import PROXIES, ProxySource, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scrapy_session_filter.proxies.endpoint import ProxyEndpoint

_T = TypeVar("_T")

logger = logging.getLogger("scrapy_session_filter")

FILE_INTERVAL = 5.0
"""Seconds between two looks at a proxy file, at most."""

ASK_TIMEOUT = 60.0
"""Seconds that a callable may take to answer."""


class FileSource(ProxySource):
    """A text file in UTF-8: a proxy a line, ``#`` begins a comment line, blank lines mean nothing.

    Read again when its time, size or inode has changed.
    """

    def __init__(
        self, path: str | os.PathLike[str], wire: Wire | None = None, *, refresh: float = 300.0
    ) -> None:
        super().__init__(PROXIES, wire)
        self.path = Path(path).expanduser()
        self.refresh_interval = min(FILE_INTERVAL, refresh)
        self._seen: tuple[int, int, int] | None = None

    def check(self) -> None:
        """Read it; warn where everybody on this machine can read its passwords."""
        self._endpoints = self._load()
        self._seen = self._look()
        everybody = os.name == "posix" and self.path.stat().st_mode & stat.S_IROTH
        if everybody and any(endpoint.username for endpoint in self._endpoints):
            logger.warning(
                "%s: %s holds credentials and everybody can read it (chmod 600)",
                self.setting,
                self.path,
            )

    async def refresh(self) -> bool:
        """Read the file again if it has changed; a bad one is reported once per change."""
        look = await _in_thread(self._look)
        if look == self._seen:
            return False
        try:
            endpoints = await _in_thread(self._load)
        except ConfigurationError as error:
            self._seen = look
            return self._keep(error)
        if await _in_thread(self._look) != look:
            return False  # it is being written: see next time
        self._seen = look
        return self._replace(endpoints)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _load(self) -> tuple[ProxyEndpoint, ...]:
        try:
            if not self.path.is_file():
                expected = "the path of a file (or a list of URLs, or a callable's import path)"
                raise ConfigurationError(self.setting, str(self.path), expected)
            with self.path.open("rb") as file:
                return self._parse(self._lines(file))
        except (OSError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            expected = f"a file that can be read ({reason})"
            raise ConfigurationError(self.setting, str(self.path), expected) from None

    def _lines(self, file: BinaryIO) -> Iterator[tuple[str, str]]:
        number = 0
        while line := file.readline(MAX_LENGTH + 2):
            number += 1
            where = f"{self.path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                raise ConfigurationError(self.setting, "***", f"UTF-8 ({where})") from None
            if len(line) > MAX_LENGTH and not line.endswith(b"\n"):
                expected = f"lines of at most {MAX_LENGTH} bytes ({where})"
                raise ConfigurationError(self.setting, "***", expected)
            if text and not text.startswith("#"):
                yield where, text


class CallableSource(ProxySource):
    """A function of yours without arguments, or ``async def``, that returns a list of proxies.

    A plain one is asked at start, an async one by the first `refresh`; both again every ``refresh``
    seconds, the plain one in a thread. It has `ASK_TIMEOUT` seconds to answer.
    """

    def __init__(
        self,
        function: str | Callable[[], Any],
        wire: Wire | None = None,
        *,
        refresh: float = 300.0,
    ) -> None:
        super().__init__(PROXIES, wire)
        self.refresh_interval = refresh
        expected = "the import path of a callable that takes no arguments"
        if isinstance(function, str):
            self.name, function = function, load(function, setting=PROXIES, expected=expected)
        else:
            self.name = getattr(function, "__qualname__", type(function).__name__)
        if not callable(function) or not accepts(function):
            raise ConfigurationError(PROXIES, self.name, expected)
        self._function: Callable[[], Any] = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object's own may be async
        )

    def check(self) -> None:
        """Ask a plain function; an async one is only asked by the first `refresh`."""
        if self._is_async:
            return
        try:
            self._endpoints = self._read(self._function())
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises
            raise self._failed(error) from None

    async def refresh(self) -> bool:
        """Ask the function again."""
        try:
            answer = self._function() if self._is_async else _in_thread(self._function)
            proxies = await asyncio.wait_for(answer, ASK_TIMEOUT)
            endpoints = await _in_thread(lambda: self._read(proxies))
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises
            failed = error if isinstance(error, ConfigurationError) else self._failed(error)
            if self.pending:
                raise failed from None
            return self._keep(failed)
        return self._replace(endpoints)

    def _read(self, proxies: object) -> tuple[ProxyEndpoint, ...]:
        if inspect.iscoroutine(proxies):
            proxies.close()  # else Python warns that it was never awaited
        if not isinstance(proxies, Iterable) or isinstance(proxies, (str, bytes, Mapping)):
            expected = f"it to return a list of proxy URLs, not {type(proxies).__name__}"
            raise ConfigurationError(self.setting, self.name, expected)
        return self._parse(numbered(proxies))

    def _failed(self, error: Exception) -> ConfigurationError:
        reason = re.sub(r"\?\S+", "?***", mask(error))  # its own URLs may carry a key
        expected = f"it to return a list of proxy URLs, but {type(error).__name__}: {reason}"
        return ConfigurationError(self.setting, self.name, expected)


async def _in_thread(function: Callable[[], _T]) -> _T:
    """Run what may block, in a daemon thread: one that hangs must not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def deliver(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return  # nobody waits any more
        if error is None:
            future.set_result(cast("_T", result))
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except Exception as raised:  # noqa: BLE001 - handed to who waits
            error = raised
        with suppress(RuntimeError):  # the loop is closed: the crawl is over
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=run, name="session-filter-proxies", daemon=True).start()
    return await future
