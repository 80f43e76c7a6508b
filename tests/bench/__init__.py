"""Bakes of the lab image by qtrade and by other tools, measured side by side (`make bench-bake`)."""
