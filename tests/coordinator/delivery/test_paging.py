"""Pages of a listing lead back to where they ended."""

from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.delivery import paging
from promptferry.v1 import service_pb2
from tests.coordinator.delivery.calls import TARGET, VECTORS, refused
from transfer.errors import UsageError


def test_a_listing_is_newest_first_and_pages_do_not_shift(delivery, prompts) -> None:
    for index in range(5):
        delivery.publish(f"p{index % 2}", TARGET, VECTORS)
    delivery.store.set_prompt_state("p0", 2, "revoked")

    seen, token = [], ""
    while True:
        request = service_pb2.ListPromptVersionsRequest(parent="prompts/-", page_size=2, page_token=token)
        page = prompts.ListPromptVersions(request, timeout=20)
        assert len(page.prompt_versions) <= 2
        seen += [version.name for version in page.prompt_versions]
        delivery.publish("later", TARGET, VECTORS)
        if not (token := page.next_page_token):
            break
    assert seen == [
        f"prompts/{name}" for name in ("p0/versions/3", "p1/versions/2", "p1/versions/1", "p0/versions/1")
    ]
    one = service_pb2.ListPromptVersionsRequest(parent="prompts/p1")
    assert len(prompts.ListPromptVersions(one, timeout=20).prompt_versions) == 2


def test_proxies_are_listed_in_pages(delivery, proxies, tiny_causal: Path) -> None:
    for index in range(3):
        delivery.add_proxy(f"p{index}", tiny_causal)
    first = proxies.ListProxies(service_pb2.ListProxiesRequest(page_size=2), timeout=20)
    delivery.add_proxy("later", tiny_causal)
    rest = proxies.ListProxies(service_pb2.ListProxiesRequest(page_token=first.next_page_token), timeout=20)

    assert [proxy.name for proxy in first.proxies] == ["proxies/p2", "proxies/p1"]
    assert [proxy.name for proxy in rest.proxies] == ["proxies/p0"]
    assert rest.next_page_token == ""


@given(st.integers(0, 10**18 - 1), st.sampled_from(["proxies", "prompts/-", "prompts/a"]))
def test_a_page_token_leads_back_to_its_position(position: int, listing: str) -> None:
    assert paging.cursor(paging.token(position, listing), listing) == position


@given(st.text() | st.builds(paging.token, st.integers(0, 9), st.just("prompts/other")))
def test_a_foreign_page_token_is_refused(token: str) -> None:
    if not token:
        return
    with pytest.raises(UsageError, match="page_token is not one that this listing gave out"):
        paging.cursor(token, "prompts/-")


def test_impossible_pages_are_refused(delivery, prompts, proxies) -> None:
    negative = service_pb2.ListProxiesRequest(page_size=-1)
    assert refused(lambda: proxies.ListProxies(negative))[0] is grpc.StatusCode.INVALID_ARGUMENT
    foreign = service_pb2.ListPromptVersionsRequest(parent="prompts/-", page_token="x")
    assert refused(lambda: prompts.ListPromptVersions(foreign))[0] is grpc.StatusCode.INVALID_ARGUMENT
