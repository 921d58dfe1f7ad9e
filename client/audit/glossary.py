"""Names of an audit's numbers and meanings of its terms, for readers who do not work on privacy."""

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
    "ε": "the limit on how much more likely one record can make any outcome: at most e^ε times. With 0, nothing "
    "can be learnt about anybody; the larger ε is, the more can be learnt.",
    "δ": "the probability that the limit ε does not hold for one record. It is far below one divided by the number "
    "of records.",
    "claimed": "the value that this installation computes from the noise it adds.",
    "measured": "the value that the attacks on this page could prove. If it is above the claim, the claim is false. "
    "If it is below, nothing contradicts the claim, but that does not prove it.",
    "canary": "a made-up record that a coin flip includes or leaves out; the attacker guesses which.",
    "σ": "the noise in each step, as a multiple of the most that one record can change.",
    "μ": "the inverse view: how far a record can shift a step, in units of its noise.",
    "AUC": "how often an attacker ranks a used record above an unused one: 0.5 by guessing, 1 always.",
    "false alarm": "an unused record that the attacker takes for a used one.",
    "shadow prompt": "a prompt tuned on half of the records, to find out what an attacker could learn. It never "
    "leaves the memory of this machine.",
}


def name(key: str) -> str:
    """Return the name of a number; symbols stay as they are."""
    return NAMES.get(key, key.replace("_", " "))
