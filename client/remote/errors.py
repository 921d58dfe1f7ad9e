"""gRPC's failures as this project's errors: what the coordinator raised, or why it cannot be reached."""

from typing import NoReturn

import grpc

from transfer import errors, names
from transfer.errors import DeadlineError, PromptferryError, UnavailableError, VerificationError

_BY_SYMBOL = {
    kind("").symbol: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PromptferryError)
}


def raise_ours(fault: grpc.RpcError, address: str) -> NoReturn:
    """Raise the error that best describes why a call to `address` failed.

    Raises:
        VerificationError: the server's certificate is not accepted.
        UnavailableError: nothing answers, or not with this protocol.
        DeadlineError: the answer took too long.
        PromptferryError: of the class that the coordinator raised.
    """
    text = _one_line(fault.details() or "")
    trailing = fault.trailing_metadata() or ()
    symbol = next((str(item.value) for item in trailing if item.key == names.ERROR_KEY), "")
    if symbol in _BY_SYMBOL:
        raise _BY_SYMBOL[symbol](text) from fault
    match fault.code():
        case grpc.StatusCode.UNAVAILABLE:
            raise _unreachable(text, address) from fault
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineError(f"the coordinator at {address} did not answer in time") from fault
        case grpc.StatusCode.UNIMPLEMENTED:
            raise UnavailableError(f"{address} is not a coordinator of this version: {text}") from fault
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            raise PromptferryError(f"the coordinator at {address} failed: {text}") from fault
        case code:
            raise UnavailableError(
                f"the coordinator at {address} refused the call: {code.name}: {text}"
            ) from fault


def _unreachable(text: str, address: str) -> PromptferryError:
    # gRPC has no status of its own for a failed handshake, so its texts are matched; tests pin them
    if "certificate has expired" in text:
        return VerificationError(f"the certificate shown at {address} has expired")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return VerificationError(f"the certificate shown at {address} is not signed by the given CA")
    if "Hostname Verification Check failed" in text:
        return VerificationError(f"the certificate shown at {address} is for another host")
    if "Tls handshake failed" in text:
        return UnavailableError(
            f"no coordinator answers at {address}: what listens there does not speak TLS 1.3"
        )
    if "Connection refused" in text:
        return UnavailableError(f"no coordinator answers at {address}: connection refused")
    return UnavailableError(f"no coordinator answers at {address}: {text}")


def _one_line(text: str) -> str:
    """Return text from the server as one printable line, so that it cannot control a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:500]
