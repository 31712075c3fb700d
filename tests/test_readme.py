"""What the README says is what the package does: its tables match the code, its examples run."""

from __future__ import annotations

import ast
import inspect
import json
import re
import threading
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scrapy.exceptions import IgnoreRequest
from scrapy.settings import Settings

from scrapy_session_filter import Addon, exceptions, refusals, tracking
from scrapy_session_filter.commands import ACTIONS
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.settings import DEFAULT_POLICY, FIELDS, PREFIX, SessionFilterSettings
from scrapy_session_filter.verdict import Kind
from scrapy_session_filter.verdicts import expect
from scrapy_session_filter.verdicts.statuses import by_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loopback import World

    from tests.world.crawls import Crawl, Crawler

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "scrapy_session_filter"

_FENCE = re.compile(
    r"(?:<!-- (?P<kind>\w+): (?P<name>[\w-]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```",
    re.DOTALL,
)
_FENCES = [match for match in _FENCE.finditer(README) if match["language"] == "python"]
EXAMPLES = {match["name"]: match["code"] for match in _FENCES if match["kind"] == "run"}
SETTINGS = {match["name"]: match["code"] for match in _FENCES if match["kind"] == "settings"}


def section(title: str) -> str:
    """The text under a heading of the second level."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str, first: str) -> list[tuple[str, ...]]:
    """The rows of the table whose head begins with ``first``."""
    lines = text.partition(f"| {first} |")[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    assert rows, f"the README has no table {first!r}"
    return rows


def code_names(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


# -- tables ----------------------------------------------------------------------------------------


def test_settings_table() -> None:
    """The settings table is `FIELDS`: every name, default and meaning, in that order."""
    expected = [(f"`{name}`", f"`{default!r}`", meaning) for name, default, meaning in FIELDS]
    found = table(section("Settings"), "name")
    assert found == expected, "The table should be:\n" + "\n".join(
        f"| {' | '.join(row)} |" for row in expected
    )


def test_settings_named_elsewhere_exist() -> None:
    """No setting is spoken of that does not exist."""
    known = {info.name for info in FIELDS}
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", README)) <= known


def test_meta_table() -> None:
    """The table of meta keys has every public key, and no other."""
    public = {tracking.OPT_OUT, tracking.PIN, tracking.OPTIONAL, tracking.SITE, tracking.VERDICT}
    constants = [value for name, value in vars(tracking).items() if name.isupper()]
    assert public == {key for key in constants if isinstance(key, str) and key[0] != "_"}
    public.add(expect.META)
    assert {code_names(row[0])[0] for row in table(section("Request meta"), "key")} == public


def test_policies_table() -> None:
    """Every policy has its row, and the default is named."""
    text = section("Policies")
    assert [code_names(row[0])[0] for row in table(text, "name")] == list(POLICIES)
    assert f"The default is `{DEFAULT_POLICY}`." in text


def test_errors_table() -> None:
    """Every error that reaches an errback has its row, with the attributes that it has."""
    reach = {
        base.__name__
        for cls in vars(refusals).values()
        if isinstance(cls, type) and IgnoreRequest in cls.__bases__
        for base in cls.__bases__
        if base is not IgnoreRequest
    }
    rows = table(section("What your spider can say and hear"), "error")
    assert {code_names(name)[0] for name, _, _ in rows} == reach
    for name, _, attributes in rows:
        source = inspect.getsource(getattr(exceptions, code_names(name)[0]))
        assert re.findall(r"self\.(\w+) =", source) == code_names(attributes)


def test_command_table() -> None:
    """Every action of the command has its row."""
    rows = table(section("The command"), "action")
    assert [code_names(row[0])[0].split()[0] for row in rows] == list(ACTIONS)


def test_verdict_kinds() -> None:
    """Every kind of verdict is in the verdict table."""
    rows = table(section("Verdicts: who pays for an answer"), "answer")
    assert {row[1].partition(",")[0] for row in rows} == {kind.value for kind in Kind}


def test_verdict_statuses() -> None:
    """A bare status has the verdict of its row."""
    for answer, verdict, *_ in table(section("Verdicts: who pays for an answer"), "answer")[1:]:
        for first, last in re.findall(r"(\d{3})(?:-(\d{3}))?", answer.partition("; 503")[0]):
            for status in range(int(first), int(last or first) + 1):
                assert by_status(status).kind.value == verdict.partition(",")[0], status
    assert by_status(503, retry_after=True).kind is Kind.THROTTLED
    assert by_status(503).kind is by_status(599).kind is Kind.SITE_ERROR


def test_contents() -> None:
    """The list of contents leads to headings that exist."""
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in headings}
    linked = re.findall(r"\]\(#([^)]+)\)", README)
    assert linked
    assert set(linked) <= anchors
    assert not re.findall(r"\]\((?!#|https://)", README)  # a relative link is dead on PyPI


def documented_stats() -> list[str]:
    """Names of stats as patterns: ``<what may vary>`` is a star."""
    rows = table(section("Stats and logs"), "stat")
    return [re.sub(r"<[^>]+>", "*", code_names(row[0])[0]) for row in rows]


def counted_stats() -> Iterator[str]:
    """Names that the package counts or sets, as patterns: what is put in at run time is a star."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function, arguments = node.func, node.args
            if isinstance(function, ast.Name) and function.id == "partial":
                function, arguments = arguments[0], arguments[1:]
            name = getattr(function, "attr", None) or getattr(function, "id", None)
            if name in _COUNTING and arguments:
                yield from _patterns(arguments[0])


