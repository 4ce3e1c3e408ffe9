"""Where reads are served from, newest first: log cache, block cache, read-ahead."""
