"""The room with private text: the only code that opens it, holds it, or takes gradients of it."""
