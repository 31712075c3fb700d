"""Crawls with a real Chromium."""
