"""Tools that people use with Kafka, each as a job against a broker: `make compat`."""
