"""Passwords, tokens and keys: refused in what is written, and masked in what is shown."""

from __future__ import annotations

import base64
import configparser
import contextlib
import netrc
import os
import re
from urllib.parse import unquote

from ..errors import ConfigError

HIDDEN = "***"
_NAMES = r"(?:passw(?:or)?d|pwd|pass|token|secret|key|auth|authorization|sig|signature|credentials?)"
#: Names of secret values: anywhere in a name, and only as its last word.
_ANYWHERE = r"passw|pwd|secret|token|credential|signature|api[_-]?key|access[_-]?key"
_AT_THE_END = r"key|pass|pw|sig|auth|authorization|jwt"
#: Addresses that carry what nobody else should read: a user and a password, which is not a port; a user of a server; a
#: named value.
CARRYING = [
    re.compile(r"(?<![a-z0-9+.-])(?!https?:)[a-z][a-z0-9+.-]*://[^/?#:\n]*:(?!//).*@", re.IGNORECASE),
    re.compile(r"https?://[^/?#:\n]*:(?!//|\d+(?:[/?#'\")\]\n]|,\s*['\"]?[a-z][a-z0-9+.-]*:|$)).*@", re.IGNORECASE),
    re.compile(r"https?://[^\s/?#'\",]+@", re.IGNORECASE),
    re.compile(rf"://.*[?&;#/][\w.-]*(?:{_ANYWHERE})[\w.-]*=", re.IGNORECASE),
    re.compile(rf"://.*[?&;#/](?:[\w.-]*[_.-])?(?:{_AT_THE_END})=", re.IGNORECASE),
]
#: The same, and headers of requests, as they stand in messages: what is before the secret is kept.
SHOWN = [
    (re.compile(r"(://)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"\b(basic|bearer|token|digest)\s+[\w+/=.~-]{4,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"(authorization['\"]?\s*[:=]\s*)[^\r\n]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"({_NAMES}['\"]?\s*[:=]\s*)[^\s&'\",;}}]+", re.IGNORECASE), rf"\1{HIDDEN}"),
]


def carries(text: str) -> bool:
    """Whether a text has an address with a user, a password or a token in it, however it is escaped."""
    # Hydra accepts `\:` for a colon, a URI `%3D` for an equals sign.
    plain = text.replace("\\", "")
    return any(pattern.search(spelt) for spelt in {text, plain, unquote(plain)} for pattern in CARRYING)


def refuse(text: str) -> None:
    """Refuse a command-line word that would put a secret into files and process lists. Errors: ConfigError."""
    if carries(text):
        raise ConfigError(REFUSAL)


def without(override: str) -> str:
    """An override, without its value if that carries a secret."""
    return f"{override.partition('=')[0]}={HIDDEN}" if carries(override) else override


REFUSAL = (
    "The address of a store or server holds a user, a password or a token, which the run's files would contain. "
    "Remove them and set the environment variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN; for a database, what its driver reads, such as PGPASSWORD."
)


def masked(text: str) -> str:
    """A text without the credentials of requests, wherever they come from."""
    for secret in _of_this_user():
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in SHOWN:
        text = pattern.sub(replacement, text)
    return text


def _of_this_user() -> list[str]:
    """This user's passwords and tokens for requests, and their encodings in headers; the longest first."""
    pairs = [(os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))]
    with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
        place = os.environ.get("NETRC") or os.path.join(os.path.expanduser("~"), ".netrc")
        pairs += [(user or "", password or "") for user, _, password in netrc.netrc(place).hosts.values()]
    with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
        stored = configparser.ConfigParser(interpolation=None)
        stored.read(os.path.join(os.path.expanduser("~"), ".mlflow", "credentials"), encoding="utf-8")
        names = ("mlflow_tracking_username", "mlflow_tracking_password")
        pairs += [(one.get(names[0], ""), one.get(names[1], "")) for one in stored.values()]
    secrets = {os.environ.get("MLFLOW_TRACKING_TOKEN", "")}
    for user, password in pairs:
        if password:
            secrets |= {password, base64.b64encode(f"{user}:{password}".encode()).decode()}
    return sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)
