"""The agent's one error: a short code for programs, and a message and a remedy for people."""

from typing import Dict


class AgentError(Exception):
    """Something that stops the agent.

    `code` is stable and short (`disk-ambiguous`), `message` says what was found, `remedy` how to mend it.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the code, the message and the remedy as one line."""
        return f"{self.code}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")

    def as_json(self) -> Dict[str, str]:
        """Return the `error` object of a report."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}