_COUNTING = ("count", "_count", "set_value", "inc_value")


def _patterns(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    patterns = [""]
    for part in node.values if isinstance(node, ast.JoinedStr) else ():
        choices = ["*"]
        if isinstance(part, ast.Constant):
            choices = [str(part.value)]
        elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.IfExp):
            choices = [str(ast.literal_eval(e)) for e in (part.value.body, part.value.orelse)]
        patterns = [start + choice for start in patterns for choice in choices]
    return patterns


def test_stats_table() -> None:
    """Every stat that the package counts is in the table, and the table has no other."""
    names = (name.removeprefix("session_filter/") for name in counted_stats())
    counted = {name for name in names if re.fullmatch(r"[a-z_]+(/[a-z_*]+)*", name)}
    assert len(counted) > 15
    counted |= {"sessions/live", "sessions/resting", "sessions/restored", "in_flight"}
    documented = documented_stats()
    missing = {name for name in counted if not _is_documented(name, documented)}
    assert not missing
    assert not {
        name for name in documented if not any(fnmatchcase(name, other) for other in counted)
    }


def _is_documented(name: str, documented: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) or pattern.startswith(name) for pattern in documented)


def test_the_benchmark_is_the_one_of_the_docs() -> None:
    """The layout `slow` has the same figures as in docs/benchmarks.md, which is generated."""
    docs = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    measured = docs.partition("\n**slow**: ")[2].partition("<!--")[0]
    told = README.partition('--layouts slow"`)')[2].partition("`docs/benchmarks.md`")[0]
    rows = [line for line in measured.splitlines() if re.match(r"\| [a-z]", line)]
    assert len(rows) == 5
    assert rows == [line for line in told.splitlines() if re.match(r"\| [a-z]", line)][1:]


# -- examples --------------------------------------------------------------------------------------


def test_every_example_is_named() -> None:
    """Each block of Python is marked, so that a test can run it."""
    assert all(match["kind"] in ("run", "settings") for match in _FENCES)
    assert len(EXAMPLES) + len(SETTINGS) == len(_FENCES)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_examples(name: str) -> None:
    """Each line of the settings examples can be used as it stands."""
    lines = ast.parse(SETTINGS[name]).body
    values: dict[str, list[Any]] = {}
    for line in lines:
        assert isinstance(line, ast.Assign)
        target = line.targets[0]
        assert isinstance(target, ast.Name)
        values.setdefault(target.id, []).append(ast.literal_eval(line.value))
    for turn in range(max(map(len, values.values()))):
        chosen = {key: found[min(turn, len(found) - 1)] for key, found in values.items()}
        proxies = chosen.get("SESSION_FILTER_PROXIES")
        if proxies is not None:
            chosen["SESSION_FILTER_PROXIES"] = [proxy for proxy in proxies if proxy is not ...]
        if name in ("expect", "rules"):
            chosen["SESSION_FILTER_PROXY"] = "http://192.0.2.1:80"
        settings = Settings(chosen)
        if name != "by-hand":
            Addon().update_settings(settings)
        source = SessionFilterSettings.from_settings(settings).make_source()
        assert source.endpoints()


