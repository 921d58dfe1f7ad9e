"""`promptferry-coordinator doctor`: what is broken and what is not."""


def test_doctor_finds_what_is_broken_and_what_is_not(proxied):
    found = {item["check"]: item for item in proxied.json("doctor")}
    assert proxied.status == 1
    assert [name for name, item in found.items() if not item["healthy"]] == ["serving"]
    (proxied.directory / "secret").chmod(0o644)
    weights = proxied.directory / "proxies" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    found = {item["check"]: item for item in proxied.json("doctor")}
    assert "chmod 600" in found["keys"]["detail"]
    assert "proxy tiny: the files differ from those registered" in found["proxies"]["detail"]
