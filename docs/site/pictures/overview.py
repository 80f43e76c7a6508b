"""The way from a recipe to a healthy host, and a host's layers."""

from docs.site.pictures.canvas import Canvas, column


def draw_chain() -> Canvas:
    """Draw recipe, bake, store, flash, host."""
    canvas = Canvas(900, 380, "From a recipe to a healthy host")
    canvas.box(20, 40, 160, 60, "Recipe", "what to bake")
    canvas.box(20, 130, 160, 60, "Roles", "one for each layer")
    canvas.box(20, 220, 160, 60, "Lock", "all by digest")
    canvas.box(240, 20, 190, 340, "qtrade bake", kind="group")
    column(
        canvas,
        255,
        55,
        (160, 52),
        (
            ("plan", "what changed"),
            ("layers", "Packer + Ansible"),
            ("seal and specs", "fatal checks"),
            ("image", "signed, write-once"),
        ),
    )
    canvas.box(490, 120, 150, 80, "Store", "folder or S3", "layers by digest", kind="new")
    canvas.box(490, 260, 150, 60, "Channels", "who may run what")
    canvas.box(700, 20, 180, 150, "qtrade flash", kind="group")
    canvas.box(715, 55, 150, 44, "door -> agent")
    canvas.box(715, 112, 150, 44, "write, verify")
    canvas.box(700, 200, 180, 60, "qtrade push", "config and secrets")
    canvas.box(700, 300, 180, 60, "Healthy host", "default moved", kind="good")
    for y in (70, 160, 250):
        canvas.arrow((180, y), (240, y))
    canvas.arrow((430, 160), (490, 160))
    canvas.arrow((565, 200), (565, 260))
    canvas.arrow((640, 145), (700, 145))
    canvas.arrow((790, 170), (790, 200))
    canvas.arrow((790, 260), (790, 300))
    return canvas


def draw_layers() -> Canvas:
    """Draw two images that share layers, and how a host mounts one of them."""
    canvas = Canvas(900, 440, "Two images share layers; a host mounts them under a RAM overlay")
    canvas.box(20, 20, 400, 400, "Two images in the store", kind="group")
    shared = ("agave", "postgres", "bare_metal", "base")
    canvas.label(125, 66, "1.4.0", anchor="middle")
    canvas.label(315, 66, "1.5.0", anchor="middle")
    canvas.box(40, 80, 170, 44, "qtrade_client", "a1f0…", kind="old")
    canvas.box(230, 80, 170, 44, "qtrade_client", "77c2…", kind="new")
    for number, role in enumerate(shared):
        canvas.box(40, 140 + number * 56, 360, 44, role)
    canvas.label(220, 384, "only the changed layer is made, stored, sent", anchor="middle")
    canvas.label(220, 402, "and written: 5 blobs are on disk, 1 travels", anchor="middle")
    canvas.box(460, 20, 420, 400, "A host that runs 1.5.0", kind="group")
    canvas.box(
        480, 55, 380, 44, "upper directory, in RAM", "empty after a clean boot: what is here is drift", kind="secret"
    )
    for number, role in enumerate(("qtrade_client", *shared)):
        canvas.box(480, 115 + number * 42, 220, 34, role, kind="new" if number == 0 else "plain")
    canvas.box(720, 115, 140, 202, "/var", "own partition,", "survives flashes", kind="good")
    canvas.box(480, 332, 380, 58, "data disks", "ledger, PostgreSQL: no flash touches them", kind="bad")
    canvas.label(670, 412, "layers: read-only EROFS, signed and checked", anchor="middle")
    return canvas
