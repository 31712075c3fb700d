"""Settings of the project: the two lines that turn the plugin on, and a world to crawl."""

import os

# the same in every crawl, so that remembered sessions find their gateway again; another one if
# something else has this port
gateway_port = int(os.environ.get("SHOP_GATEWAY_PORT", "24680"))

BOT_NAME = "shop"
SPIDER_MODULES = ["shop.spiders"]
ROBOTSTXT_OBEY = True
USER_AGENT = "shop (+https://shop.example)"

ADDONS = {"scrapy_session_filter.Addon": 500}
SESSION_FILTER_PROXY = f"http://user-session-{{session}}:secret@127.0.0.1:{gateway_port}"

CONCURRENT_REQUESTS_PER_DOMAIN = 16  # it is our own shop
FEED_EXPORT_ENCODING = "utf-8"

EXTENSIONS = {"shop.loopback_shop.LoopbackShop": 0}
SHOP_WORLD = {
    "exits": 40,
    "seed": 4,
    "products": 320,
    "latency": 0.1,
    "port": gateway_port,
    "tls": False,
    "keep": False,
}
SHOP_BANS = {"forbidden": 0.15, "captcha": 0.15, "captcha-gzip": 0.15, "captcha-redirect": 0.15}
SHOP_LIMIT = {"requests": 40, "window": 10.0, "ban": 10.0}  # seconds, as load balancers often count

TELNETCONSOLE_ENABLED = False
