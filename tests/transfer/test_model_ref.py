"""A model is known by its kind, name and files."""

from transfer.models.loading import load


def test_a_model_knows_its_kind_name_and_files(tiny_causal, tiny_masked, tiny_gpt2):
    kinds = [load(path).lm_head for path in (tiny_causal, tiny_masked, tiny_gpt2)]
    assert kinds == ["causal", "masked", "causal"]
    assert load(tiny_causal).ref.name == "lm"
    named = load(tiny_causal, name="mine").ref
    assert (named.name, named.digest) == ("mine", load(tiny_causal).ref.digest)
