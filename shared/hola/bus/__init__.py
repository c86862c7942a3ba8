"""Jobs and token journals on Redis streams, or in memory with the same behaviour."""
