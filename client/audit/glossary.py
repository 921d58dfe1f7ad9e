"""What the numbers and terms of an audit are called on its page, for readers who do not work on privacy."""

NAMES = {
    "share_of_claim": "measured share of the claim",
    "mu": "μ, measured at least",
    "claimed_mu": "μ, claimed",
    "one_run_bound": "ε at least, from the guesses alone",
    "gaussian_bound": "ε at least, from the scores",
    "gaussian_estimate": "ε, best estimate from the scores",
    "accounted": "ε by the ledger",
    "auc": "AUC; 0.5 is guessing",
    "true_positives_at_1_percent": "share found at 1 % false alarms",
    "allowed_at_1_percent": "share that ε and δ would allow there",
    "noise_multiplier": "noise multiplier σ",
    "gaussian_confidence": "confidence of the bound from the scores",
    "shadows": "shadow prompts",
    "dimensions": "directions tuned in; 0 for all",
}
"""By key of a finding; a key without a name of its own is shown with spaces."""

GLOSSARY = {
    "ε": "how much more likely any outcome can become because one record is in the data: e^ε times, at most. "
    "0 would tell nothing of anybody; the larger it is, the more can be told.",
    "δ": "the chance that the promise of ε does not hold, for one record. It is kept far below one in the number of "
    "records.",
    "claimed": "what this installation says of itself, computed from the noise it adds.",
    "measured": "what the attacks of this page could prove. Above the claim, the claim is false; below it, nothing "
    "contradicts the claim, which is no proof that it holds.",
    "canary": "a made-up record that a coin puts in or leaves out; the attacker then guesses which.",
    "σ": "the noise in each step, as a multiple of the most that one record can change.",
    "μ": "the same in the other direction: how far a record can shift a step, in units of its noise.",
    "AUC": "how often an attacker ranks a record that was used above one that was not: 0.5 by guessing, 1 always.",
    "false alarm": "a record that was not used, and that the attacker takes for one that was.",
    "shadow prompt": "a prompt tuned on half of the records, to learn what an attacker could see. It never leaves "
    "the memory of this machine.",
}


def name(key: str) -> str:
    """What a number is called; symbols stay as they are."""
    return NAMES.get(key, key.replace("_", " "))
