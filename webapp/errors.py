"""Every deliberate error: a sentence for the person, a cause for the log. Nothing here knows HTTP.

A sentence is a message id: it is translated where it is shown, and its ``%(name)s`` places are filled then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass


def N_(sentence: str) -> str:
    """Return the sentence as it is; the name marks it for the translators."""
    return sentence


class AppError(Exception):
    """A condition that was foreseen. ``sentence`` speaks to the person; ``values`` fill its places."""

    sentence = N_("Something broke on our side. Nothing was lost. Try again.")

    def __init__(self, sentence: str | None = None, /, **values: object) -> None:
        if sentence is not None:
            self.sentence = sentence
        self.values = values
        super().__init__(self.sentence % values if values else self.sentence)


@dataclass(frozen=True)
class FieldProblem:
    """What is wrong with one field: its name in the form, and the sentence to stand at it."""

    field: str
    sentence: str
    values: dict[str, object] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.sentence % self.values if self.values else self.sentence


class InvalidFields(AppError):
    """One or more fields cannot be taken. Nothing was stored. ``problems`` names all of them at once."""

    sentence = N_("Please look at the marked fields.")

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        super().__init__()
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(f"{problem.field}: {problem}" for problem in self.problems)


class NameTaken(InvalidFields):
    """The name belongs to another row of the same owner. Nothing was stored."""

    def __init__(self, field_name: str, sentence: str, **values: object) -> None:
        super().__init__([FieldProblem(field_name, sentence, dict(values))])


class NotFound(AppError):
    """There is no such thing, or it is somebody else's: the two look the same."""

    sentence = N_("This page does not exist, or it belongs to somebody else.")


class NotSignedIn(AppError):
    """The request carries no valid session or token."""

    sentence = N_("Please sign in first.")


class NotPermitted(AppError):
    """The person or the token may not do this. Nothing was changed."""

    sentence = N_("You may not do this.")


class SignInFailed(AppError):
    """Unknown name, wrong password or disabled account: the same sentence and the same work for each."""

    sentence = N_("Name or password is wrong.")


class Throttled(AppError):
    """Too many tries; ``retry_after_s`` says how many seconds to wait."""

    sentence = N_("Too many tries. Try again in %(minutes)s min.")

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = max(1, retry_after_s)
        super().__init__(self.sentence, minutes=-(-self.retry_after_s // 60))


class LinkDead(AppError):
    """A one-time link that was used, has expired or never existed; the three look the same."""

    sentence = N_("This link does not work any more. Ask for a new one.")


class PoolExhausted(AppError):
    """No address is free. Nothing was stored."""

    sentence = N_("No address is free. Tell the person who runs this server.")


class LimitReached(AppError):
    """The person has as many profiles as they may. Nothing was stored."""

    sentence = N_("You have %(count)s of %(limit)s devices. Delete one first.")


class NotReady(AppError):
    """Something that a file needs is not known yet (the endpoint, the server's key)."""


class SettingsInvalid(AppError):
    """The environment cannot be used. ``problems`` lists every bad variable; no process may start."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DatabaseUnusable(AppError):
    """The database is missing, locked, full, read-only, corrupt, of another program or of another version."""

    sentence = N_("The database cannot be used right now. Nothing was lost. Try again in a minute.")


class DecryptionFailed(AppError):
    """A stored secret cannot be read: wrong key, or the ciphertext was moved or changed. Never an empty key."""

    sentence = N_("This key cannot be read. Tell the person who runs this server.")


class ToolError(AppError):
    """A system command did not do its work. ``str()`` is scrubbed of anything that looks like a key."""


class ToolNotRun(ToolError):
    """The command could not run at all: missing, not permitted or out of time. Nothing is known to have changed."""


class ToolMissing(ToolNotRun):
    """The command is not on PATH."""

    sentence = N_("%(command)s is not installed.")


class ToolForbidden(ToolNotRun):
    """The process may not do this; it needs CAP_NET_ADMIN."""

    sentence = N_("%(command)s was not permitted (it needs CAP_NET_ADMIN).")


class ToolTimedOut(ToolNotRun):
    """The command did not answer in time and was killed. What it changed is unknown."""

    sentence = N_("%(command)s did not answer within %(timeout_s)s s.")


class ToolRefused(ToolError):
    """The command ran and said no, or printed what cannot be understood."""

    sentence = N_("%(command)s refused: %(reason)s")
