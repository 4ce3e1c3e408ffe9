"""kill -9 under real clients: `make chaos`.

Three producers (librdkafka, aiokafka, kafka-python), each idempotent, and a consumer group of the same three, run in
processes of their own while the broker is killed at random moments. At the end the log is read back and judged:
every acknowledged record is there exactly once, offsets are dense, each producer's order is kept, and everything that a
consumer saw is still there, at the same offset.
"""
