"""Finds a Chromium on this machine, and says how it is run against a site on the loopback interface."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no Chromium was found: install one (Debian: apt install chromium; anywhere: playwright install"
    " chromium)"
)


def find_chromium() -> str | None:
    """Return the path of a Chromium: the system's, else Playwright's own; None without any."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    cache = Path.home() / ".cache" / "ms-playwright"
    found = sorted(cache.glob("chromium-*/chrome-linux*/chrome"))
    return str(found[-1]) if found else None


def launch_options(path: str) -> dict[str, Any]:
    """Return PLAYWRIGHT_LAUNCH_OPTIONS for crawls of this machine, by this machine."""
    return {
        "executable_path": path,
        "args": [
            "--no-sandbox",  # Chromium refuses to run as root otherwise
            "--disable-gpu",
            # Nothing but the pages goes over the wire.
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-quic",
            "--disable-sync",
            "--no-first-run",
            "--proxy-bypass-list=<-loopback>",  # proxies are for loopback addresses, too
        ],
    }
