"""Finding out what a machine has, and writing its first manifest: `qtrade init`, `qtrade hosts add`."""

from flash.discovery.found import FoundDisk, FoundNetwork, FoundNic, FoundPartition, Machine

__all__ = ["FoundDisk", "FoundNetwork", "FoundNic", "FoundPartition", "Machine"]
