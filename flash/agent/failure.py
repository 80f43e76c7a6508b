"""What a report says of a job that failed."""

from typing import Any, Dict

from .errors import AgentError


def failure_of(error: Exception) -> Dict[str, Any]:
    """Return the fields `ok` and `error` of a report; a fault of the agent itself shows its lines on stderr."""
    if isinstance(error, AgentError):
        known = error
    elif isinstance(error, OSError):
        known = AgentError("io-failed", str(error), "look at the disk and the network")
    else:
        import traceback  # noqa: PLC0415 - no job that succeeds needs it

        traceback.print_exception(type(error), error, error.__traceback__)
        known = AgentError(
            "agent-fault", repr(error), "this is a fault of the agent: report it with the lines on its stderr"
        )
    return {"ok": False, "error": known.as_json()}
