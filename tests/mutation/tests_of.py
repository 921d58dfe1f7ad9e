"""The test files that look at a module, those that take less time first."""

_LEDGER = (
    "client/test_ledger.py",
    "client/test_ledger_units.py",
    "client/test_declines.py",
    "client/test_chain.py",
    "client/test_power_loss.py",
    "client/test_ledger_crash.py",
    "client/test_encryption.py",
)
_ROUND = (
    "client/test_participant.py",
    "client/test_declines.py",
    "client/test_consent.py",
    "client/test_policy.py",
    "client/test_daemon.py",
    "client/test_ledger_crash.py",
)
MODULES: dict[str, tuple[str, ...]] = {
    "client.noise": ("client/test_noise.py", "client/test_exactness.py"),
    "client.tuning": ("client/test_tuning.py", "client/test_user_tuning.py", "client/test_exactness.py"),
    "client.ledger": _LEDGER,
    "client.ledger_file": _LEDGER,
    "client.entries": _LEDGER,
    "client.chain": _LEDGER,
    "client.participant": _ROUND,
    "client.release": _ROUND,
    "transfer.privacy": ("transfer/test_privacy.py", "client/test_ledger_units.py"),
}
