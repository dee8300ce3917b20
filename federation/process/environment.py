"""Variables of the environment that override keys of a settings file: which of them are none, and how one is named in an
error. Letters' case does not matter, as pydantic reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping

_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
"""What Kubernetes sets in a pod for a Service whose name begins like a prefix of ours."""


def unknown(prefix: str, keys: Collection[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables with this prefix that are no key, sorted; those of Kubernetes' service links aside."""
    ends = ((name, name[len(prefix) :]) for name in environment if name.upper().startswith(prefix))
    return sorted(
        name for name, end in ends if end.lower() not in keys and not _SERVICE_LINK.fullmatch(end.upper())
    )


def label(prefix: str, where: Iterable[str | int], environment: Mapping[str, str] = os.environ) -> str:
    """How an error names a setting: the variable when there is one, for it overrides the file; else the key."""
    path = [str(part) for part in where]
    variable = f"{prefix}{path[0].upper()}" if path else ""
    if variable and variable in {name.upper() for name in environment}:
        path[0] = variable
    return ".".join(path)


def not_json(prefix: str, keys: Iterable[str], error: ValueError) -> str:
    """What to say of a variable whose value had to be JSON and is not; "" when `error` is about none."""
    for key in keys:
        if f'"{key}" from source "EnvSettingsSource"' in str(error):
            return (
                f"{prefix}{key.upper()}: 列表与表须写成 JSON，如 · lists and tables are written as JSON, e.g."
                ' ["host:9443"]'
            )
    return ""
