"""Names on the wire: of resources (AIP-122) and of metadata.

Resources are `prompts/{prompt}/versions/{version}` and `proxies/{proxy}`.
"""

import re

from transfer.errors import UsageError

LATEST = "latest"
"""In place of a version: the newest published one."""
ANY = "-"
"""In place of a prompt: all prompts, in a listing."""

ERROR_KEY = "promptferry-error"
"""Key of a failed call's trailing metadata: the symbol of the error, so that the caller raises the same class."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PROMPT_VERSION = re.compile(r"prompts/([^/]*)/versions/([^/]*)")
_PROMPT = re.compile(r"prompts/([^/]*)")
_PROXY = re.compile(r"proxies/([^/]*)")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def checked(kind: str, name: str) -> str:
    """Return `name` if it is a valid name of a resource.

    Args:
        kind: what is named, for the message: "client", "prompt", ...
        name: the name to check.

    Raises:
        UsageError: the name breaks the rule.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{kind} name {name!r} must be 1 to 63 of a-z, 0-9 and -, not starting with -")
    return name


def prompt_version(prompt: str, version: int | None) -> str:
    """Return the resource name of a version; None is the newest published one."""
    return f"prompts/{checked('prompt', prompt)}/versions/{LATEST if version is None else version}"


def parse_prompt_version(name: str) -> tuple[str, int | None]:
    """Return prompt and version of a resource name; the version is None for `latest`.

    Raises:
        UsageError: `name` is not the resource name of a version.
    """
    match = _PROMPT_VERSION.fullmatch(name)
    if match is None or not (match[2] == LATEST or _VERSION.fullmatch(match[2])):
        raise UsageError(f"resource name {name!r} is not prompts/PROMPT/versions/VERSION")
    return checked("prompt", match[1]), None if match[2] == LATEST else int(match[2])


def prompt_parent(prompt: str | None) -> str:
    """Return the resource name of a prompt; None stands for all prompts."""
    return f"prompts/{ANY if prompt is None else checked('prompt', prompt)}"


def parse_prompt_parent(name: str) -> str | None:
    """Return the prompt of a resource name; None for all prompts.

    Raises:
        UsageError: `name` is not the resource name of a prompt.
    """
    match = _PROMPT.fullmatch(name)
    if match is None:
        raise UsageError(f"resource name {name!r} is not prompts/PROMPT")
    return None if match[1] == ANY else checked("prompt", match[1])


def proxy(name: str) -> str:
    """Return the resource name of a proxy."""
    return f"proxies/{checked('proxy', name)}"


def parse_proxy(name: str) -> str:
    """Return the proxy of a resource name.

    Raises:
        UsageError: `name` is not the resource name of a proxy.
    """
    match = _PROXY.fullmatch(name)
    if match is None:
        raise UsageError(f"resource name {name!r} is not proxies/PROXY")
    return checked("proxy", match[1])
