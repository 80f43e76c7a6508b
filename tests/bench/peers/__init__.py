"""The tools that the bench compares, one module each."""

from collections.abc import Callable
from pathlib import Path

from tests.bench.cases import Bench, Peer
from tests.bench.peers.dib import DiskImageBuilder
from tests.bench.peers.mkosi import Mkosi
from tests.bench.peers.mmdebstrap import Mmdebstrap
from tests.bench.peers.packer_chroot import PackerChroot
from tests.bench.peers.packer_qemu import PackerQemu
from tests.bench.peers.qtrade import Qtrade

PEERS: dict[str, Callable[[Bench, Path], Peer]] = {
    "qtrade": Qtrade,
    "packer-chroot": PackerChroot,
    "packer-qemu": PackerQemu,
    "mkosi": Mkosi,
    "diskimage-builder": DiskImageBuilder,
    "mmdebstrap": Mmdebstrap,
}
