"""`promptferry-client encrypt`: keys and ledger sealed, or sealed anew."""

from pathlib import Path
from typing import Annotated

import typer

from transfer.terminal import console
from transfer.terminal.session import of

Secret = Annotated[Path | None, typer.Option(help="File of a secret.", show_default="the one in use")]


def encrypt(context: typer.Context, secret: Secret = None) -> None:
    """Encrypt keys and ledger with a new key, for the first time or again, under the secret in use or another."""
    import tomli_w

    from client.home import custody
    from client.home import settings as config

    session = of(context)
    settings = config.read(session.directory)
    with console.doing("sealing keys and ledger"):
        version = custody.reseal(settings, secret)
    told = f"sealed keys and ledger with key {version}"
    if secret is not None and secret.resolve() != settings.client.secret:
        line = tomli_w.dumps({"secret": str(secret.resolve())}).strip()
        told += f"; now write {line} under [client] in {session.directory / config.FILE}"
    session.emit({"key": version, "secret": secret or settings.client.secret}, lambda _: told)
