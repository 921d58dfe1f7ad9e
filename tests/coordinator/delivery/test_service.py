"""promptferry.v1 as any gRPC client meets it: statuses, limits, TLS, health."""

from pathlib import Path

import grpc
import pytest

from tests.coordinator.delivery.calls import TARGET, VECTORS, get, received, refused


def test_a_version_and_the_latest_are_given_with_files_and_statement(delivery, prompts) -> None:
    versions = [delivery.publish("sst2", TARGET, VECTORS * n) for n in (1, 2)]

    first, latest = get(prompts, "prompts/sst2/versions/1"), get(prompts, "prompts/sst2/versions/latest")
    assert (first.name, latest.name) == ("prompts/sst2/versions/1", "prompts/sst2/versions/2")
    assert first.statement.payload == versions[0].statement.payload
    assert {file.path: file.digest for file in latest.files} == {
        file.path: file.digest for file in versions[1].files
    }


def test_a_revoked_version_reads_like_one_that_never_was(delivery, prompts) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    delivery.publish("sst2", TARGET, VECTORS)
    absent = refused(lambda: get(prompts, "prompts/sst2/versions/3"))
    delivery.store.set_prompt_state("sst2", 2, "revoked")
    revoked = refused(lambda: get(prompts, "prompts/sst2/versions/2"))

    assert absent[0] is grpc.StatusCode.NOT_FOUND
    assert revoked == (absent[0], absent[1].replace("3", "2"), "not_found")
    assert get(prompts, "prompts/sst2/versions/latest").name == "prompts/sst2/versions/1"
    download = refused(
        lambda: received(prompts.DownloadPromptFile, "prompts/sst2/versions/2", "adapter_config.json")
    )
    assert download == revoked


@pytest.mark.parametrize(
    "name",
    ["", "sst2", "prompts/sst2", "prompts/A/versions/1", "prompts/x/versions/0", "prompts/x/versions/1/y"],
)
def test_a_malformed_name_is_an_invalid_argument(prompts, name: str) -> None:
    status, text, symbol = refused(lambda: get(prompts, name))
    assert (status, symbol) == (grpc.StatusCode.INVALID_ARGUMENT, "usage")
    assert "\n" not in text


def test_a_download_goes_on_from_its_offset_in_small_chunks(delivery, proxies, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "model.safetensors").write_bytes(content)
    delivery.add_proxy("tiny", tmp_path / "proxy")

    for offset in (0, 1, 65_536, len(content) - 1, len(content)):
        chunks = received(proxies.DownloadProxyFile, "proxies/tiny", "model.safetensors", offset)
        assert b"".join(chunks) == content[offset:]
        assert all(0 < len(chunk) <= 32_768 for chunk in chunks)
    for offset in (-1, len(content) + 1):
        status, text, _ = refused(
            lambda at=offset: received(proxies.DownloadProxyFile, "proxies/tiny", "model.safetensors", at)
        )
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert f"offset {offset} is outside" in text


@pytest.mark.parametrize(
    "path", ["secret", "../publisher.key", "/etc/passwd", "", ".", "sub/file", "config.json\0"]
)
def test_a_file_that_is_not_listed_is_not_there(delivery, proxies, tmp_path: Path, path: str) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    delivery.add_proxy("tiny", directory)
    (directory / "secret").write_text("private")
    (tmp_path / "publisher.key").write_text("private")

    status, _, symbol = refused(lambda: received(proxies.DownloadProxyFile, "proxies/tiny", path))
    assert (status, symbol) == (grpc.StatusCode.NOT_FOUND, "not_found")


def test_a_damaged_proxy_is_unavailable_and_names_no_path(delivery, proxies, tmp_path: Path) -> None:
    directory = tmp_path / "proxy"
    directory.mkdir()
    (directory / "config.json").write_text("{}" * 1000)
    delivery.add_proxy("tiny", directory)

    (directory / "config.json").write_text("{}")
    assert refused(lambda: received(proxies.DownloadProxyFile, "proxies/tiny", "config.json"))[0] is (
        grpc.StatusCode.UNAVAILABLE
    )
    (directory / "config.json").unlink()
    status, text, _ = refused(lambda: received(proxies.DownloadProxyFile, "proxies/tiny", "config.json"))
    assert status is grpc.StatusCode.UNAVAILABLE
    assert str(tmp_path) not in text


def test_a_download_of_the_latest_is_refused(delivery, prompts) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    status, text, _ = refused(
        lambda: received(prompts.DownloadPromptFile, "prompts/sst2/versions/latest", "adapter_config.json")
    )
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert "a download names its version" in text
