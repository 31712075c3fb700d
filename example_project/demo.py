"""Crawls the shop without the plugin, with it, and with it once more; prints what came of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STATE = HERE / ".scrapy"
PAGES = 336  # 16 lists and 320 products

# the usual recipe: a random proxy for every request, and Scrapy's own retries for bans too
PLAIN = {
    "SESSION_FILTER_ENABLED": "False",
    "DOWNLOADER_MIDDLEWARES": '{"shop.random_proxy.RandomProxyMiddleware": 650}',
    "RETRY_HTTP_CODES": "500,502,503,504,522,524,408,429,403",
}


def crawl(name: str, settings: dict[str, str]) -> dict[str, Any]:
    """Run ``scrapy crawl shop`` and return the site's report; its log stays in the state folder."""
    print(f"{name} ...", flush=True)
    report, log = STATE / f"{name}.json", STATE / f"{name}.log"
    command = [sys.executable, "-m", "scrapy", "crawl", "shop"]
    for key, value in {**settings, "SHOP_REPORT": str(report), "LOG_FILE": str(log)}.items():
        command += ["-s", f"{key}={value}"]
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    code = subprocess.run(command, cwd=HERE, env=env, check=False).returncode
    if code or not report.exists():
        sys.exit(f"the crawl failed with exit code {code}; its log is {log}")
    return dict(json.loads(report.read_text(encoding="utf-8")))


def row(name: str, report: dict[str, Any]) -> str:
    """Return one line of the table: figures of the site, and the crawl's own pages and seconds."""
    site, crawl_stats = report["site"], report["crawl"]
    pages = crawl_stats.get("item_scraped_count", 0)
    per_page = site["visits"] / pages if pages else float("inf")
    seconds = crawl_stats["elapsed_time_seconds"]
    return (
        f"{name:<22}{pages:>5} of {PAGES}{per_page:>16.2f}{site['blocked']:>10}"
        f"{site['direct']:>8}{seconds:>9.1f}"
    )


def main() -> None:
    """Run the crawls and print the table."""
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    reports = {
        "without the plugin": crawl("without the plugin", PLAIN),
        "with it": crawl("with it", {}),
        "with it, second run": crawl("with it, second run", {}),
    }
    print(f"\n{'':<22}{'pages':>12}{'requests/page':>16}{'blocked':>10}{'direct':>8}{'seconds':>9}")
    for name, report in reports.items():
        print(row(name, report))


if __name__ == "__main__":
    main()
