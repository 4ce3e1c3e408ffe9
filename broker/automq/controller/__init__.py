"""Decides: who may write the metadata log, and which records answer a command. Pure managers, a thin service.

Not here: what a record does to the image (`metadata.replay`), and how records become durable (`metadata.log`).
"""
