"""Spiders that take their URLs from Redis; apart from the others, which do without scrapy-redis."""