def run(crawl: Crawler, world: World, name: str, **settings: Any) -> Crawl:
    """Crawl with an example of the README as the spider."""
    given = {"PROXY": world.gateway, "STORE": "memory:", **settings}
    result = crawl(EXAMPLES[name], {PREFIX + key: value for key, value in given.items()})
    assert result.exit_code == 0, result.log
    assert "log_count/ERROR" not in result.stats, result.log
    assert not world.site.direct_visits
    for stat in result.stats:
        if stat.startswith("session_filter/"):
            assert _is_documented(stat.removeprefix("session_filter/"), documented_stats()), stat
    return result


def with_module(crawl: Crawler, world: World, name: str, **settings: Any) -> Crawl:
    """Crawl lists with an example of the README as a module called ``example``."""
    (crawl.folder / "example.py").write_text(EXAMPLES[name], encoding="utf-8")
    pages = [world.url(f"/list/{number}") for number in range(1, 13)]
    given = {"PROXY": world.gateway, "STORE": "memory:", **settings}
    if "PROXIES" in given:
        del given["PROXY"]
    result = crawl(pages, {PREFIX + key: value for key, value in given.items()})
    assert result.exit_code == 0, result.log
    assert set(result.pages) == set(pages), result.log
    assert not world.site.direct_visits
    return result


EMPTY = {
    "status": 200,
    "body": "<html><p>Nothing found</p></html>",
    "headers": {"Content-Type": "text/html"},
}


