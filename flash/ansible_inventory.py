"""The hosts as Ansible sees them: a dynamic inventory made from manifests, without any secret."""

import shlex
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from flash.inventory import list_hosts, load_host
from flash.ssh import known_hosts_path
from qtrade.manifest import Host, Recipe, lend_arguments, load_recipe_named
from qtrade.manifest.component import AptComponent, Component, GithubComponent, SourceComponent, UrlComponent
from qtrade.settings import Settings
from qtrade.ssh import ssh_options

# Where a bake shows a layer its components; a running host has none of them.
_COMPONENTS = "/run/qtrade/components"
_PYTHON = "/usr/bin/python3"
# Of each login its own, as the host's shell says: nobody may write into another's.
_TEMPORARY = "/tmp/.ansible-${USER}"  # noqa: S108 - the folder that Ansible makes there is the login's alone
Document = dict[str, Any]


def render_inventory(settings: Settings) -> Document:
    """Return all hosts with their variables and groups, as `--list` of an inventory script. Raises `BadInput`, `NotFound`."""
    hosts = [load_host(settings, name) for name in list_hosts(settings)]
    groups: dict[str, list[str]] = {}
    for host in hosts:
        for group in groups_of(host):
            groups.setdefault(group, []).append(host.name)
    return {
        "_meta": {"hostvars": {host.name: host_variables(settings, host) for host in hosts}},
        "all": {"children": ["ungrouped", *sorted(groups)]},
        **{group: {"hosts": groups[group]} for group in sorted(groups)},
    }


def groups_of(host: Host) -> tuple[str, ...]:
    """Return the groups that a host is in: by environment, role, provider and recipe."""
    named = {
        "environment": host.environment,
        "role": host.role,
        "provider": host.driver.kind,
        "recipe": host.recipe,
    }
    return tuple(f"{kind}_{value}".replace("-", "_").replace(".", "_") for kind, value in named.items())


def host_variables(settings: Settings, host: Host) -> Document:
    """Return a host's variables: how to reach it, what it is, what its recipe gives the roles; nothing of its config or secrets."""
    recipe = load_recipe_named(settings, host.recipe)
    recipe = lend_arguments(settings.ansible, recipe)
    return {**_connection(settings, host), **_description(host), **recipe_variables(settings, recipe)}


def recipe_variables(settings: Settings, recipe: Recipe) -> Document:
    """Return the variables of all layers of a recipe; packages and components, which every layer has of its own, by role."""
    variables: Document = {"qtrade_epoch": recipe.epoch, "qtrade_layers": {}}
    for layer in recipe.layers:
        variables |= {**layer.vars, **layer.toggles}
        variables["qtrade_layers"][layer.role] = {
            "packages": list(layer.packages),
            "components": {name: _place(settings, name, recipe.components[name]) for name in layer.components},
        }
    return variables


def _connection(settings: Settings, host: Host) -> Document:
    options = ssh_options(host.name, known_hosts_path(settings, host.name))
    identity = {"ansible_ssh_private_key_file": str(host.ssh.identity_file)} if host.ssh.identity_file else {}
    return {
        "ansible_connection": "ssh",
        "ansible_host": host.address,
        "ansible_port": host.ssh.port,
        "ansible_user": host.ssh.operator,
        "ansible_host_key_checking": True,
        "ansible_ssh_common_args": shlex.join(options),
        "ansible_python_interpreter": _PYTHON,
        "ansible_remote_tmp": _TEMPORARY,
        **identity,
    }


def _description(host: Host) -> Document:
    return {
        "qtrade_environment": host.environment,
        "qtrade_role": host.role,
        "qtrade_provider": host.driver.kind,
        "qtrade_recipe": host.recipe,
    }


def _place(settings: Settings, name: str, component: Component) -> str:
    """Return where a layer finds the component while it is baked: files keep their suffix, all else is a folder; archives are unpacked."""
    file = PurePosixPath(_file(settings, component))
    is_archive = ".tar" in file.suffixes or file.suffix == ".tgz"
    return f"{_COMPONENTS}/{name}{'' if is_archive else file.suffix}"


def _file(settings: Settings, component: Component) -> str:
    match component:
        case AptComponent():
            return f"{component.package}.deb"
        case UrlComponent():
            return unquote(urlsplit(component.expand(component.url)).path)
        case GithubComponent():
            return component.expand(component.asset)
        case SourceComponent():
            is_file = component.build is None and settings.find(str(component.path)).is_file()
            return str(component.path) if is_file else ""
