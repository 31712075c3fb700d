"""Writes the sample of the current schema: ``python -m tests.stores.samples.make``, per release."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from scrapy_session_filter.stores.base import Batch
from scrapy_session_filter.stores.sqlite import SQLiteStore
from scrapy_session_filter.stores.sqlite_schema import VERSION
from tests.stores.places import SITE, row


def main() -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory, "sessions.sqlite")
        store = SQLiteStore(file)
        store.open()
        store.apply(
            Batch(
                "sample",
                [
                    row(1),
                    row(2, rest=1.8e9, uses=40, blocks=3),
                    row(3, site="b.example", exit_="http://p:1"),
                    row(4),
                ],
                sites={SITE: {"pace": 1.5, "rests": {"http://p:1": 3}}},
                endpoints={"http://p:1": {"fails": 2}},
            )
        )
        store.apply(Batch("gone", removed=[(SITE, row(4)["id"])]))
        store.close()
        shutil.copyfile(file, Path(__file__).parent / f"v{VERSION}.sqlite")


if __name__ == "__main__":
    main()
