"""Real crawls of a site behind a load balancer that bans by address."""
