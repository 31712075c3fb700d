"""``scrapy sessions``: look at the remembered sessions, and tidy them up.

Imported by every ``scrapy`` call, so what it works with is imported when it is used.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError
from scrapy.settings import Settings

if TYPE_CHECKING:
    import argparse

ACTIONS = {
    "list": "list                 sites, with how many sessions each",
    "show": "show SITE | ID       the sessions of a site with what was learnt of it, or one session",
    "report": "report [SITE]        uses, successes and blocks, session by session",
    "retire": "retire ID [ID ...]   forget sessions for good",
    "purge": "purge SITE           forget all sessions of a site, and what was learnt of it",
    "export": "export FILE          write all sessions to FILE, one JSON object a line ('-': print)",
    "import": "import FILE          read sessions from such a file",
    "judge": "judge FILE | URL     say what a page would count as, and why (a URL is fetched bare)",
}


class SessionsCommand(ScrapyCommand):
    """The ``sessions`` command of Scrapy's command line."""

    requires_project = False
    requires_crawler_process = False
    default_settings: ClassVar[dict[str, Any]] = {"LOG_ENABLED": False}

    def syntax(self) -> str:
        """Return the arguments."""
        return "ACTION [arguments]"

    def short_desc(self) -> str:
        """Return one line for the list of commands."""
        return "Show, retire, export and import remembered proxy sessions"

    def long_desc(self) -> str:
        """Return the help text."""
        return "Actions on the store that SESSION_FILTER_STORE names:\n\n  " + "\n  ".join(
            ACTIONS.values()
        )

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add our options to Scrapy's."""
        super().add_options(parser)
        parser.add_argument(
            "--status", type=int, default=200, help="status of the page to judge (default: 200)"
        )

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Carry out an action; Scrapy's UsageError for one that does not exist."""
        from scrapy_session_filter import tending
        from scrapy_session_filter.exceptions import SessionFilterError

        if not args or args[0] not in ACTIONS:
            msg = "name one of: " + ", ".join(ACTIONS)
            raise UsageError(msg, print_help=False)
        try:
            tending.run(self.settings or Settings(), args[0], args[1:], status=opts.status)
            sys.stdout.flush()
        except BrokenPipeError:  # who reads has had enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        except (SessionFilterError, OSError) as error:
            print(f"scrapy sessions: {error}", file=sys.stderr)
            self.exitcode = 1
