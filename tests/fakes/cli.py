"""The command line, run in this process."""

import sys
from typing import Any

from qtrade.cli import main
from tests.fakes.documents import check_document, fields_of


class Cli:
    """Runs `main` as the shell would."""

    def __init__(self, monkeypatch, capsys) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *args: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["qtrade", *args])
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        else:
            code = 0
        out, err = self._capsys.readouterr()
        check_document(out)
        return int(code or 0), out, err

    def json(self, *args: str) -> Any:
        code, out, err = self(*args, "--json")
        assert code == 0, err
        return fields_of(out)
