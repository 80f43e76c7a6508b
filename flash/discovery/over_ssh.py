"""A look at a Linux over SSH: nothing but a shell, sysfs and, where there is one, lsblk is used, and nothing is changed.

Identifiers come from where the agent reads them, so that what is written here is what it will find.
"""

import shlex
from pathlib import Path

from flash.discovery.found import FoundDisk, FoundNetwork, FoundNic, FoundPartition, Machine
from flash.doors.login import first_keys
from flash.host_keys import fingerprint
from qtrade.errors import HostError, TrustError
from qtrade.ssh import SshTarget

# One fact to a line, tabs between its fields. `vpd_pg80` is SCSI's page of the serial number, after a head of four bytes.
_LOOK = r"""
text() { for file in "$@"; do if [ -s "$file" ] && read -r line <"$file" && [ -n "$line" ]; then printf %s "$line"; return; fi; done; }
cd /sys/block || exit 1
for disk in *; do
  case $disk in loop*|ram*|zram*|sr*|fd*|dm-*|md*|nbd*) continue;; esac
  sectors=$(text "$disk/size")
  [ "${sectors:-0}" -gt 0 ] || continue
  serial=$(text "$disk/serial" "$disk/device/serial")
  [ -n "$serial" ] || serial=$(tail -c +5 "$disk/device/vpd_pg80" 2>/dev/null | tr -d '\000')
  wwid=$(text "$disk/wwid" "$disk/device/wwid")
  printf 'disk\t%s\t%s\t%s\t%s\t%s\t%s\n' "$disk" "$sectors" "$serial" "$wwid" "$(readlink -f "$disk")" "$(text "$disk/device/model")"
  for part in "$disk"/*/partition; do
    [ -e "$part" ] || continue
    part=${part%/partition}
    printf 'part\t%s\t%s\t%s\n' "$disk" "${part##*/}" "$(text "$part/size")"
  done
done
cd /sys/class/net && for nic in *; do
  [ -e "$nic/device" ] && printf 'nic\t%s\t%s\t%s\n' "$nic" "$(text "$nic/address")" "$(text "$nic/operstate")"
done
[ -d /sys/firmware/efi ] && printf 'firmware\tuefi\n' || printf 'firmware\tbios\n'
while read -r device target rest; do
  case $device in /dev/*) printf 'mount\t%s\t%s\n' "${device#/dev/}" "$target";; esac
done </proc/mounts
ip -o addr show scope global 2>/dev/null | while read -r _ nic _ address rest; do
  printf 'address\t%s\t%s\t%s\t%s\n' "$nic" "$(text "/sys/class/net/$nic/address")" "$address" "$rest"
done
{ ip route show default; ip -6 route show default; } 2>/dev/null | while read -r line; do printf 'route\t%s\n' "$line"; done
while read -r word server rest; do [ "$word" = nameserver ] && printf 'dns\t%s\n' "$server"; done 2>/dev/null </etc/resolv.conf
lsblk -P -o NAME,FSTYPE,LABEL,PARTLABEL,UUID 2>/dev/null | while read -r line; do printf 'lsblk\t%s\n' "$line"; done
true
"""


def show_host_key(target: SshTarget) -> tuple[str, str]:
    """Ask for the SSH host key, without logging in; return it and its fingerprint. Raises `HostError` when nothing answers."""
    keys = first_keys(target)
    # Ed25519 first: it is what our own hosts have.
    key = min(keys, key=lambda one: not one.startswith("ssh-ed25519"))
    return " ".join(key.split()[:2]), fingerprint(key)


def pin(target: SshTarget, key: str) -> None:
    """Let `target` take this host key and no other."""
    target.known_hosts.parent.mkdir(parents=True, exist_ok=True)
    target.known_hosts.write_text(f"{target.host} {key}\n")


def discover_over_ssh(target: SshTarget, key: str) -> Machine:
    """Log in and look. `key` is pinned in the target. Raises `HostError`, `TrustError`."""
    command = f"sh -c {shlex.quote(_LOOK)}"
    done = target.run(command if target.user == "root" else f"sudo -n {command}", timeout_s=60, check=False)
    machine = parse_look(done.stdout, key)
    if not machine.disks:
        raise HostError(
            f"{target.host} showed no disk (code {done.returncode})",
            details=done.stderr[-500:],
            resolution=f"log in as root, or let {target.user} use sudo without a password",
        )
    return machine


