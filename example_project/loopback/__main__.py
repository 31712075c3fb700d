"""``python -m loopback [JSON of World's arguments] [--obey]``: one line of addresses, then serve.

With ``--obey`` it takes commands (`loopback.process.COMMANDS`) on standard input, one line of JSON
each, and ends with the input; without, Ctrl-C or SIGTERM ends it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading

from loopback.process import addresses, obey
from loopback.world import World


def main(arguments: list[str]) -> None:
    """Run a world until told to stop."""
    listen = "--obey" in arguments
    options = [argument for argument in arguments if argument != "--obey"]
    # with commands, Ctrl-C is for the crawl that started us: we end when it closes our input
    signal.signal(signal.SIGINT, signal.SIG_IGN if listen else _leave)
    signal.signal(signal.SIGTERM, _leave)
    world = World(**json.loads(options[0]) if options else {})
    try:
        world.start()
    except OSError as error:
        sys.exit(f"the loopback world cannot start: {error}")
    try:
        print(json.dumps(addresses(world)), flush=True)
        if listen:
            obey(world, sys.stdin, sys.stdout)
        else:
            threading.Event().wait()
    finally:
        world.stop()


def _leave(*_: object) -> None:
    raise SystemExit


if __name__ == "__main__":
    main(sys.argv[1:])
