"""iPXE scripts: pure text, made from what a flash knows."""

from dataclasses import dataclass
from pathlib import Path

from qtrade.errors import BadInput

# A MAC without a pending flash, and one that has booted its installer already, goes on to its next boot device.
EXIT_SCRIPT = "#!ipxe\nexit\n"
_MAC_DIGITS = 12


@dataclass(frozen=True)
class BootPlan:
    """The installer that a host boots. `arguments` are kernel arguments beyond qtrade's own.

    `mac` is of the card that it is to use, None for any; with `asks_by_mac` whoever asks for that MAC gets the script.
    """

    mac: str | None
    kernel: Path
    initrd: Path
    root_id: str
    arguments: str = ""
    asks_by_mac: bool = True

    def command_line(self, job_url: str) -> str:
        """Return the installer's kernel command line; it finds its job at `job_url`."""
        words = [*self.arguments.split(), f"qtrade.job={job_url}", f"qtrade.root={self.root_id}"]
        return " ".join([*words, f"qtrade.mac={normalise_mac(self.mac)}"] if self.mac else words)


def render_chain_script(base_url: str) -> str:
    """Return the first script, the same for every host: it asks for the script of the NIC that booted."""
    return (
        "#!ipxe\n"
        # An iPXE that UEFI's own HTTP boot has loaded has no address of its own yet.
        "isset ${netX/mac} || dhcp || exit\n"
        f"chain --replace {base_url}/boot/${{netX/mac}}.ipxe || exit\n"
    )


def render_own_chain_script(job_url: str) -> str:
    """Return the first script of one flash, for hosts that were given its path: it asks for the installer's script, which is there once."""
    return f"#!ipxe\nisset ${{netX/ip}} || dhcp || exit\nchain --replace {job_url}/installer.ipxe || exit\n"


def render_ipxe_script(plan: BootPlan, job_url: str) -> str:
    """Return the script that boots the installer. `job_url` is the unguessable folder of this flash's files.

    Raises `BadInput` when a value would break the kernel's command line or the script.
    """
    # UEFI kernels find the initrd by the name that `initrd --name` gives it.
    arguments = [*plan.command_line(f"{job_url}/job").split(), "initrd=initrd"]
    for word in arguments:
        if not word.isascii() or not word.isprintable() or set(word) & set("${}&|"):
            raise BadInput(f"kernel argument {word!r} has no place in a boot script")
    return (
        "#!ipxe\n"
        f"kernel {job_url}/kernel {' '.join(arguments)} || exit\n"
        f"initrd --name initrd {job_url}/initrd || exit\n"
        "boot || exit\n"
    )


def normalise_mac(mac: str) -> str:
    """Return a MAC in small letters with colons. Raises `BadInput` when it is none."""
    digits = mac.lower().replace(":", "").replace("-", "")
    if len(digits) != _MAC_DIGITS or set(digits) - set("0123456789abcdef"):
        raise BadInput(f"{mac!r} is not a MAC address")
    return ":".join(digits[at : at + 2] for at in range(0, _MAC_DIGITS, 2))
