"""The one thread in which a store is used, so that nothing else ever waits for it."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_session_filter.stores.base import SessionStore

T = TypeVar("T")


class StoreThread:
    """Runs calls one after the other in a daemon thread.

    A daemon, because a process must be able to end while a store hangs; `now` is there for the last
    save of a process that ends without closing.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._busy = threading.Lock()
        self._thread = threading.Thread(
            target=self._work, name="scrapy-session-filter-store", daemon=True
        )
        self._thread.start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run ``call`` in the thread, after all that was submitted before."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def now(self, call: Callable[[], T], *, patience: float) -> T:
        """Run ``call`` in the calling thread, once the call in progress has ended.

        Raises `TimeoutError` if that takes longer than ``patience`` seconds.
        """
        if not self._busy.acquire(timeout=patience):
            msg = f"the store is busy for more than {patience} s"
            raise TimeoutError(msg)
        try:
            return call()
        finally:
            self._busy.release()

    def stop(self, *, patience: float) -> None:
        """Let the thread end after all that was submitted; wait up to ``patience`` seconds.

        With 0.0 it may be called from any thread, this one too.
        """
        self._calls.put(None)
        if patience:
            self._thread.join(patience)

    def let_go(self, store: SessionStore) -> None:
        """Close a store and end, after all that was submitted; may be called from any thread."""
        self.submit(store.close)
        self.stop(patience=0.0)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            with self._busy:
                try:
                    result = call()
                except Exception as error:  # noqa: BLE001 - handed to whoever waits for the result
                    future.set_exception(error)
                else:
                    future.set_result(result)
