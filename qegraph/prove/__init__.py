"""Rules proved by sampling."""
