"""Models come from the hub when somebody says so: here from one on loopback, in a process of its own."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0" * 39 + "1"
NAME = "someone/tiny"


@dataclass
class Hub:
    """What the loopback hub holds, and what it was asked for."""

    files: dict[str, bytes]
    address: str = ""
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does to who looks for a model, and for one of its files."""

    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked.append(self.path)
        prefix = f"/{NAME}/resolve/{COMMIT}/"
        content = self.hub.files.get(self.path.removeprefix(prefix)) if self.path.startswith(prefix) else None
        if self.path.startswith(f"/api/models/{NAME}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(file), "oid": hashlib.sha1(file).hexdigest()}  # noqa: S324
                for name, file in self.hub.files.items()
            ]
            self._answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith(f"/api/models/{NAME}"):
            siblings = [{"rfilename": name} for name in self.hub.files]
            told = json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode()
            self._answer(200, told, {"Content-Type": "application/json"})
        elif content is not None:
            etag = hashlib.sha256(content).hexdigest()
            self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tiny_causal: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in tiny_causal.iterdir()}
    made = Hub(
        files | {"modeling_own.py": b"raise SystemExit", "pytorch_model.bin": b"x", "onnx/config.json": b"{}"}
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": made})) as server:
        made.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def coordinator(place: Path, *words: object, hub: str, **more: str) -> subprocess.CompletedProcess[str]:
    given = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    given |= {"HF_HOME": str(place / "hf"), "HF_ENDPOINT": hub, **more}
    command = [Path(sys.executable).parent / "promptferry-coordinator", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=place, env=given, timeout=120
    )


@pytest.mark.slow
def test_init_downloads_what_it_is_told_to_and_no_code_or_pickles(hub: Hub, tmp_path: Path) -> None:
    done = coordinator(tmp_path, "init", "here", "--target", NAME, "--download", hub=hub.address)
    assert done.returncode == 0, done.stderr
    assert f"downloading {NAME} from {hub.address}" in done.stderr
    (snapshot,) = (tmp_path / "hf").rglob("snapshots/*")
    got = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()}
    assert got >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert not got & {"modeling_own.py", "pytorch_model.bin", "onnx/config.json"}


@pytest.mark.slow
def test_a_directory_is_not_asked_for_anywhere(hub: Hub, tmp_path: Path, tiny_causal: Path) -> None:
    done = coordinator(tmp_path, "init", "here", "--target", tiny_causal, "--download", hub=hub.address)
    assert done.returncode == 0, done.stderr
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("someone/else", {}, "someone/else: cannot be downloaded: "),
        pytest.param(
            NAME, {"HF_HUB_OFFLINE": "1"}, f"{NAME}: cannot be downloaded: ", marks=pytest.mark.slow
        ),
        pytest.param(
            NAME,
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            f"{NAME}: cannot be downloaded: ",
            marks=pytest.mark.slow,
        ),
        pytest.param("no//name", {}, "no//name: cannot be downloaded: ", marks=pytest.mark.slow),
    ],
)
def test_whatever_goes_wrong_is_one_line_and_nothing_is_made(
    hub: Hub, tmp_path: Path, name: str, settings: dict[str, str], message: str
) -> None:
    words = ("init", "here", "--target", name, "--download", "--format", "json")
    done = coordinator(tmp_path, *words, hub=hub.address, **settings)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "model"
    said = [line for line in done.stderr.splitlines() if not line.startswith("downloading")]
    assert len(said) == 1
    assert said[0].startswith(f"error: {message}")
    assert not (tmp_path / "here").exists()


@pytest.mark.slow
def test_weights_that_are_pickles_only_are_refused(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    done = coordinator(tmp_path, "init", "here", "--target", NAME, "--download", hub=hub.address)
    assert (done.returncode, "no weights of it as safetensors" in done.stderr) == (2, True)
