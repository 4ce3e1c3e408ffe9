# A Kafka client that is not ours, for the pods of the end-to-end run.
ARG BASE=python:3.13-slim
FROM ${BASE}
RUN python3 -m pip install --no-cache-dir confluent-kafka==2.16.1
