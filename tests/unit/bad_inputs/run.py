"""Runs a case as the shell would, in this process, and returns what the user sees with this machine's paths left out."""

import contextlib
import ctypes
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from qtrade import process
from qtrade.cli import main
from qtrade.store import s3
from tests.fakes.examples import make_settings
from tests.unit.bad_inputs.case import Case
from tests.unit.bad_inputs.place import Place, make_place

_CURE = "to mend it:"
_PRIVATE = ("QTRADE_", "AWS_", "ANSIBLE_")


@dataclass(frozen=True)
class Seen:
    """What a case ended with. `changed` are the files that are other than before."""

    code: int
    out: str
    err: str
    changed: tuple[str, ...]

    @property
    def said(self) -> tuple[str, ...]:
        """What is wrong: the lines of the error, or of the checks that failed, without the cure."""
        lines = [line.strip().removeprefix("error: ") for line in (self.err or self.out).splitlines()]
        return tuple(line for line in lines if line and not line.lower().startswith(_CURE))

    @property
    def cure(self) -> str:
        """What is to be done."""
        lines = [line.strip() for line in (self.err or self.out).splitlines()]
        return next((line[len(_CURE) :].strip() for line in lines if line.lower().startswith(_CURE)), "")


@contextlib.contextmanager
def in_order() -> Iterator[Place]:
    """Give a place in which nothing is spoiled, open to every account of the machine."""
    folder = Path(tempfile.mkdtemp(prefix="qtrade-bad-"))
    folder.chmod(0o755)
    try:
        place = make_place(make_settings(folder))
        yield place
        for undo in reversed(place.undo):
            undo()
    finally:
        shutil.rmtree(folder)


def run_case(case: Case, **environment: str) -> Seen:
    """Spoil what the case spoils, and type its command; `environment` is set besides."""
    with in_order() as place:
        case.spoil(place)
        place.environment.update(environment)
        before = place.snapshot()
        code, out, err = _type(place, case.command.split())
        after = place.snapshot()
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        seen = Seen(code, _without_paths(out, place), _without_paths(err, place), tuple(changed))
        return replace(seen, changed=tuple(_without_paths(name, place) for name in changed))


def _type(place: Place, arguments: list[str]) -> tuple[int, str, str]:
    settings = place.settings
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)}
    found = {"PROJECT": settings.project, "STATE_DIR": settings.state_dir, "STORE": settings.store}
    set_here = {f"QTRADE_{name}": str(value) for name, value in found.items()}
    with (
        mock.patch.dict(os.environ, {**kept, **set_here, "COLUMNS": "200", **place.environment}, clear=True),
        mock.patch.object(sys, "argv", ["qtrade", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        mock.patch.object(process, "CLEAN_PATH", place.path or process.CLEAN_PATH),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        _stopped_by_permissions() if place.is_forbidden else contextlib.nullcontext(),
        _own_session(),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        else:
            code = 0
    return int(code or 0), out.getvalue(), err.getvalue()


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def _stopped_by_permissions() -> Iterator[None]:
    """Do without what lets root pass by permissions, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; its own files stay its own.

    Another account would not do: the checkout may lie where only its owner gets.
    """
    libc, header, held = ctypes.CDLL(None, use_errno=True), _Header(0x20080522, 0), (_Capabilities * 2)()

    def call(name: str) -> None:
        if getattr(libc, name)(ctypes.byref(header), ctypes.byref(held)) != 0:
            raise OSError(ctypes.get_errno(), name)

    call("capget")
    own = held[0].effective
    held[0].effective = own & ~(1 << 1 | 1 << 2)
    call("capset")
    try:
        yield
    finally:
        held[0].effective = own
        call("capset")


@contextlib.contextmanager
def _own_session() -> Iterator[None]:
    """Have no session of boto3 before or after: one of a process keeps the keys that it was made with."""
    s3._session.cache_clear()
    try:
        yield
    finally:
        s3._session.cache_clear()


def _without_paths(text: str, place: Place) -> str:
    for path, name in ((place.settings.state_dir, "STATE"), (place.project, "PROJECT")):
        text = text.replace(f"{path}/", "" if name == "PROJECT" else ".state/").replace(str(path), name)
    return re.sub(r"\b[0-9a-f]{16}\b", "0123456789abcdef", text)  # a key, which is another each time
