"""`promptferry-coordinator client invite | list | revoke`: the data owners that take part."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coordinator.commands.session import of
from transfer.errors import AlreadyExistsError, ConfigError
from transfer.terminal import console

if TYPE_CHECKING:
    from coordinator.store.records import Client

app = console.application("Data owners: invite, list and revoke them.")


@app.command("invite")
def invite(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the client, [a-z0-9-].")],
    out: Annotated[Path, typer.Option(help="Invitation file to write; hand it over in confidence.")],
    days: Annotated[float, typer.Option(min=0.001, max=365, help="Days until it expires.")] = 7.0,
) -> None:
    """Write an invitation: a one-time token, the coordinator's address, and the keys to trust."""
    import tomli_w

    from coordinator.delivery import enrolment
    from coordinator.store.records import utc_now
    from transfer.files.atomic import write_new

    session = of(context)
    config = session.config()
    if out.exists():
        raise AlreadyExistsError(
            f"{out} exists already: invitations are never overwritten; choose another --out"
        )
    address, now, lifetime = config.delivery.address(config.delivery.port), utc_now(), timedelta(days=days)
    trusted = {"ca": _pem(config.pki.ca), "publisher_key": _pem(config.pki.publisher_public_key)}
    with session.store() as store:
        token = enrolment.invite(store, name, now, lifetime)
    expire = (now + lifetime).replace(microsecond=0)
    invitation = {"client": name, "token": token, "coordinator": address, "expire_time": expire, **trusted}
    write_new(out, tomli_w.dumps(invitation, multiline_strings=True).encode())
    session.emit(
        {"client": name, "file": out, "coordinator": address, "expire_time": expire},
        lambda values: (
            f"wrote {out}: {name} can enrol at {address} until {values['expire_time']:%Y-%m-%d %H:%M} UTC"
        ),
    )


@app.command("list")
def list_(context: typer.Context) -> None:
    """List every client with its state."""
    session = of(context)
    with session.store() as store:
        clients = store.clients()
    session.emit([_values(client) for client in clients], _listed)


@app.command("revoke")
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the client.")]) -> None:
    """Revoke a client for good; its keys are never admitted again."""
    session = of(context)
    with session.store() as store:
        client = store.revoke(name)
    session.emit(_values(client), lambda values: f"{values['client']} is {values['state']}")


def _pem(path: Path) -> str:
    from transfer.files.text import NotTextError, decoded

    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except NotTextError as error:
        raise ConfigError(error.of(path)) from error


def _values(client: "Client") -> dict[str, object]:
    return {
        "client": client.name,
        "state": client.state,
        "invited": client.create_time,
        "enrolled": client.enrol_time,
        "expires": client.expire_time if client.enrol_time is None else None,
    }


def _listed(clients: list[dict[str, object]]) -> Table:
    table = Table("client", "state", "since")
    for client in clients:
        table.add_row(
            str(client["client"]),
            str(client["state"]),
            f"{client['enrolled'] or client['invited']:%Y-%m-%d %H:%M}",
        )
    return table
