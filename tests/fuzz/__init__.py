"""Bytes that nobody would send, for the compiled functions of `automq.core`: nothing may crash, twins must agree.

Inputs are batches of records with a few things changed where it matters: lengths, counts, borders of numbers.
"""
