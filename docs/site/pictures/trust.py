"""The doors to a host, and who believes whom."""

from docs.site.pictures.canvas import Canvas

_DOORS = (
    ("in place", "the running agent adds layers", "SSH, pinned key"),
    ("kexec", "installer started from what runs", "SSH, pinned key"),
    ("rescue", "provider's rescue system", "SSH, key by its API"),
    ("virtual media", "BMC shows a disc (Redfish)", "trusted network"),
    ("UEFI HTTP", "firmware fetches iPXE", "trusted network"),
    ("PXE", "network card, iPXE", "trusted network"),
    ("provider iPXE", "provider boots our script", "trusted network"),
    ("provider reinstall", "its system, then kexec", "disposable only"),
)


def draw_doors() -> Canvas:
    """Draw the doors in the order of preference, with what protects each, and that all lead to one agent."""
    canvas = Canvas(900, 520, "Eight doors, one agent")
    for number, (name, how, guard) in enumerate(_DOORS):
        top = 30 + number * 60
        canvas.box(20, top, 270, 46, name, how, kind="good" if number < 3 else "bad" if number == 7 else "plain")
        canvas.label(305, top + 18, guard)
        canvas.arrow((290, top + 29), (470, top + 29))
    canvas.box(
        470,
        30,
        190,
        466,
        "The agent",
        "one program,",
        "one signed job",
        "",
        "refuses any other",
        "host, key, disk, image",
        kind="new",
    )
    canvas.box(700, 120, 180, 80, "OS disk", "written and read back;", "boot entry last", kind="new")
    canvas.box(700, 330, 180, 80, "Proof", "nonce of this flash,", "new boot id, image id", kind="good")
    canvas.arrow((660, 160), (700, 160))
    canvas.arrow((790, 200), (790, 330))
    canvas.label(782, 270, "reboot", anchor="end")
    return canvas


def draw_trust() -> Canvas:
    """Draw which key signs what, and who checks it."""
    canvas = Canvas(900, 480, "Which key signs what, and who checks it")
    canvas.box(20, 40, 180, 60, "Root key", "offline, on a medium", kind="secret")
    canvas.box(320, 40, 260, 60, "Trust set", "which keys count, until when", kind="new")
    canvas.arrow((200, 70), (320, 70))
    canvas.label(260, 62, "signs", anchor="middle")
    for left, name, where in (
        (20, "Build key", "machine that bakes"),
        (320, "Promote key", "machine of releases"),
        (620, "Job key", "machine that flashes"),
    ):
        canvas.box(left, 160, 260, 60, name, where, kind="secret")
    canvas.arrow((450, 100), (450, 160))
    canvas.arrow((450, 130), (150, 130), (150, 160))
    canvas.arrow((450, 130), (750, 130), (750, 160))
    canvas.label(462, 122, "names")
    canvas.box(20, 270, 260, 60, "Image list, attestations", "provenance, SBOM, tests")
    canvas.box(320, 270, 260, 60, "Promotion, waiver", "channel, sequence, expiry")
    canvas.box(620, 270, 260, 60, "Job, config bundle", "one host, one nonce")
    for x in (150, 450, 750):
        canvas.arrow((x, 220), (x, 270))
        canvas.label(x + 10, 250, "signs")
        canvas.arrow((x, 330), (x, 380))
    canvas.box(
        20,
        380,
        860,
        80,
        "Controller, installer, running host and initramfs check them, each for itself",
        "the initramfs: image list and blobs; production hosts: also the promotion; every host: trust set and job",
        kind="good",
    )
    return canvas
