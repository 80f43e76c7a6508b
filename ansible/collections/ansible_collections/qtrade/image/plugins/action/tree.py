"""Controller side of qtrade.image.tree: read and render the role's folders, then hand them to the program on the target."""

from __future__ import annotations

import base64
import json
import shlex
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

from ansible import constants

TEMPLATE_SUFFIX = ".j2"
# Of every role; an argument qtrade_client_… is of one.
SHARED = ("qtrade_packages", "qtrade_components", "qtrade_epoch")
CHROOT = "community.general.chroot"
PROGRAM = Path(__file__).resolve().parent.parent / "modules/tree.py"
ARGUMENTS: dict[str, dict[str, Any]] = {
    **{
        name: {"type": "list", "elements": "str", "default": []}
        for name in ("directories", "absent", "without_dangling")
    },
    **{name: {"type": "dict", "default": {}} for name in ("links", "copies", "attributes", "validate")},
}


class ActionModule(ActionBase):
    """Collects `files/`, `templates/` and `config/inputs.yml` of the role that the task belongs to."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the program with every file of the role as an argument."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        role = self._task._role  # noqa: SLF001 - there is no public way from a task to its role
        if role is None:
            raise AnsibleActionFail("qtrade.image.tree lays the files of a role: call it from a role's tasks")
        if not self._task.check_mode and self._connection.transport != CHROOT:
            raise AnsibleActionFail(
                "qtrade.image.tree changes a layer that is being baked, never a running host: add --check "
                "(docs/adr/0010-no-apply-to-live-hosts.md)"
            )
        root = Path(role._role_path)  # noqa: SLF001
        variables = task_vars or {}
        files = (
            read_files(root / "files")
            + self._render_templates(root / "templates", variables)
            + self._render_inputs(root / "config" / "inputs.yml", role.get_name(), variables)
            + self._render_arguments(root / "meta/argument_specs.yml", role.get_name(), variables)
        )
        _, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        result.update(self._run_program({**arguments, "files": files}, variables))
        return result

    def _run_program(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return what the program says. Raises `AnsibleActionFail` with the target's words if it says nothing."""
        wanted = json.dumps({**arguments, "check_mode": self._task.check_mode, "shows_diff": self._task.diff})
        program = f"{PROGRAM.read_text()}\nmain({wanted!r})\n"
        python = variables.get("ansible_python_interpreter") or constants.config.get_config_value("INTERPRETER_PYTHON")
        done = self._low_level_execute_command(f"{shlex.quote(python)} -ISB -", in_data=program.encode())
        try:
            answer: dict[str, Any] = json.loads(done["stdout"].splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise AnsibleActionFail(
                f"{python} on {self._play_context.remote_addr} did not lay the files (exit code {done['rc']}): "
                f"{(done['stderr'] or done['stdout'])[-2000:]}"
            ) from error
        return answer

    def _render_templates(self, folder: Path, variables: dict[str, Any]) -> list[dict[str, str]]:
        templar = self._templar.copy_with_new_env(searchpath=[str(folder)], available_variables=variables)
        rendered = []
        for source in list_files(folder):
            template = trust_as_template(source.read_text())
            text = templar.template(template, escape_backslashes=False, overrides={"trim_blocks": True})
            target = str(source.relative_to(folder)).removesuffix(TEMPLATE_SUFFIX)
            rendered.append(entry(target, str(text).encode(), source))
        return rendered

    def _render_inputs(self, declaration: Path, role: str, variables: dict[str, Any]) -> list[dict[str, str]]:
        """Return the config inputs that the role declares as the JSON file that hosts and `push` read."""
        if not declaration.is_file():
            return []
        templar = self._templar.copy_with_new_env(available_variables=variables)
        declared = templar.template(trust_as_template(declaration.read_text()), escape_backslashes=False)
        inputs = yaml.safe_load(str(declared))
        text = json.dumps({"schema_version": 1, "role": role, **inputs}, indent=1, sort_keys=True) + "\n"
        return [entry(f"usr/lib/qtrade/inputs.d/{role}.json", text.encode(), declaration)]

    def _render_arguments(self, declaration: Path, role: str, variables: dict[str, Any]) -> list[dict[str, str]]:
        """Return the file that says what the layer was baked with: specs and people read it there, not in defaults."""
        names = read_arguments(declaration)
        if not names:
            return []
        templar = self._templar.copy_with_new_env(available_variables=variables)
        values = {
            name: json.loads(templar.template(trust_as_template(f"{{{{ {name} | to_json }}}}"))) for name in names
        }
        text = json.dumps({"schema_version": 1, "role": role, "arguments": values}, indent=1, sort_keys=True) + "\n"
        return [entry(f"usr/share/qtrade/arguments.d/{role}.json", text.encode(), declaration)]


def read_arguments(declaration: Path) -> list[str]:
    """Return the names of the role's arguments but those that the bake gives every role, which are of the bake and not of the host."""
    if not declaration.is_file():
        return []
    options = yaml.safe_load(declaration.read_text())["argument_specs"]["main"].get("options", {})
    return sorted(name for name in options if name not in SHARED)


def list_files(folder: Path) -> list[Path]:
    """Return the plain files below a folder, sorted; none when there is no such folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def read_files(folder: Path) -> list[dict[str, str]]:
    """Return the files below a folder as arguments of the module."""
    return [entry(str(path.relative_to(folder)), path.read_bytes(), path) for path in list_files(folder)]


def entry(target: str, content: bytes, source: Path) -> dict[str, str]:
    """Return one file as the module takes it: executable in the checkout means executable in the image."""
    mode = "0755" if source.stat().st_mode & 0o100 else "0644"
    return {"path": target, "content": base64.b64encode(content).decode(), "mode": mode}
