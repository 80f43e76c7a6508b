"""Finding out what a machine has, and writing its first manifest: `qtrade init`, `qtrade hosts add`."""

from flash.discovery.found import FoundDisk, FoundNic, FoundPartition, Machine

__all__ = ["FoundDisk", "FoundNic", "FoundPartition", "Machine"]
