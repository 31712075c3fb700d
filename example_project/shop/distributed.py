"""Settings of a crawl by several processes: URLs shared through scrapy-redis, sessions through us.

``SCRAPY_PROJECT=distributed scrapy crawl shared_shop -s REDIS_URL=... -s SESSION_FILTER_STORE=...
-s SESSION_FILTER_PROXIES=...`` is one of them; `distributed_demo` starts all.
"""

BOT_NAME = "shop"
SPIDER_MODULES = ["shop.shared_spiders"]
ROBOTSTXT_OBEY = True
USER_AGENT = "shop (+https://shop.example)"

ADDONS = {"scrapy_session_filter.Addon": 500}
SCHEDULER = "scrapy_redis.scheduler.Scheduler"
SCHEDULER_PERSIST = True  # else the first process to end would empty the queue of the others
DUPEFILTER_CLASS = "scrapy_redis.dupefilter.RFPDupeFilter"

CONCURRENT_REQUESTS = 8  # of each process
FEED_EXPORT_ENCODING = "utf-8"
TELNETCONSOLE_ENABLED = False
