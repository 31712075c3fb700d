"""A small world on this machine: a site that bans, and proxies to reach it through.

It serves the demo, the tests and the benchmarks; nothing leaves the loopback interface. On Linux
each exit of the proxies is a source address of its own (``127.16.0.1``, ``127.16.0.2``, ...), so
the site tells visitors apart as a real one does. Elsewhere only ``127.0.0.1`` exists, and the
proxies, which live in the same process, tell the site which exit a connection stands for.

::

    with World(exits=40, seed=7) as world:           # in a thread of this process
        world.ban(world.exits[:10], "captcha-gzip")
        ...                                          # crawl through world.gateway or world.proxies
        assert not world.site.direct_visits

    with launch(exits=40) as world:                  # in a process of its own
        world.call("ban", exits=world.exits[:10], answer="forbidden")
        print(world.call("stats"))

``python -m loopback '{"exits": 40}'`` does the latter by hand and prints its addresses as one line
of JSON.
"""

from loopback.answers import Answer, named
from loopback.process import RemoteWorld, launch
from loopback.proxy import Fault, Passage, Proxy
from loopback.rules import Visit
from loopback.site import Site
from loopback.world import World

__all__ = [
    "Answer",
    "Fault",
    "Passage",
    "Proxy",
    "RemoteWorld",
    "Site",
    "Visit",
    "World",
    "launch",
    "named",
]
