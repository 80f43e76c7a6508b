"""The connection to Ironic by openstacksdk, which is an extra, and what it raises in our errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flash.drivers.api_errors import Account
from qtrade.errors import BadInput, HostError, NotFound, QtradeError, Refused, ToolError
from qtrade.manifest.driver import IronicDriver
from qtrade.redaction import redact

_TIMEOUT_S = 60.0
_LONGEST_WORDS = 600


def account_of(access: IronicDriver) -> Account:
    """Return whose API it is, for errors."""
    where = access.url or f"cloud {access.cloud}"
    credential = "driver.password" if access.username else "clouds.yaml" if access.cloud else "driver.username"
    return Account("Ironic", where, credential, f"driver.node {access.node}")


def connect(access: IronicDriver, password: str | None) -> Any:
    """Return openstacksdk's connection; nothing is asked yet. Raises `ToolError` without it, `BadInput` for a cloud that is not there."""
    try:
        import openstack  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if error.name != "openstack":
            raise
        raise ToolError(
            "driver ironic needs openstacksdk", resolution="install it: pip install 'qtrade[ironic]'"
        ) from error
    with asking(account_of(access), "find the service"):
        if access.cloud is not None:
            return openstack.connect(cloud=access.cloud, api_timeout=_TIMEOUT_S)
        auth = {"endpoint": access.url}
        if access.username is not None:
            auth |= {"username": access.username, "password": password}
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_type="none" if access.username is None else "http_basic",
            auth=auth,
            baremetal_endpoint_override=access.url,
            api_timeout=_TIMEOUT_S,
        )


@contextmanager
def asking(account: Account, what: str) -> Iterator[None]:
    """Turn what openstacksdk raises into our errors; `what` completes "could not"."""
    from keystoneauth1.exceptions import ClientException  # noqa: PLC0415 - comes with openstacksdk
    from openstack.exceptions import SDKException  # noqa: PLC0415 - an extra, and slow to import

    try:
        yield
    except (SDKException, ClientException) as error:
        raise error_for(account, what, error) from error


def error_for(account: Account, what: str, error: Any) -> QtradeError:
    """Return our error for one of openstacksdk's or keystoneauth's."""
    from keystoneauth1 import exceptions as keystone  # noqa: PLC0415 - comes with openstacksdk
    from openstack import exceptions as sdk  # noqa: PLC0415 - an extra, and slow to import

    kind: type[QtradeError] = HostError
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    match error, status:
        case sdk.ConfigException() | keystone.MissingRequiredOptions() | keystone.CatalogException(), _:
            kind, reason = BadInput, "the way to it is not configured"
            cure = "see that clouds.yaml or the OS_ variables lead to a cloud with a baremetal service"
        case _, 403 if "protected" in _words_of(error):
            kind, reason = Refused, "the node is protected"
            cure = "see protected_reason of the node; `qtrade flash` takes off what it put there itself"
        case _, 401 | 403:
            kind, reason = BadInput, "it does not accept the credential"
            cure = f"check {account.credential}: is it right, and allowed to change nodes?"
        case _, 404:
            kind, reason = NotFound, f"it knows no such node or resource ({account.server})"
            cure = f"correct {account.server}, or say in driver.enrol how Ironic reaches the host's BMC"
        case _, 409:
            kind, reason = Refused, "the node is locked, or has what others have too"
            cure = "see what works on the node; once that has ended, run the same command again"
        case _, 400 | 406:
            kind, reason = BadInput, "it refused the request"
            cure = "Ironic's own words say what does not fit the node, or what its configuration does not enable"
        case keystone.ConnectFailure() | keystone.DiscoveryFailure(), _:
            reason, cure = (
                "it does not answer",
                f"see that the service runs at {account.url}, then run the command again",
            )
        case _:
            reason, cure = "its API fails", "see the log of Ironic's API and conductor, then run the same command again"
    brief = f"Ironic ({account.url}) could not {what}: {reason}" + (f" ({status})" if status else "")
    return kind(redact(brief), details=redact(_words_of(error))[:_LONGEST_WORDS], resolution=cure)


def _words_of(error: Any) -> str:
    details = getattr(error, "details", None)
    return " ".join(f"{details or error}".split())
