"""The only package that touches time, randomness, tasks, threads and the process environment.

Everything else receives these as ports, so that a whole broker runs on a seeded virtual-time loop.
"""
