"""Regenerate the protobuf and gRPC code beside the .proto files, or `--check` that it is fresh.

Usage: python proto/generate.py [--check]
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent


def generate(out: Path) -> None:
    """Write *_pb2.py, *_pb2_grpc.py and their .pyi into `out`, laid out like the import root."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    kinds = ["--python_out", "--grpc_python_out", "--mypy_out", "--mypy_grpc_out"]
    include = str(files("grpc_tools") / "_proto")
    # by path: the environment's bin directory need not be on PATH
    plugins = [
        f"--plugin={name}={Path(sys.executable).parent / name}"
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    arguments = [
        "protoc",
        *plugins,
        f"-I{ROOT}",
        f"-I{include}",
        *(f"{kind}={out}" for kind in kinds),
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    for path in (*out.rglob("*_pb2_grpc.py"), *out.rglob("*_pb2_grpc.pyi")):
        if (
            "\nservice "
            not in (ROOT / path.relative_to(out)).with_name(path.name.split("_pb2")[0] + ".proto").read_text()
        ):
            path.unlink()  # a file without a service needs no stubs


def main() -> int:
    """Regenerate in place, or with --check compare and exit 1 on any difference."""
    if "--check" not in sys.argv[1:]:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {str(path.relative_to(scratch)): path.read_bytes() for path in Path(scratch).rglob("*_pb2*")}
    held = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in ROOT.rglob("*_pb2*.py*")
        if path.suffix != ".pyc"
    }
    stale = sorted(name for name in fresh.keys() | held.keys() if fresh.get(name) != held.get(name))
    for name in stale:
        print(f"proto/{name}: differs from its .proto; run python proto/generate.py", file=sys.stderr)  # noqa: T201
    return bool(stale)


if __name__ == "__main__":
    raise SystemExit(main())
