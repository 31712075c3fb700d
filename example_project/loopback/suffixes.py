"""Keeps Scrapy's cookie middleware from fetching the Public Suffix List: nothing leaves the machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import requests
from tldextract import TLDExtract

if TYPE_CHECKING:
    from pathlib import Path


def local_suffix_list(folder: Path) -> dict[str, str]:
    """Put the list that comes with tldextract into a cache folder; return the environment for it.

    The list is asked for through a proxy that does not exist, so tldextract falls back to its own
    copy and keeps that.
    """
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"https": "http://127.0.0.1:9"}
    logger = logging.getLogger("tldextract")
    before = logger.disabled
    logger.disabled = True  # it would complain
    try:
        TLDExtract(cache_dir=str(folder))("shop.example", session=session)
    finally:
        logger.disabled = before
    return {"TLDEXTRACT_CACHE": str(folder)}