def require_key(expected: str, key: str, name: str) -> None:
    """Raise `TrustError` unless `expected` is the key's fingerprint."""
    if fingerprint(key) != expected.strip():
        raise TrustError(
            f"{name} shows another SSH host key than the expected one",
            details=f"expected: {expected}\nshown:    {fingerprint(key)}",
            resolution="read the fingerprint at the machine's console or in its provider's panel",
        )


def parse_look(text: str, key: str = "") -> Machine:
    """Return the machine that the lines of the look describe. What is no such line is passed over."""
    rows = [line.split("\t") for line in text.splitlines()]
    by_kind: dict[str, list[list[str]]] = {}
    for kind, *fields in rows:
        by_kind.setdefault(kind, []).append(fields)
    mounts = {fields[0]: fields[1] for fields in by_kind.get("mount", ()) if len(fields) > 1}
    filesystems = dict(_filesystem(fields[0]) for fields in by_kind.get("lsblk", ()) if fields)
    partitions: dict[str, list[FoundPartition]] = {}
    for disk, name, sectors in (fields for fields in by_kind.get("part", ()) if len(fields) == 3):
        partitions.setdefault(disk, []).append(_partition(name, int(sectors or 0) * 512, filesystems, mounts))
    disks = tuple(
        _disk(fields, partitions.get(fields[0], []), filesystems, mounts)
        for fields in by_kind.get("disk", ())
        if len(fields) == 6
    )
    nics = tuple(
        FoundNic(name, mac.lower(), state == "up")
        for name, mac, state in (fields for fields in by_kind.get("nic", ()) if len(fields) == 3)
    )
    firmware = by_kind.get("firmware", [[""]])[0][0]
    return Machine("ssh", disks, nics, key, firmware, network=_network(by_kind))


def _network(by_kind: dict[str, list[list[str]]]) -> FoundNetwork:
    """Return how the card of the default route is set up. Addresses with a lifetime are DHCP's or an advertisement's: left out."""
    routes = [fields[0].split() for fields in by_kind.get("route", ()) if fields]
    ways = [dict(zip(words[1::2], words[2::2], strict=False)) for words in routes]
    card = next((way["dev"] for way in ways if "dev" in way), "")
    rows = [fields for fields in by_kind.get("address", ()) if len(fields) == 4 and fields[0] == card]
    own = tuple(address for _, _, address, rest in rows if "dynamic" not in rest.split())
    if not rows or not own:
        return FoundNetwork(rows[0][1].lower() if rows else "")
    gateways = tuple(dict.fromkeys(way["via"] for way in ways if way.get("dev") == card and "via" in way))
    # A resolver of the machine's own is not there after a flash.
    dns = (fields[0] for fields in by_kind.get("dns", ()) if fields and not fields[0].startswith(("127.", "::1")))
    return FoundNetwork(rows[0][1].lower(), own, gateways, tuple(dict.fromkeys(dns)))


def _disk(
    fields: list[str], partitions: list[FoundPartition], filesystems: dict[str, dict[str, str]], mounts: dict[str, str]
) -> FoundDisk:
    name, sectors, serial, wwid, path, model = (field.strip() for field in fields)
    whole = _partition(name, 0, filesystems, mounts)
    if not partitions and (whole.filesystem or whole.mount):
        partitions = [whole]
    return FoundDisk(name, model, serial, wwid, int(sectors) * 512, _pci_path(path), tuple(partitions))


def _partition(name: str, size: int, filesystems: dict[str, dict[str, str]], mounts: dict[str, str]) -> FoundPartition:
    told = filesystems.get(name, {})
    label = told.get("LABEL") or told.get("PARTLABEL", "")
    return FoundPartition(name, size, told.get("FSTYPE", ""), label, told.get("UUID", ""), mounts.get(name, ""))


def _filesystem(line: str) -> tuple[str, dict[str, str]]:
    pairs = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
    return pairs.get("NAME", ""), pairs


def _pci_path(path: str) -> str:
    """Return the PCI function nearest to the disk, as `flash.agent.disks` does."""
    functions = [part for part in Path(path).parts if len(part) == 12 and part[4] == part[7] == ":" and part[10] == "."]
    return functions[-1] if functions else ""
