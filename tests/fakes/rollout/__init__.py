"""A simulated fleet behind fake provider APIs, and what lets a rollout work on it."""
