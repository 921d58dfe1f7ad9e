"""What tests of this room share."""


def mallory_of(world):
    """A fourth client; sorted between the honest ones, so that order cannot hide a difference."""
    return type(world.fleet.owners["ada"])("bob", lambda request: request.prompt.vectors * 0 + 0.1)
