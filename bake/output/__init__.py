"""Forms of a published image that other people's tools take: a whole disk (raw, qcow2) and a netboot set."""

from bake.output.disk import DiskLayout
from bake.output.outputs import Exported, Kind, OutputFile, export

__all__ = ["DiskLayout", "Exported", "Kind", "OutputFile", "export"]
