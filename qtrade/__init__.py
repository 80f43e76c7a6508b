"""qtrade: golden OS images for bare-metal Solana hosts, and their immutable redeploy."""

__version__ = "0.1.0"
