"""Operator and broker on a real Kubernetes, with a real S3 server and clients that are not ours: `make e2e`."""
