"""Errors: what an object store's refusals mean here, each as one clear line.

Pure: it is given the text in which the client wraps a service's answer, and finds the HTTP status and the service's own
code in it (`<Code>NoSuchBucket</Code>`). The one table from those to the error tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ...errors import (
    DamageError,
    Error,
    InvalidConfigError,
    MissingBlobError,
    NoSpaceError,
    NotAllowedError,
    StoreError,
    UnavailableError,
)

_STATUS = re.compile(r"\bstatus: (\d{3})\b|\bstatus code: (\d{3})\b|\bstatus (\d{3})\b")
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<]{1,300})|\\?\"message\\?\":\s*\\?\"([^\"\\]{1,300})")

_Make = Callable[[str], Error]


class Answer(NamedTuple):
    """What can be read of a service's answer; status 0 where none came."""

    status: int
    code: str
    message: str


def read_answer(text: str) -> Answer:
    """The answer that is told in the text of the client's error."""
    status = _STATUS.search(text)
    code = _CODE.search(text)
    message = _MESSAGE.search(text)
    return Answer(
        next((int(group) for group in status.groups() if group), 0) if status else 0,
        code[1] if code else "",
        " ".join((message[1] or message[2]).split()) if message else "",
    )


# By the service's own code: the kinds of one trouble have many names. {place} is the bucket, {what} the object.
_BY_CODE: tuple[tuple[frozenset[str], _Make, str], ...] = (
    (
        frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "UserProjectAccountProblem"}),
        StoreError,
        "there is no bucket {bucket}; make it, or correct the URL {place}",
    ),
    (
        frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestTimeTooFar"}),
        NotAllowedError,
        "{place} refuses requests because this machine's clock is wrong; set it (`timedatectl set-ntp true`)",
    ),
    (
        frozenset({"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"}),
        NotAllowedError,
        "{place} does not know the access key; correct AWS_ACCESS_KEY_ID, or the profile it comes from",
    ),
    (
        frozenset({"SignatureDoesNotMatch"}),
        NotAllowedError,
        "{place} does not accept the secret key; correct AWS_SECRET_ACCESS_KEY, or the profile it comes from",
    ),
    (
        frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}),
        NotAllowedError,
        "the credentials for {place} have expired; get new ones",
    ),
    (
        frozenset(
            {"AuthenticationFailed", "AuthorizationFailure", "InvalidAuthenticationInfo", "NoAuthenticationInformation"}
        ),
        NotAllowedError,
        "{place} does not accept the credentials; correct them, and look at this machine's clock",
    ),
    (
        frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}),
        InvalidConfigError,
        "{place} is in another region; say which: ?region=NAME",
    ),
    (
        frozenset({"QuotaExceeded", "StorageQuotaExceeded", "EntityTooLarge", "AccountLimitExceeded"}),
        NoSpaceError,
        "{place} takes no more bytes ({detail}); free some, or raise the quota, and try again",
    ),
    (frozenset({"SlowDown", "ServerBusy", "OperationTimedOut", "RequestTimeout"}), UnavailableError, ""),
)

_BY_STATUS: tuple[tuple[frozenset[int], _Make, str], ...] = (
    (frozenset({404, 410}), MissingBlobError, "{what} is missing in {place}; verify the store"),
    (frozenset({401}), NotAllowedError, "{place} wants other credentials ({detail}); correct them"),
    (frozenset({403}), NotAllowedError, "no permission for {what} in {place} ({detail}); ask its owner for access"),
    (frozenset({301, 302, 307, 308}), InvalidConfigError, "{place} is elsewhere; say where: ?region= or ?endpoint="),
    (frozenset({416}), DamageError, "{what} in {place} has no such range; verify the store"),
    (frozenset({507}), NoSpaceError, "{place} takes no more bytes ({detail}); free some and try again"),
    (frozenset({0, 408, 425, 429, 500, 502, 503, 504}), UnavailableError, ""),
)

# What came is not what was asked for, or all of the object.
_WRONG_RANGE = re.compile(r"UnexpectedRange|NotPartial|Requested range|InvalidRange|NoContentRange|ParseContentRange")

_UNREACHABLE = "{place} cannot be reached now ({detail}); try again"

# The client's words for what happened below HTTP, in the order of preference, as ours.
_REASONS = (
    (re.compile(r"certificate|TLS|ssl", re.IGNORECASE), "its certificate is not accepted"),
    (re.compile(r"dns error|failed to lookup address", re.IGNORECASE), "its name has no address"),
    (re.compile(r"Connection refused", re.IGNORECASE), "connection refused"),
    (re.compile(r"timed out|TimedOut|Timeout,", re.IGNORECASE), "it does not answer in time"),
    (re.compile(r"Connection reset|IncompleteMessage|connection closed|broken pipe|unexpected eof|EOF", re.IGNORECASE),
     "the connection broke"),
    (re.compile(r"BareRedirect", re.IGNORECASE), "it redirects to nowhere"),
)  # fmt: skip


def service_error(text: str, what: str, place: str, bucket: str) -> Error:
    """The error of ours that the client's error means, where it happened to the object or folder `what`.

    `text` is all that the client says, on however many lines.
    """
    answer = read_answer(text)
    if "BareRedirect" in text:
        answer = answer._replace(code=answer.code or "PermanentRedirect")
    elif answer.status == 0 and _WRONG_RANGE.search(text):
        answer = answer._replace(status=416)
    words = {"what": what, "place": place, "bucket": bucket, "detail": _detail(answer, text)}
    for codes, make, message in _BY_CODE:
        if answer.code in codes:
            return make((message or _UNREACHABLE).format(**words))
    for statuses, make, message in _BY_STATUS:
        if answer.status in statuses:
            return make((message or _UNREACHABLE).format(**words))
    if answer.status >= 500:
        return UnavailableError(_UNREACHABLE.format(**words))
    return StoreError("{place} refuses {what} ({detail}); see what its service says of that".format(**words))


def _detail(answer: Answer, text: str) -> str:
    if answer.code or answer.status:
        said = answer.code or f"HTTP {answer.status}"
        message = _short(answer.message.partition(". ")[0]).rstrip(".")
        return f"{said}: {message}" if message and message != said else said
    for pattern, reason in _REASONS:
        if pattern.search(text):
            return reason
    return _short(text.partition("Debug source")[0].partition("error: ")[2] or text)


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 160 else words[:157] + "..."
