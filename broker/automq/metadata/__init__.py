"""The cluster's facts: records, the image they fold into, the log they live in, and who may write it.

Not here: what to decide. `controller` looks at the image and computes records.
"""
