"""The shipped pool and policy in the simulator, briefly: nobody breaks them unnoticed."""

from __future__ import annotations

import random

import pytest

from benchmarks.arena import Pool, Result, simulate
from benchmarks.arena_oracle import Oracle
from benchmarks.contender import Product
from benchmarks.peers import PEERS, LeastRecent
from benchmarks.run_arena import main, measure
from benchmarks.worlds import RATE_LIMITED, Cfg, World, random_world, scenarios


def named(name: str, pages: int = 1500) -> Cfg:
    config = next(config for config in scenarios() if config.name.startswith(name))
    config.pages = pages
    return config


def ratio(config: Cfg, seed: int = 1) -> tuple[float, Result]:
    run = simulate(config, Product, seed)
    return run["U"] / simulate(config, Oracle, seed, clairvoyant=True)["U"], run


@pytest.mark.parametrize(
    ("name", "least"),
    [("S0", 0.8), ("S1a", 0.68), ("S2b", 0.6), ("S6", 0.5), ("S7b", 0.65), ("S9b", 0.6)],
)
def test_it_comes_close_to_the_oracle_and_loses_no_page(name: str, least: float) -> None:
    """Even over the first 1500 pages, when most is still to be learnt."""
    got, run = ratio(named(name))
    assert run["lost"] == 0
    assert got > least


def test_it_gets_all_pages_where_others_hammer_on_bans() -> None:
    """80 good proxies of 200, 20 requests per 10 s and not per minute, bans that requests prolong.

    In at most twice the time that the limits allow, with at most 1.25 requests a page; the peer
    loses pages.
    """
    config = RATE_LIMITED
    ours = simulate(config, Product, 1)
    assert ours["lost"] == 0
    assert ours["req"] <= 1.25 * config.pages
    assert ours["span"] <= 2 * 25.0
    assert simulate(config, PEERS["rotating"], 1)["lost"] > 0


def test_a_restart_keeps_what_was_learnt() -> None:
    """After half of the pages everything is saved, and loaded by a new process."""
    config = named("S10")
    whole = simulate(config, Product, 1)
    assert whole["lost"] == 0
    assert whole["succ"] > 0.6


def test_runs_can_be_repeated() -> None:
    """The same seed gives the same crawl, request by request."""
    config = named("S11", 500)
    first, second = (simulate(config, Product, 5) for _ in range(2))
    first.pop("us")
    second.pop("us")
    assert first == second


def test_the_reference_worlds_stay_the_same() -> None:
    """Figures of earlier releases stay comparable: two peers' requests in two worlds."""
    crawlee = simulate(named("S8", 400), PEERS["crawlee"], 3)
    mortal = simulate(random_world(7), PEERS["mortal"], 3)
    assert (crawlee["req"], mortal["req"], mortal["lost"]) == REFERENCE


REFERENCE = (717, 12906, 499)


def test_list_proxies_share_subnets_as_in_the_world() -> None:
    """An endpoint's /24 is the arena's subnet."""
    product = Product(Pool(World(Cfg(n=40, per_subnet=16), 1)), random.Random(1))
    assert [e.group for e in product.endpoints[:17]] == ["10.0.0.0/24"] * 16 + ["10.0.1.0/24"]


def test_the_table_has_every_policy_and_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints Markdown with one row per scenario and one per policy."""
    table = measure([named("S0", 200)], {"product": Product, "lru600": LeastRecent}, range(1))
    lines = list(table.markdown())
    assert lines[0] == "| scenario | product | lru600 |"
    assert lines[2].startswith("| S0 easy |")
    with pytest.raises(SystemExit, match="no nonsense"):
        main(["--policies", "nonsense"])
