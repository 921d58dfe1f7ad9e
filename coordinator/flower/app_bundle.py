"""The bundle that Flower requires for a run: the manifest of an application without code."""

import hashlib
import io
import zipfile

_MANIFEST = """\
[project]
name = "promptferry"
version = "1.0.0"
[tool.flwr.app]
publisher = "promptferry"
[tool.flwr.app.components]
serverapp = "none:app"
clientapp = "none:app"
"""


def manifest() -> bytes:
    """Return the bundle of a run: the description of an application that does not exist."""
    digest = hashlib.sha256(_MANIFEST.encode()).hexdigest()
    files = {
        "pyproject.toml": _MANIFEST,
        ".info/CONTENT": f"pyproject.toml,{digest},{8 * len(_MANIFEST.encode())}",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        for name, text in files.items():
            bundle.writestr(zipfile.ZipInfo(name, (2024, 10, 1, 0, 0, 0)), text)
    return packed.getvalue()
