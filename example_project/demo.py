"""Crawls the shop without the plugin, with it, and with it once more; prints what came of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from loopback.suffixes import local_suffix_list

HERE = Path(__file__).parent
STATE = HERE / ".scrapy"
PAGES = 336  # 16 lists and 320 products

# the usual recipe: a random proxy for every request, and Scrapy's own retries for bans too
PLAIN = {
    "ADDONS": "{}",
    "DOWNLOADER_MIDDLEWARES": '{"shop.random_proxy.RandomProxyMiddleware": 650}',
    "RETRY_HTTP_CODES": "500,502,503,504,522,524,408,429,403",
}
CRAWLS: dict[str, dict[str, str]] = {
    "without the plugin": PLAIN,
    "with the plugin": {},
    "with it, second run": {},
}
NAME_WIDTH = max(map(len, CRAWLS))


def crawl(name: str, settings: dict[str, str], spider: str = "shop") -> dict[str, Any]:
    """Run ``scrapy crawl`` and return the site's report; its log stays in the state folder."""
    print(f"{name} ...", flush=True)
    report, log = STATE / f"{name}.json", STATE / f"{name}.log"
    command = [sys.executable, "-m", "scrapy", "crawl", spider]
    for key, value in {**settings, "SHOP_REPORT": str(report), "LOG_FILE": str(log)}.items():
        command += ["-s", f"{key}={value}"]
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env |= local_suffix_list(STATE / "suffix-list")
    code = subprocess.run(command, cwd=HERE, env=env, check=False).returncode
    if code or not report.exists():
        sys.exit(f"the crawl failed with exit code {code}; its log is {log}")
    return dict(json.loads(report.read_text(encoding="utf-8")))


def row(name: str, report: dict[str, Any]) -> str:
    """Return one line of the table.

    Pages are the crawl's items. Requests and blocked ones are the site's own count.
    """
    site, own = report["site"], report["crawl"]
    pages = own.get("item_scraped_count", 0)
    cells = (
        f"{pages} of {PAGES}",
        f"{site['visits'] / max(pages, 1):.2f}",
        str(site["blocked"]),
        f"{own['elapsed_time_seconds']:.1f}",
        str(own.get("session_filter/sessions/restored", "-")),
    )
    return line(name, *cells)


def line(name: str, *cells: str) -> str:
    """Return a line in columns."""
    widths = (14, 18, 10, 10, 22)
    return f"{name:<{NAME_WIDTH}}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )


def main() -> None:
    """Run the crawls and print the table."""
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    reports = {name: crawl(name, settings) for name, settings in CRAWLS.items()}
    print()
    print(line("", "pages", "requests a page", "blocked", "seconds", "sessions remembered"))
    for name, report in reports.items():
        print(row(name, report))


if __name__ == "__main__":
    main()
