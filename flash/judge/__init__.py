"""Judged health: samples recorded of hosts, and a pure function that says what they mean."""
