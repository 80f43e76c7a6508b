"""The versions of a store with what people ask of them first."""

from dataclasses import dataclass

from qtrade.look import render_table
from qtrade.store.blocks import why_blocked
from qtrade.store.documents import CHANNELS
from qtrade.store.store import Store


@dataclass(frozen=True)
class ListedImage:
    """A version. `size_bytes` is what a host keeps of it: layers, kernel and initrd. `blocked` is why a rollout found it bad."""

    recipe: str
    version: str
    id: str
    size_bytes: int
    standins: tuple[str, ...]
    channels: tuple[str, ...]
    hosts: tuple[str, ...]
    blocked: str = ""


def list_images(store: Store, recipe: str | None = None) -> tuple[ListedImage, ...]:
    """Return the versions of a recipe, or of all, lowest first. Raises `TrustError` for a damaged one."""
    keepers: dict[str, list[str]] = {}
    for host in store.hosts():
        for image_id in store.host_images(host):
            keepers.setdefault(image_id, []).append(host)
    listed = []
    for name in (recipe,) if recipe else store.recipes():
        pointers = {channel: store.channel(name, channel) for channel in CHANNELS}
        for version in store.versions(name):
            document = store.read(name, version).document()
            sizes = {
                part["digest"]: part["size"] for part in (*document["layers"], document["kernel"], document["initrd"])
            }
            listed.append(
                ListedImage(
                    recipe=name,
                    version=version,
                    id=document["id"],
                    size_bytes=sum(sizes.values()),
                    standins=tuple(item["name"] for item in document["components"] if item["standin"]),
                    channels=tuple(key for key, pointer in pointers.items() if pointer and pointer.version == version),
                    hosts=tuple(keepers.get(document["id"], ())),
                    blocked=why_blocked(store, document["id"]),
                )
            )
    return tuple(listed)


def render_images(listed: tuple[ListedImage, ...], *, width: int | None = None) -> str:
    """Return a table for people, one line per version; a column tells why some are blocked, where any is."""
    shows_blocks = any(item.blocked for item in listed)
    head = ("recipe", "version", "id", "MiB", "channels", "hosts", "stand-ins", *(("blocked",) if shows_blocks else ()))
    rows = [
        (
            item.recipe,
            item.version,
            item.id[:12],
            f"{item.size_bytes / 2**20:.1f}",
            ",".join(item.channels) or "-",
            ",".join(item.hosts) or "-",
            ",".join(item.standins) or "-",
            *((item.blocked or "-",) if shows_blocks else ()),
        )
        for item in listed
    ]
    return render_table(head, rows, width=width)
