"""A Kafka-compatible stateless broker whose log lives in object storage."""
