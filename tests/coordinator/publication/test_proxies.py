"""A proxy is used as it was registered, or not at all."""

from dataclasses import replace

from transfer.model_ref import ModelRef


def test_a_proxy_changed_on_disk_is_not_used(world, tmp_path):
    record = world.store.proxy("tiny")
    world.store.add_proxy(replace(record, name="other", model=ModelRef("other", "1" * 64)))
    assert "registered was 1111" in world.carry_out(proxy="other").detail
