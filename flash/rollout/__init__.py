"""Rollouts: a version goes through an environment in waves, each judged before the next, and comes back where it is bad."""
