"""dnsmasq for the length of a flash: DHCP (or proxyDHCP) and TFTP for one MAC, on networks where nobody else does it.

The card's own PXE gets iPXE over TFTP (BIOS undionly.kpxe, UEFI snponly.efi), UEFI's HTTP boot gets it over HTTP, and iPXE gets our
script. Option shapes: dnsmasq(8); each was seen to work with QEMU's cards and OVMF.
"""

import json
import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlsplit

from qtrade import process
from qtrade.errors import HostError, ToolError
from qtrade.manifest.host import Dhcp

_LOADERS = ("undionly.kpxe", "snponly.efi")
_START_S = 1.0
# Client architectures (RFC 4578, option 93): UEFI firmware for x86-64 sends 7, some 9.
_X86_UEFI, _X86_UEFI_TOO, _X86_UEFI_HTTP = 7, 9, 16
_FOLDER, _OWNER = "qtrade-dhcp-", "owner.json"


class Dnsmasq:
    """One running dnsmasq; `stop` ends it."""

    def __init__(self, dhcp: Dhcp, *, mac: str, url: str, loaders: Path) -> None:
        """Start it. `url` is the netboot server's; `loaders` is the folder with iPXE's programs. Raises `ToolError`, `HostError`."""
        missing = [name for name in _LOADERS if not (loaders / name).is_file()]
        if missing:
            raise ToolError(f"iPXE's {', '.join(missing)} are missing in {loaders}", resolution="run `qtrade tools`")
        end_stale()
        self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
        for name in _LOADERS:
            shutil.copyfile(loaders / name, self._folder / name)
        self.log = self._folder / "log"
        program = shutil.which("dnsmasq", path=process.CLEAN_PATH) or "dnsmasq"
        self._child = process.spawn(
            [program, *render_arguments(dhcp, mac=mac, url=url, folder=self._folder)], log=self.log, dies_with_us=True
        )
        owner = {"owner": os.getpid(), "began": _began(os.getpid()), "child": self._child.pid}
        (self._folder / _OWNER).write_text(json.dumps(owner))
        time.sleep(_START_S)
        if self._child.poll() is not None:
            said = self.log.read_text()[-500:]
            self.stop()
            raise HostError(
                f"dnsmasq did not start on {dhcp.interface}",
                details=said,
                resolution="correct netboot.dhcp, or end the other DHCP server of this machine",
            )

    def stop(self) -> None:
        """Answer nobody any more; nothing happens when it has ended."""
        process.kill_group(self._child)
        shutil.rmtree(self._folder, ignore_errors=True)


def end_stale() -> None:
    """End every dnsmasq of a controller that is gone: it would go on to lead its host into an installer that nobody serves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        try:
            owner = json.loads((folder / _OWNER).read_text())
            if _began(owner["owner"]) == owner["began"]:
                continue
            # Its number may be another program's by now.
            if str(folder) in Path(f"/proc/{owner['child']}/cmdline").read_text(errors="replace"):
                os.kill(owner["child"], signal.SIGKILL)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError):
            continue
        if (folder / _OWNER).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _began(pid: int) -> str:
    """Return when a process began, in ticks since the boot; empty when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def render_arguments(dhcp: Dhcp, *, mac: str, url: str, folder: Path) -> list[str]:
    """Return dnsmasq's options: no DNS, this MAC only, the leases forgotten in the end.

    It stays root: a change of user or group would also end its dying with us (prctl(2), PR_SET_PDEATHSIG).
    """
    script = f"{url}/boot.ipxe"
    common = [
        "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-dhcp", "--log-facility=-", "--user=root", "--group=root",
        f"--interface={dhcp.interface}", "--bind-interfaces", "--no-ping", f"--dhcp-leasefile={folder}/leases",
        f"--dhcp-host={mac}", "--dhcp-ignore=tag:!known",
        "--enable-tftp", f"--tftp-root={folder}", "--tftp-no-blocksize",
        "--dhcp-userclass=set:ipxe,iPXE",
        f"--dhcp-match=set:efi,option:client-arch,{_X86_UEFI}",
        f"--dhcp-match=set:efi,option:client-arch,{_X86_UEFI_TOO}",
        f"--dhcp-match=set:http,option:client-arch,{_X86_UEFI_HTTP}",
    ]  # fmt: skip
    if dhcp.range is None:
        return [
            *common,
            # iPXE takes a boot file of a proxy only if a next server comes with it; for a URL it does not use that.
            f"--dhcp-boot=tag:ipxe,{script},,{_next_server(url, dhcp)}",
            f"--dhcp-range={dhcp.subnet},proxy",
            "--pxe-service=tag:!ipxe,x86PC,qtrade,undionly.kpxe",
            "--pxe-service=tag:!ipxe,X86-64_EFI,qtrade,snponly.efi",
            "--pxe-service=tag:!ipxe,BC_EFI,qtrade,snponly.efi",
        ]
    return [
        *common,
        f"--dhcp-boot=tag:ipxe,{script}",
        f"--dhcp-range={dhcp.range[0]},{dhcp.range[1]},10m",
        "--dhcp-authoritative",
        "--dhcp-option-force=tag:http,60,HTTPClient",
        f"--dhcp-boot=tag:http,tag:!ipxe,{url}/ipxe.efi",
        "--dhcp-boot=tag:efi,tag:!ipxe,snponly.efi",
        "--dhcp-boot=tag:!efi,tag:!http,tag:!ipxe,undionly.kpxe",
    ]


def _next_server(url: str, dhcp: Dhcp) -> str:
    """Return the address of the netboot server, or any of the network where the URL has a name."""
    host = urlsplit(url).hostname or ""
    try:
        return str(IPv4Address(host))
    except ValueError:
        return str(dhcp.subnet)
