"""A host's disks, and how it boots from them."""

from docs.site.pictures.canvas import Canvas


def draw_disks() -> Canvas:
    """Draw the partitions of the OS disk, and the disks beside it."""
    canvas = Canvas(900, 400, "A host's disks")
    canvas.box(
        20,
        20,
        860,
        190,
        "OS disk: at least two of serial, wwid, size and PCI path must match, on one disk only",
        kind="group",
    )
    canvas.box(40, 60, 110, 70, "bios_boot", "1 MiB")
    canvas.box(160, 60, 150, 70, "qtrade-esp", "GRUB, boot state")
    canvas.box(320, 60, 280, 70, "qtrade-system", "layers, kernels, list of each image", kind="new")
    canvas.box(610, 60, 250, 70, "qtrade-state", "/var, config, keys, secrets", kind="good")
    canvas.label(95, 154, "for BIOS", anchor="middle")
    canvas.label(235, 154, "UEFI's way in; state twice", anchor="middle")
    canvas.label(460, 154, "read-only while running; keeps", anchor="middle")
    canvas.label(460, 172, "running, previous and new version", anchor="middle")
    canvas.label(735, 154, "survives every flash; --wipe-state", anchor="middle")
    canvas.label(735, 172, "and decommission end it", anchor="middle")
    canvas.box(20, 240, 420, 140, "Data disks: never in the table", kind="group")
    canvas.box(40, 280, 180, 60, "data_disks", "services write them", kind="good")
    canvas.box(240, 280, 180, 60, "protected_disks", "nobody may, in a flash", kind="bad")
    canvas.label(230, 364, "formatted only when blank, by prepare-disks", anchor="middle")
    canvas.box(460, 240, 420, 140, "What a flash does to them", kind="group")
    canvas.label(480, 292, "In the installer: read-only in the kernel,")
    canvas.label(480, 310, "contents compared before and after.")
    canvas.label(480, 336, "In place: the agent can only write to the")
    canvas.label(480, 354, "OS disk's own device.")
    return canvas


def draw_boot() -> Canvas:
    """Draw a boot after a flash in place: on trial once, then committed or back."""
    canvas = Canvas(900, 420, "A new version boots once; only a committed one boots again")
    canvas.box(20, 40, 150, 60, "Power on", "or reboot")
    canvas.box(230, 40, 150, 60, "GRUB", "reads boot state")
    canvas.box(440, 40, 190, 60, "Armed for once?", "mark is cleared first", kind="secret")
    canvas.box(700, 40, 180, 60, "New version", "boots this one time", kind="new")
    canvas.box(440, 180, 190, 60, "Default version", "the last committed", kind="old")
    canvas.box(700, 180, 180, 60, "Initramfs", "signature, each blob")
    canvas.box(700, 320, 180, 60, "Proof", "nonce, boot id, health")
    canvas.box(440, 320, 190, 60, "COMMITTED", "new one is the default", kind="good")
    canvas.box(20, 180, 230, 60, "Reboot by itself", "panic, watchdog, bad blob", kind="bad")
    canvas.box(20, 320, 230, 60, "Three boots failed", "the previous version boots", kind="old")
    canvas.arrow((170, 70), (230, 70))
    canvas.arrow((380, 70), (440, 70))
    canvas.arrow((630, 70), (700, 70))
    canvas.label(665, 62, "yes", anchor="middle")
    canvas.arrow((535, 100), (535, 180))
    canvas.label(545, 145, "no")
    canvas.arrow((790, 100), (790, 180))
    canvas.arrow((630, 200), (700, 200))
    canvas.arrow((790, 240), (790, 320))
    canvas.label(782, 285, "holds", anchor="end")
    canvas.arrow((700, 350), (630, 350))
    canvas.label(665, 342, "yes", anchor="middle")
    canvas.arrow((700, 225), (660, 225), (660, 280), (350, 280), (350, 215), (250, 215), kind="bad")
    canvas.label(360, 272, "fails: of the image, or of the proof")
    canvas.arrow((95, 180), (95, 100), kind="bad")
    canvas.arrow((135, 240), (135, 320), kind="bad")
    return canvas
