"""Kubernetes operator for AutoMQ clusters: deploys brokers, rolls them, heals them, and says what it did.

It shares no code with the broker; the two meet in the CRD, the broker's command line and settings, and its `/readyz`.
"""
