"""A Scrapy project that crawls a shop which bans; site and proxies run on this machine."""
