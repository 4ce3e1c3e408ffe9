"""Groups (and later transactions): replicated state machines over Kafka's own internal topics."""
