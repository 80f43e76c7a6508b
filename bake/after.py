"""What may follow a bake: the record in the project, the boot test, outputs for those who take whole disks."""

from pathlib import Path

from bake.run import BakeResult
from qtrade.errors import UsageError, choose_from
from qtrade.reporter import Reporter
from qtrade.settings import Settings
from qtrade.store import open_store


def check_outputs(names: tuple[str, ...]) -> None:
    """Raise `UsageError` for an output that there is not; before a bake, not after it."""
    from bake.output import Kind  # noqa: PLC0415 - most bakes write none

    unknown = [name for name in names if name not in list(Kind)]
    if unknown:
        raise UsageError(f"--output {unknown[0]} is unknown", resolution=choose_from(unknown[0], Kind))


def follow_up(
    settings: Settings,
    result: BakeResult,
    reporter: Reporter,
    *,
    record: bool = False,
    boot_test: bool = False,
    outputs: tuple[str, ...] = (),
) -> tuple[Path, ...]:
    """Do what was asked for, in order; return the files of the outputs. Raises the errors of each part."""
    image, store = result.image, open_store(settings)
    if record:
        from bake.release import record_release  # noqa: PLC0415

        reporter.say(f"recorded in {record_release(settings.project, image)}")
    if boot_test:
        from bake import boot_test as tests  # noqa: PLC0415
        from qtrade.machine.spec import Firmware  # noqa: PLC0415

        for firmware in Firmware:
            tests.boot_test(settings, store, image.name, image.version, reporter, firmware=firmware)
    if not outputs:
        return ()
    from bake.output import Kind, export  # noqa: PLC0415

    kinds = [Kind(name) for name in outputs]
    made = export(settings, store, image.name, image.version, kinds, None, reporter)
    return tuple(made.folder / file.name for file in made.files)
