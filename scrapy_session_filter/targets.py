"""The browsers that curl_cffi can speak like: its impersonation targets."""

from __future__ import annotations

from functools import cache


@cache
def known_targets() -> dict[str, str]:
    """Return curl_cffi's targets by name, each with the name of one fixed version of it.

    ``"chrome"`` is the newest Chrome that this curl_cffi knows; what it stands for changes with the
    package, but not within a session's life. Raises ImportError without curl_cffi.
    """
    from curl_cffi.requests import BrowserType  # noqa: PLC0415 - of an extra
    from curl_cffi.requests.impersonate import REAL_TARGET_MAP  # noqa: PLC0415

    fixed = {target.value: target.value for target in BrowserType}
    newest = {name: target for name, target in REAL_TARGET_MAP.items() if target in fixed}
    return {**newest, **fixed}
