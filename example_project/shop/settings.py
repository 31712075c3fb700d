"""Settings of the project: the two lines that turn the plugin on, and a world to crawl."""

GATEWAY_PORT = 24680  # fixed, so that remembered sessions find their gateway again

BOT_NAME = "shop"
SPIDER_MODULES = ["shop.spiders"]
ROBOTSTXT_OBEY = True
USER_AGENT = "shop (+https://shop.example)"

ADDONS = {"scrapy_session_filter.Addon": 500}
SESSION_FILTER_PROXY = f"http://user-session-{{session}}:secret@127.0.0.1:{GATEWAY_PORT}"

CONCURRENT_REQUESTS = 16
CONCURRENT_REQUESTS_PER_DOMAIN = 16
DOWNLOAD_DELAY = 0  # it is our own shop

EXTENSIONS = {"shop.loopback_shop.LoopbackShop": 0}
SHOP_WORLD = {
    "exits": 40,
    "seed": 4,
    "products": 320,
    "latency": 0.1,
    "port": GATEWAY_PORT,
    "tls": False,
    "keep": False,
}
SHOP_BANS = {"forbidden": 0.15, "captcha": 0.15, "captcha-gzip": 0.15, "captcha-redirect": 0.15}
SHOP_LIMIT = {"requests": 20, "window": 1.0, "ban": 1.0}

TELNETCONSOLE_ENABLED = False
