"""What the files of an image mean."""

import struct

import pytest

from bake.inventory.facts import (
    read_accounts,
    read_firewall,
    read_privileged,
    read_sysctls,
    read_units,
    render_capability,
)
from bake.inventory.ports import declared_ports
from tests.fakes.inventories import file, folder, link, tree

pytestmark = pytest.mark.unit

ETC, LIB = "etc/systemd/system", "usr/lib/systemd/system"


def test_units_are_files_drop_ins_links_and_masks() -> None:
    units = read_units(
        tree(
            {
                f"{LIB}/a.service": "vendor",
                f"{LIB}/b.service": "vendor",
                f"{LIB}/c.timer": "vendor",
                f"{LIB}/sockets.target.wants/b.socket": link("../b.socket"),
            },
            {
                f"{ETC}/a.service": "administrator",
                f"{ETC}/b.service.d": folder(),
                f"{ETC}/b.service.d/10-x.conf": "drop-in",
                f"{ETC}/c.timer": link("/dev/null"),
                f"{ETC}/multi-user.target.wants/a.service": link(f"/{ETC}/a.service"),
            },
        )
    )
    assert sorted(units.files) == ["a.service", "b.service"]
    assert file("administrator").content in units.files["a.service"]
    assert file("vendor").content not in units.files["a.service"]
    assert units.files["b.service"].count("\n") == 1
    assert units.enabled == {"multi-user.target.wants/a.service", "sockets.target.wants/b.socket"}
    assert units.masked == {"c.timer"}


def test_sysctls_follow_the_order_of_names_and_the_administrators_folder_wins() -> None:
    stack = tree(
        {
            "usr/lib/sysctl.d/10-a.conf": "kernel.panic = 1\nvm/swappiness=60\n",
            "usr/lib/sysctl.d/50-b.conf": "kernel.panic=2\n# vm.x=1\n;vm.y=1\n",
            "etc/sysctl.d/10-a.conf": "-kernel.panic=3\nnet.ipv4.tcp_rmem = 1   2\t3\n",
            "etc/sysctl.d/README.sysctl": "kernel.no=1",
        }
    )
    assert read_sysctls(stack) == {"kernel.panic": "2", "net.ipv4.tcp_rmem": "1 2 3"}


def test_the_firewall_is_rules_in_order_and_its_policies() -> None:
    stack = tree(
        {
            "etc/ufw/user.rules": "*filter\n# note\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n-A x  -j ACCEPT\nCOMMIT\n",
            "etc/ufw/before.init": "#!/bin/sh\nset -e\n",
            "etc/ufw/ufw.conf": "ENABLED=yes\nLOGLEVEL=low\n",
            "etc/default/ufw": 'DEFAULT_INPUT_POLICY="DROP"\nIPT_MODULES="x"\n',
            "etc/ufw/applications.d/a": "[a]",
        }
    )
    assert read_firewall(stack) == {
        "etc/default/ufw": ('DEFAULT_INPUT_POLICY="DROP"',),
        "etc/ufw/before.init": ("set -e",),
        "etc/ufw/ufw.conf": ("ENABLED=yes",),
        "etc/ufw/user.rules": ("*filter", "-A x -j ACCEPT", "COMMIT"),
    }


def test_accounts_are_names_and_the_rest_of_their_line() -> None:
    stack = tree({"etc/passwd": "root:x:0:0::/root:/bin/bash\nsol:x:420:420:::\n"})
    assert read_accounts(stack, "etc/passwd") == {"root": "x:0:0::/root:/bin/bash", "sol": "x:420:420:::"}
    assert read_accounts(stack, "etc/group") == {}


def capability(permitted: int, inherited: int = 0, *, effective: bool = True, revision: int = 2) -> str:
    words = (permitted & 0xFFFFFFFF, inherited & 0xFFFFFFFF, permitted >> 32, inherited >> 32)
    return struct.pack("<IIIII", revision << 24 | effective, *words).hex()


def test_privileged_files_are_setuid_setgid_or_have_capabilities() -> None:
    stack = tree(
        {
            "usr/bin/su": file("su", mode=0o4755),
            "usr/bin/chage": file("chage", mode=0o2755, gid=42),
            "usr/bin/ping": file("ping", mode=0o755, capability=capability(1 << 13)),
            "usr/bin/plain": file("plain", mode=0o755),
            "srv": folder().model_copy(update={"mode": 0o2755}),
        }
    )
    assert read_privileged(stack) == {
        "usr/bin/chage": "0:42 2755 setgid",
        "usr/bin/ping": "0:0 0755 cap_net_raw=ep",
        "usr/bin/su": "0:0 4755 setuid",
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (capability(1 << 12 | 1 << 13), "cap_net_admin,cap_net_raw=ep"),
        (capability(1 << 39, 1 << 39), "cap_bpf=eip"),
        (capability(1, effective=False), "cap_chown=p"),
        (capability(1 << 63), "cap_63=ep"),
        (capability(1 << 13, revision=3) + "00000000", "cap_net_raw=ep"),
        ("0102", "capability=0102"),
        (capability(1, revision=7), f"capability={capability(1, revision=7)}"),
    ],
)
def test_capabilities_read_as_getcap_writes_them(value: str, text: str) -> None:
    assert render_capability(value) == text


def test_ports_are_what_files_declare() -> None:
    stack = tree(
        {
            f"{LIB}/ssh.socket": "[Socket]\nListenStream=22\nListenStream=/run/x\nListenDatagram=[::]:514\n",
            "etc/chrony/chrony.conf": "port 0\ncmdport 0\n",
            "etc/postgresql/17/main/postgresql.conf": "port = 5432 # default\n",
            "etc/otelcol-contrib/config.yaml": "      endpoint: 127.0.0.1:14317\n                port: 18888\n",
            "etc/yellowstone/config.json": '{"grpc": {"address": "0.0.0.0:10000"}}',
            "usr/lib/qtrade/agave/validator.sh": "set -- --rpc-port 8899 --dynamic-port-range 8000-8030\n",
            "etc/ufw/user.rules": "### tuple ### allow udp 8000:8030 0.0.0.0/0 any 0.0.0.0/0 in\n"
            "### tuple ### reject any any 10.0.0.0/8 any 0.0.0.0/0 out\n",
        }
    )
    assert declared_ports(stack) == {
        "10000/tcp etc/yellowstone/config.json": "listens",
        "14317/tcp etc/otelcol-contrib/config.yaml": "listens",
        "18888/tcp etc/otelcol-contrib/config.yaml": "listens",
        f"22/tcp {LIB}/ssh.socket": "listens",
        f"514/udp {LIB}/ssh.socket": "listens",
        "5432/tcp etc/postgresql/17/main/postgresql.conf": "listens",
        "8000-8030/tcp+udp usr/lib/qtrade/agave/validator.sh": "listens",
        "8000-8030/udp etc/ufw/user.rules": "firewall allow from 0.0.0.0/0 to 0.0.0.0/0",
        "8899/tcp usr/lib/qtrade/agave/validator.sh": "listens",
    }


def test_a_masked_or_hidden_file_declares_nothing() -> None:
    assert (
        declared_ports(tree({f"{LIB}/ssh.socket": "ListenStream=22\n"}, {f"{LIB}/ssh.socket": link("/dev/null")})) == {}
    )
