"""The folders of the state directory that commands work in: what lies there while none runs was left by a killed one."""

# Worked in while the lock beside them is held.
GUARDED = {
    "bake.lock": ("work", "second-bake", "unsealed"),
    "boot-test.lock": ("boot-test",),
    "lock.lock": ("lock-work",),
}
# Without a lock: their age alone says that nobody is there any more.
LOOSE = ("shell", "exposure", "specs")
ALL = (*(folder for folders in GUARDED.values() for folder in folders), *LOOSE)
