# TEMPORARY STUB
from urllib.parse import urlparse

from scrapy.utils.misc import load_object

from scrapy_session_filter.identities import identity_source
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.pool import Limits
from scrapy_session_filter.proxies import proxy_source
from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.verdicts import Judge

D = dict(
    PROXY=None,
    PROXIES=None,
    POLICY="classic",
    MAX_SESSIONS=0,
    MAX_AGE=86400,
    MAX_IDLE=0,
    MAX_USES=0,
    MAX_ERRORS=1,
    CONCURRENCY=0,
    DELAY=0.0,
    MAX_SITES=1000,
    RETRY_TIMES=10,
    GIVE_UP="drop",
    WAIT_TIMEOUT=2.0,
    FIRST_TIMEOUT=30.0,
    EXHAUSTED_TIMEOUT=900.0,
    STORE="sqlite:",
    SAVE_INTERVAL=2.0,
    IDENTITY="fake-useragent",
    DRY_RUN=False,
    ENABLED=True,
    SCHEDULER_PRIORITY_QUEUE="scrapy.pqueues.DownloaderAwarePriorityQueue",
)


class SessionFilterSettings:
    @classmethod
    def from_settings(cls, s):
        o = cls()
        o._s = s
        for k, v in D.items():
            x = s.get("SESSION_FILTER_" + k, v)
            if isinstance(v, bool):
                x = s.getbool("SESSION_FILTER_" + k, v)
            elif isinstance(v, float):
                x = float(x)
            elif isinstance(v, int):
                x = int(x)
            setattr(o, k.lower(), x)
        o.policy = load_object(POLICIES.get(o.policy, o.policy))
        return o

    def make_judge(self):
        return Judge()

    def make_source(self):
        src = proxy_source(self.proxy, self.proxies)
        src.check()
        return src

    def make_store(self):
        return store_from_uri(
            self.store, default_path=(self._s.get("JOBDIR") or ".scrapy") + "/sf.sqlite"
        )

    def make_identities(self):
        return identity_source(self.identity)

    @property
    def limits(self):
        return Limits(
            self.max_sessions,
            self.max_age,
            self.max_idle,
            self.max_uses,
            self.concurrency,
            self.delay,
        )

    def site_key(self, request):
        return urlparse(request.url).hostname
