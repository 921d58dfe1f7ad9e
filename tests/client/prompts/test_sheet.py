"""Listings and sheets say what is claimed, and whether it is verified."""

import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.client.prompts.recipient import TARGET, VECTORS


def test_prompts_are_listed_with_the_privacy_they_claim(delivery, run) -> None:
    for prompt in ("sst2", "agnews", "sst2"):
        delivery.publish(prompt, TARGET, VECTORS)

    text, latest, every = (
        run("list"),
        run("list", "--format", "json"),
        run("list", "--all", "--format", "json"),
    )
    assert text.status == latest.status == 0
    assert re.search(r"sst2 +2 .* yes +reviews +target +3\.9 +1e-06", text.out)
    assert [(row["name"], row["version"], row["verified"]) for row in latest.json] == [
        ("sst2", 2, True),
        ("agnews", 1, True),
    ]
    assert [row["version"] for row in every.json] == [2, 1, 1]
    assert latest.json[0]["epsilon"] == 3.9


def test_a_prompt_of_another_signer_is_listed_and_not_believed(delivery, run) -> None:
    delivery.publish("sst2", TARGET, VECTORS, key=Ed25519PrivateKey.generate())
    assert run("list", "--format", "json").json[0]["verified"] is False
    assert "epsilon" not in run("list", "--format", "json").json[0]
    assert " NO " in run("list").out


def test_an_empty_catalogue_is_told(run) -> None:
    assert run("list").out == "no prompt is published\n"
    assert run("list", "--format", "json").json == []


def test_show_gives_the_verified_statement(delivery, run) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    shown = run("show", "sst2", "--format", "json").json
    assert (shown["name"], shown["version"], shown["verified"]) == ("sst2", 1, True)
    assert shown["statement"]["privacy"]["unit"] == "record"
    told = run("show", "sst2").out
    assert "ε 3.9 at δ 1e-06 for one record (add/remove one), worst client" in told
    assert "clinic-a: ε 3.9 at δ 1e-06; b: ε 2.5 at δ 1e-07" in told
    assert "great, good" in told
    assert "{" not in told.replace("{text}", "").replace("{answer}", "")
    assert len(told.splitlines()) < 20


def test_a_prompt_names_those_that_its_start_was_learnt_from(delivery, run) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    assert "learnt from" not in run("show", "sst2").out
    other = {
        "prompt": "prompts/news/versions/2",
        "sha256": "a" * 64,
        "campaign": "news",
        "epsilon": 3.0,
        "delta": 1e-6,
    }
    start = {"length": 4, "init": "library", "learnt_from": [other]}
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["lineage"].update(start=start))
    assert "start        learnt from prompts/news/versions/2" in run("show", "sst2").out


def test_a_prompt_that_does_not_beat_what_is_free_is_shown_as_one(delivery, run) -> None:
    losses = {"transferred": 0.2, "start": 0.9, "public prior": 0.2, "public start": 0.1}
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["lineage"].update(held_out_loss=losses))
    assert "not better   than public prior, public start, on public text" in run("show", "sst2").out
    losses["transferred"] = 0.05
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["lineage"].update(held_out_loss=losses))
    assert "not better" not in run("show", "sst2").out


TWIN = {"numbers": "nf4", "texts": 400, "agreement": 0.9825, "kl": 0.0123}


def test_what_changes_on_a_quantised_twin_is_shown_fetched_and_verified(delivery, run, tmp_path) -> None:
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["lineage"].update(twins=[TWIN]))
    assert run("show", "sst2", "--format", "json").json["twins"] == [TWIN]
    for words in (
        ("show", "sst2"),
        ("fetch", "sst2", "--out", tmp_path / "got"),
        ("verify", tmp_path / "got"),
    ):
        told = run(*words).out
        assert re.search(r"^made on +the target in float32$", told, re.MULTILINE), told
        line = r"^  in nf4 +98\.2% of 400 public texts are answered alike, KL 0\.012 nats$"
        assert re.search(line, told, re.MULTILINE), told


def test_a_prompt_without_a_measured_twin_tells_of_none(delivery, run) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    assert run("show", "sst2", "--format", "json").json["twins"] == []
    assert "made on" not in run("show", "sst2").out


WORDING = {
    "formats": 12,
    "texts": 200,
    "prompted": {"agreement": 0.955, "least": 0.9, "index": 0.123},
    "bare": {"agreement": 0.8, "least": 0.625, "index": 0.4},
    "drift": 1.234,
    "random_drift": 3.0,
}


def test_what_the_wording_does_is_shown_fetched_and_verified(delivery, run, tmp_path) -> None:
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["lineage"].update(wording=WORDING))
    assert run("show", "sst2", "--format", "json").json["wording"] == WORDING
    for words in (
        ("show", "sst2"),
        ("fetch", "sst2", "--out", tmp_path / "got"),
        ("verify", tmp_path / "got"),
    ):
        told = run(*words).out
        wording = (
            r"wording +in 11 other formats of the question, 95.5% of 200 public texts are answered alike \(90.0% in"
            r" the worst\); without the prompt 80.0% \(62.5%\)"
        )
        for line in (
            wording,
            "POSIX +0.12 nats over the labels; without the prompt 0.4",
            "drift +KL 1.2 nats behind plain text; of a random prompt 3",
        ):
            assert re.search(f"^{line}$", told, re.MULTILINE), told


SCAN = {
    "label": "positive",
    "texts": 64,
    "excess": 0.5,
    "words": [
        {"word": "zinc", "rate": 0.125, "wording_rate": 0.0},
        {"word": "sun", "rate": 0.75, "wording_rate": 0.25},
    ],
}


def test_a_scan_in_which_no_word_turns_more_says_so(delivery, run) -> None:
    quiet = {**SCAN, "excess": -0.03, "words": []}
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["lineage"].update(triggers=quiet))
    assert (
        "no word turns more answers than behind the bare wording, of 64 public texts"
        in run("show", "sst2").out
    )


def test_the_words_that_the_trigger_scan_lists_are_shown_fetched_and_verified(
    delivery, run, tmp_path
) -> None:
    delivery.publish("sst2", TARGET, VECTORS, forge=lambda told: told["lineage"].update(triggers=SCAN))
    assert run("show", "sst2", "--format", "json").json["triggers"] == SCAN
    line = (
        "trigger scan +a word turns up to 50.0% more answers to positive than behind the bare wording, of 64 public"
        r" texts; least expected: 'zinc' 12.5% \(0.0%\), 'sun' 75.0% \(25.0%\)"
    )
    for words in (
        ("show", "sst2"),
        ("fetch", "sst2", "--out", tmp_path / "got"),
        ("verify", tmp_path / "got"),
    ):
        assert re.search(f"^{line}$", run(*words).out, re.MULTILINE)


def test_a_prompt_without_wording_or_triggers_measured_tells_of_none(delivery, run) -> None:
    delivery.publish("sst2", TARGET, VECTORS)
    shown = run("show", "sst2", "--format", "json").json
    assert shown["wording"] is None
    assert shown["triggers"] is None
    text = run("show", "sst2").out
    assert "POSIX" not in text
    assert "trigger" not in text
