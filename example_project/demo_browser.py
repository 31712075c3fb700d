"""Crawls pages that need JavaScript with browser sessions; prints what came of it."""

from __future__ import annotations

import shutil
import sys

from demo import STATE, crawl
from shop.chromium import MISSING, find_chromium
from shop.spiders.browser import APPS


def main() -> None:
    """Run the crawl twice: the second one begins with the sessions of the first."""
    path = find_chromium()
    if path is None:
        sys.exit(MISSING)
    print(f"with {path}")
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    for name in ("first run", "second run"):
        report = crawl(
            name, {"SHOP_LIMIT": '{"requests": 200, "window": 1.0, "ban": 1.0}'}, "browser"
        )
        site, own = report["site"], report["crawl"]
        print(
            f"  {own.get('item_scraped_count', 0)} of {2 * APPS} products,"
            f" half by browser and half by plain HTTP of the same visitors;"
            f" {own.get('session_filter/verdicts/BLOCKED', 0)} answers were blocks,"
            f" {own.get('session_filter/sessions/retired', 0)} sessions retired,"
            f" {own.get('session_filter/contexts/opened', 0)} browser contexts opened and"
            f" {own.get('session_filter/contexts/closed', 0)} closed,"
            f" {own.get('session_filter/sessions/restored', 0)} sessions remembered,"
            f" {site['direct']} requests from the machine's own address"
        )


if __name__ == "__main__":
    main()
