"""Pure: from a cluster and what was observed to Kubernetes manifests. Nothing here talks to anything."""
