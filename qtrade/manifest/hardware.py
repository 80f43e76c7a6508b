"""What the machines of a role have to be."""

from typing import Annotated

from pydantic import Field

from qtrade.manifest.base import Model


class HardwareProfile(Model):
    """The least that a machine of a role has; 0 and nothing ask for nothing."""

    threads: int = Field(default=0, ge=0, description="threads that the kernel runs on, of all cores")
    memory_gib: int = Field(
        default=0, ge=0, description="memory as it is sold; firmware and kernel may keep 6 % of it from the system"
    )
    link_mbit: int = Field(default=0, ge=0, description="speed of the fastest link that is up")
    cpu_flags: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], ...] = Field(
        default=(), description="flags of the processor as /proc/cpuinfo names them, such as avx512f and sha_ni"
    )
