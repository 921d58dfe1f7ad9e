"""What a coordinator or a node can make the other side do: nothing but answer."""

import io
import threading
import time
import zipfile

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import push_objects

import client.daemon.polling as adapter
from client.daemon import node as own_node
from client.daemon.link import Link
from coordinator.flower.app_bundle import manifest
from coordinator.flower.run import Arrival, Run
from coordinator.rounds.fleet import Outcome


@pytest.mark.promise("no-foreign-code")
def test_a_message_that_is_not_ours_is_refused_and_runs_nothing(federation, nodes):
    calls: list[bytes] = []
    nodes.enrol(federation, "strict")
    nodes.start(federation, "strict", lambda request: calls.append(request) or b"")
    federation.exchange({"strict": b"ours"}, deadline_s=20)
    run, node_id = federation._run, federation.online()["strict"]
    ours = ConfigRecord({"request": b"x"})
    foreign = {
        "another type": (RecordDict({"promptferry": ours}), "evaluate"),
        "an action": (RecordDict({"promptferry": ours}), "train.fit"),
        "no record": (RecordDict({}), "train"),
        "another record": (RecordDict({"other": ours}), "train"),
        "a second record": (RecordDict({"promptferry": ours, "other": ours}), "train"),
        "no field": (RecordDict({"promptferry": ConfigRecord({})}), "train"),
        "text": (RecordDict({"promptferry": ConfigRecord({"request": "x"})}), "train"),
        "a second field": (
            RecordDict({"promptferry": ConfigRecord({"request": b"x", "code": b"y"})}),
            "train",
        ),
    }
    ids = {}
    for what, (content, message_type) in foreign.items():
        (ids[what],) = run._grid.push_messages([Message(content, node_id, message_type, ttl=60)])
    refused: dict[str, Outcome | None] = {}
    while waiting := set(ids.values()) - refused.keys():
        refused |= {arrival.message_id: arrival.outcome for arrival in run.pull(waiting, 5)}
        time.sleep(0.1)
    assert {what: refused[ids[what]] for what in foreign} == dict.fromkeys(
        foreign, Outcome(error="malformed_request")
    )
    assert calls == [b"ours"]


def test_a_reply_counts_for_its_envelope_whatever_its_inside_claims(federation, nodes):
    """Flower checks the envelope of a reply; what is inside it, a node writes as it likes."""
    nodes.enrol(federation, "forger", "victim")
    links = {name: Link(federation.address, nodes.ca_pem, nodes.keys[name]) for name in ("forger", "victim")}
    run = Run(federation._superlink, federation._control, federation._bundle)
    with (
        own_node.Fleet(links["forger"]) as fleet,
        own_node.signed_on(fleet, []) as forger,
        own_node.Fleet(links["victim"]) as other,
        own_node.signed_on(other, []) as victim,
    ):
        own, foreign = (run.push(node.node_id, b"x", 60) for node in (forger, victim))
        pulled = fleet.PullMessages(PullMessagesRequest(node=forger))
        reply = Message(
            RecordDict({"promptferry": ConfigRecord({"reply": b"forged"})}),
            reply_to=message_from_proto(pulled.messages_list[0]),
        )
        reply.metadata._reply_to_message_id = foreign
        reply.metadata._src_node_id = victim.node_id
        reply.metadata.__dict__["_message_id"] = reply.object_id
        envelope = message_to_proto(remove_content_from_message(reply))
        envelope.metadata.reply_to_message_id = own
        envelope.metadata.src_node_id = forger.node_id
        pushed = fleet.PushMessages(
            PushMessagesRequest(
                node=forger, messages_list=[envelope], message_object_trees=[get_object_tree(reply)]
            )
        )
        push = make_push_object_fn_protobuf(
            fleet.PushObject, forger, pulled.messages_list[0].metadata.run_id, pushed.session_id
        )
        push_objects(get_all_nested_objects(reply), push, object_ids_to_push=set(pushed.objects_to_push))
        (arrival,) = run.pull({own, foreign}, 5)
    run.close()
    assert arrival == Arrival(own, forger.node_id, Outcome(reply=b"forged"))


def test_a_reply_that_is_not_ours_is_malformed(federation, nodes):
    ours = ConfigRecord({"reply": b"x"})
    replies = (
        RecordDict({}),
        RecordDict({"other": ours}),
        RecordDict({"promptferry": ConfigRecord({"reply": "text"})}),
        RecordDict(
            {"promptferry": ours, **{str(number): ConfigRecord({"n": number}) for number in range(9)}}
        ),
    )
    nodes.enrol(federation, "sloppy")
    link = Link(federation.address, nodes.ca_pem, nodes.keys["sloppy"])
    run = Run(federation._superlink, federation._control, federation._bundle)
    with own_node.Fleet(link) as fleet, own_node.signed_on(fleet, []) as node:
        worker = adapter._Worker(fleet, node, ClientApp(), threading.Event())
        for reply in replies:
            message_id = run.push(node.node_id, b"x", 60)
            pulled = fleet.PullMessages(PullMessagesRequest(node=node)).messages_list[0]
            worker._push(Message(reply, reply_to=message_from_proto(pulled)))
            malformed = Outcome(error="malformed_reply")
            assert run.pull({message_id}, 5) == [Arrival(message_id, node.node_id, malformed)]
    run.close()


@pytest.mark.promise("no-foreign-code")
def test_the_code_in_a_runs_bundle_is_neither_fetched_nor_run(
    federation, nodes, tmp_path, monkeypatch, measured
):
    sentinel = tmp_path / "executed"
    code = f"open({str(sentinel)!r}, 'w').close()\napp = None\n"
    exec(code, {})  # noqa: S102 -- our own line
    assert sentinel.exists(), "the code would leave a trace"
    sentinel.unlink()
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    packed = io.BytesIO(manifest())
    with zipfile.ZipFile(packed, "a") as bundle:
        for name in ("none.py", "none/__init__.py", "sitecustomize.py", "client/daemon/polling.py"):
            bundle.writestr(name, code)
    paths: set[str] = set()
    config = federation._superlink._listener._config
    inner = config.loaded_app

    async def recording(scope, receive, send):
        paths.add(scope["path"])
        await inner(scope, receive, send)

    federation._end_run()
    monkeypatch.setattr(federation, "_bundle", packed.getvalue())
    monkeypatch.setattr(config, "loaded_app", recording)
    nodes.enrol(federation, "careful")
    nodes.start(federation, "careful", lambda request: request)
    assert federation.exchange({"careful": b"x"}, deadline_s=20)["careful"].reply == b"x"
    federation._end_run()
    nodes.stop()
    measured(sentinel_files=int(sentinel.exists()))
    assert not sentinel.exists()
    assert not (tmp_path / "flwr").exists()
    assert {path for path in paths if path.startswith("/v1/fleet/")} == {
        f"/v1/fleet/{call}-{what}"
        for call, what in (
            ("activate", "node"),
            ("deactivate", "node"),
            ("pull", "messages"),
            ("pull", "object"),
            ("push", "messages"),
            ("push", "object"),
            ("confirm", "message-received"),
        )
    }
