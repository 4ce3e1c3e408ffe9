"""S3Stream: durable append-only streams over object storage. Knows nothing of Kafka.

A broker appends every stream's batches to one write-ahead log and acknowledges when that is durable; later it writes
them to objects and commits those to the controller. Read `model` for the nouns, `ports` for what the engine needs.
"""
