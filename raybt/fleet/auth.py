"""Ray's token authentication, as a user meets it. Imports no Ray: Ray reads its mode from the environment once."""

import os
from pathlib import Path

MODE = "RAY_AUTH_MODE"


def token_file() -> Path:
    """Where Ray keeps a user's token unless told otherwise."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def use_token() -> None:
    """Show the user's token to clusters that ask for one; to be called before Ray is imported.

    A Ray that this user starts asks for it from then on, while a client by itself does not send it.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or token_file().exists():
        os.environ.setdefault(MODE, "token")


def protect_token() -> None:
    """Ray writes the token readable to all; whoever reads it can run code on the cluster."""
    if token_file().exists():
        token_file().chmod(0o600)
