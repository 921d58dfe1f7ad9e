"""`promptferry-client encrypt`: seals keys and ledger, for the first time or again."""

from pathlib import Path
from typing import Annotated

import typer

from transfer.terminal import console
from transfer.terminal.session import of

Secret = Annotated[Path | None, typer.Option(help="File with a secret.", show_default="the one in use")]


def encrypt(context: typer.Context, secret: Secret = None) -> None:
    """Encrypt keys and ledger with a new key, under the secret in use or another one."""
    import tomli_w

    from client.home import custody
    from client.home import settings as config

    session = of(context)
    settings = config.read(session.directory)
    with console.doing("sealing keys and ledger"):
        version = custody.reseal(settings, secret)
    message = f"sealed keys and ledger with key {version}"
    if secret is not None and secret.resolve() != settings.client.secret:
        line = tomli_w.dumps({"secret": str(secret.resolve())}).strip()
        message += f"; now write {line} under [client] in {session.directory / config.FILE}"
    session.emit({"key": version, "secret": secret or settings.client.secret}, lambda _: message)
