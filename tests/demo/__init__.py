"""A cluster under load that grows, shrinks and loses brokers before one's eyes: `make demo`."""
