"""The test files that look at a module, those that take less time first."""

_LEDGER = (
    "client/ledger/test_ledger.py",
    "client/ledger/test_budget.py",
    "client/ledger/test_schema.py",
    "client/ledger/test_place.py",
    "client/ledger/test_entries.py",
    "client/ledger/test_rows.py",
    "client/ledger/test_declines.py",
    "client/ledger/test_chain.py",
    "client/ledger/test_head_file.py",
    "client/ledger/test_file.py",
    "client/ledger/test_power_loss.py",
    "client/ledger/test_crash.py",
    "client/home/test_custody.py",
    "client/ledger/test_reseal.py",
)
_ROUND = (
    "client/rounds/test_participant.py",
    "client/rounds/test_decline.py",
    "client/rounds/test_release.py",
    "client/ledger/test_declines.py",
    "client/rounds/test_consent.py",
    "client/rounds/test_agreements.py",
    "client/rounds/test_policy.py",
    "client/daemon/test_process.py",
    "client/daemon/test_terminal.py",
    "client/ledger/test_crash.py",
)
MODULES: dict[str, tuple[str, ...]] = {
    "client.private.noise": ("client/private/test_noise.py", "client/private/test_exact_sums.py"),
    "client.private.dpsgd": (
        "client/private/test_dpsgd.py",
        "client/private/test_dpsgd_of_users.py",
        "client/private/test_exact_sums.py",
    ),
    "client.ledger.ledger": _LEDGER,
    "client.ledger.file": _LEDGER,
    "client.ledger.entries": _LEDGER,
    "client.ledger.chain": _LEDGER,
    "client.rounds.participant": _ROUND,
    "client.rounds.decline": _ROUND,
    "client.rounds.release": _ROUND,
    "transfer.privacy": ("transfer/test_privacy.py", "client/ledger/test_entries.py"),
}