def test_judge(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of `judge` prints what its comment says."""
    code = EXAMPLES["judge"]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == code.rpartition("  # ")[2].strip()


def test_report_block(world: World, crawl: Crawler) -> None:
    """An empty list that a callback reports is fetched again, on another session."""
    world.site.on("/list/1", EMPTY, times=2)
    result = run(crawl, world, "report-block")
    assert [item["products"] for item in result.items] == [20]
    assert result.stats["session_filter/blocked/unnamed/empty-list"] == 2
    assert len(world.site.visits) == 3


def test_spider_hook(world: World, crawl: Crawler) -> None:
    """An empty list that the hook recognises never reaches the callback."""
    world.site.on("/list/1", EMPTY, times=2)
    result = run(crawl, world, "spider-hook")
    assert [item["products"] for item in result.items] == [20]
    assert result.stats["session_filter/blocked/unnamed/spider"] == 2


def test_init(world: World, crawl: Crawler) -> None:
    """The example logs each session in before its pages."""
    world.site.on("/login", {"like": "ok", "body": SIGN_IN, "headers": HTML}, times=1)
    world.site.on("/entered", "ok")
    result = run(crawl, world, "init", POLICY="until-blocked")
    assert len(result.items) == 2
    assert [visit.path for visit in world.site.visits][:2] == ["/login", "/entered"]
    assert result.stats["session_filter/inits/ok"] == 1


HTML = {"Content-Type": "text/html"}
SIGN_IN = (
    """<form action="/entered" method="post"><input name="user"><input name="password"></form>"""
)


def test_errback(world: World, crawl: Crawler) -> None:
    """The errback gets the verdict of a page that was given up."""
    world.ban(world.exits, "captcha")
    result = run(crawl, world, "errback", RETRY_TIMES=2)
    assert result.items == [{"lost": world.url("/list/1"), "why": "captcha-page", "attempts": 3}]


def test_policy(world: World, crawl: Crawler) -> None:
    """The example policy picks."""
    result = with_module(crawl, world, "policy", POLICY="example.NewestPolicy")
    assert result.stats["session_filter/picks/newest"] > 0


def test_detector(world: World, crawl: Crawler) -> None:
    """The example detector finds blocks that the built-in ones cannot know."""
    world.site.on("/list/2", EMPTY, times=2)
    result = with_module(crawl, world, "detector", DETECTORS={"example.empty_list": 250})
    assert result.stats["session_filter/blocked/unnamed/empty-list"] == 2


def test_identity_class(world: World, crawl: Crawler) -> None:
    """Sessions of the example class are phones that read German."""
    with_module(crawl, world, "identity", IDENTITY="example.GermanPhones")
    for visit in world.site.visits:
        assert re.search("Mobile|iPhone|Android", visit.headers["user-agent"])
        assert visit.headers["accept-language"].startswith("de-DE,de")


def test_identity_function(world: World, crawl: Crawler) -> None:
    """Sessions of the example function are its Firefoxes."""
    with_module(crawl, world, "identity-function", IDENTITY="example.firefox")
    agents = {visit.headers["user-agent"] for visit in world.site.visits}
    assert 1 < len(agents) <= 3
    assert all("Firefox/14" in agent for agent in agents)


def test_proxies(world: World, crawl: Crawler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies that a provider's API lists are used, with their credentials."""
    addresses = [url.rpartition("@")[2].rpartition("/")[2] for url in world.proxies()]
    entries = [
        {"user": "me", "password": "p:@/%", "host": host, "port": int(port)}
        for host, port in (address.split(":") for address in addresses)
    ]

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(entries).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setenv("PROXY_API_URL", f"http://127.0.0.1:{server.server_port}/list")
            with_module(crawl, world, "proxies", PROXIES="example.proxies", POLICY="random")
        finally:
            server.shutdown()
            thread.join()
    assert len({visit.exit for visit in world.site.visits}) > 1


def test_expect(world: World, crawl: Crawler) -> None:
    """A product page without its price is a block; one with it is a page."""
    world.site.on("/product/2", EMPTY, times=2)
    pages = [world.url(f"/product/{number}") for number in (1, 2, 3)]
    settings = ast.literal_eval(SETTINGS["expect"].partition(" = ")[2])
    given = {"PROXY": world.gateway, "STORE": "memory:", "EXPECT": settings}
    result = crawl(pages, {PREFIX + key: value for key, value in given.items()})
    assert set(result.pages) == set(pages)
    assert result.stats["session_filter/blocked/unnamed/expected-missing"] == 2
    assert result.stats["session_filter/verdicts/BLOCKED"] == 2


def test_rules(make_world: Callable[..., World], crawl: Crawler) -> None:
    """Pages on which a rule of one's own holds are fetched again; a rule that is off finds none."""
    world = make_world(8)
    queue = {"like": "ok", "body": "<title>You are in the queue</title>"}
    world.site.on("/product/1", queue, times=1)
    world.site.on("/product/2", {"like": "ok", "body": "<p>Members  only</p>"}, times=1)
    world.site.on("/product/3", {"like": "ok", "body": "<title>Blocked</title>"}, times=1)
    pages = [world.url(f"/product/{number}") for number in (1, 2, 3)]
    settings = ast.literal_eval(SETTINGS["rules"].partition(" = ")[2])
    given = {"PROXY": world.gateway, "STORE": "memory:", "RULES": settings}
    result = crawl(pages, {PREFIX + key: value for key, value in given.items()})
    assert result.stats["session_filter/verdicts/THROTTLED"] == 1
    assert result.stats["session_filter/blocked/unnamed/login-wall"] == 1
    assert result.pages[pages[2]]["title"] == "Blocked"


def test_login(world: World, crawl: Crawler) -> None:
    """All pages after a log-in are fetched by the visitor that logged in."""
    result = run(crawl, world, "login")
    assert len(result.items) == 3
    assert len({item["session"] for item in result.items}) == 1
    assert len({visit.exit for visit in world.site.visits}) == 1
    assert [visit.method for visit in world.site.visits].count("POST") == 1
