"""What is in the logs of a day on which nothing went wrong: a start, a restart with clients, a campaign."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.processes import daemon
from tests.end_to_end.campaign import CLIENTS, TEXTS, Campaign
from transfer.tasks import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LINE = re.compile(r"(\S+Z (DEBUG|INFO|WARNING) (client|coordinator|transfer)[.a-z_]*: .+|serving: .+)")


def test_healthy_processes_log_their_own_lines_and_no_error(
    tiny_causal: Path, tiny_task: Task, tmp_path: Path
) -> None:
    campaign = Campaign(tmp_path, tiny_causal, tiny_task)
    rows = [{"text": f"{TEXTS[n % 4]} {n}", "label": n % 2} for n in range(20)]
    serve = "promptferry-coordinator", "--dir", campaign.coordinator, "serve"
    again = tmp_path / "again.log"
    with ExitStack() as stack:
        with daemon(*serve, log=campaign.serve_log, ready="serving:"):
            for number in range(CLIENTS):
                campaign._join(stack, number, rows, ("--records", 20))
        stack.enter_context(daemon(*serve, log=again, ready="serving:"))
        campaign.launch()
    logs = [campaign.serve_log, again, *(campaign.client(number) / "daemon.log" for number in range(CLIENTS))]
    for log in logs:
        lines = log.read_text().splitlines()
        assert lines
        assert [line for line in lines if not LINE.fullmatch(line)] == [], log
