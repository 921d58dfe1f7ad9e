"""What the two adapters take for granted about flwr's insides, which change from one release to the next."""

import importlib
import inspect
import logging
from importlib.metadata import version

import pytest

import client.daemon.link
import client.daemon.node
import client.daemon.polling
import coordinator.flower.superlink

SIGNATURES = {
    "flwr.app:Context": "run_id node_id node_config state run_config series_id",
    "flwr.app:Error": "code reason",
    "flwr.app.message:remove_content_from_message": "message",
    "flwr.app.message:Message.has_content": "self",
    "flwr.app.message:Message.has_error": "self",
    "flwr.clientapp:ClientApp.train": "self action mods",
    "flwr.clientapp:ClientApp.__call__": "self message context",
    "flwr.common.serde:fab_to_proto": "fab",
    "flwr.common.serde:message_from_proto": "message_proto",
    "flwr.common.serde:message_to_proto": "message",
    "flwr.common.serde:run_from_proto": "run_proto",
    "flwr.supercore.control:ControlHttpClient.ListNodes": "self request",
    "flwr.supercore.control:ControlHttpClient.ListRuns": "self request",
    "flwr.supercore.control:ControlHttpClient.RegisterNode": "self request",
    "flwr.supercore.control:ControlHttpClient.StartRun": "self request",
    "flwr.supercore.control:ControlHttpClient.StopRun": "self request",
    "flwr.supercore.control:ControlHttpClient.UnregisterNode": "self request",
    "flwr.supercore.fab:Fab": "hash_str content verifications",
    "flwr.supercore.heartbeat:HeartbeatSender": "heartbeat_fn",
    "flwr.supercore.heartbeat:HeartbeatSender.stop": "self",
    "flwr.supercore.inflatable.inflatable_object:get_all_nested_objects": "obj",
    "flwr.supercore.inflatable.inflatable_object:get_object_tree": "obj",
    "flwr.supercore.inflatable.inflatable_object:iterate_object_tree": "tree",
    "flwr.supercore.inflatable.inflatable_protobuf_utils:make_confirm_message_received_fn_protobuf": (
        "confirm_message_received_protobuf node run_id"
    ),
    "flwr.supercore.inflatable.inflatable_protobuf_utils:make_pull_object_fn_protobuf": (
        "pull_object_protobuf node run_id"
    ),
    "flwr.supercore.inflatable.inflatable_protobuf_utils:make_push_object_fn_protobuf": (
        "push_object_protobuf node run_id session_id"
    ),
    "flwr.supercore.inflatable.inflatable_utils:pull_and_inflate_object_from_tree": (
        "object_tree pull_object_fn confirm_object_received_fn return_type max_concurrent_pulls max_time "
        "max_tries_per_object initial_backoff backoff_cap"
    ),
    "flwr.supercore.inflatable.inflatable_utils:push_objects": (
        "objects push_object_fn object_ids_to_push keep_objects max_concurrent_pushes"
    ),
    "flwr.supercore.interceptors:RuntimeTokenHttpInterceptor": "token",
    "flwr.supercore.interceptors:SuperExecAuthHttpInterceptor": "master_secret protected_methods",
    "flwr.supercore.interceptors.http.utils:add_headers": "request headers",
    "flwr.supercore.primitives.asymmetric:public_key_to_bytes": "public_key",
    "flwr.supercore.protobuf.client:ProtobufClient": "base_url interceptors verify timeout retry_invoker",
    "flwr.supercore.protobuf.client:ProtobufClient.close": "self",
    "flwr.supercore.protobuf.client:ProtobufRequestContext": "rpc_method message request",
    "flwr.supercore.runtime:RuntimeHttpClient.AcquireTask": "self request",
    "flwr.supercore.runtime:RuntimeHttpClient.ConfirmMessageReceived": "self request",
    "flwr.supercore.runtime:RuntimeHttpClient.PullMessages": "self request",
    "flwr.supercore.runtime:RuntimeHttpClient.PullObject": "self request",
    "flwr.supercore.runtime:RuntimeHttpClient.PullTaskInput": "self request",
    "flwr.supercore.runtime:RuntimeHttpClient.SendTaskHeartbeat": "self request",
    "flwr.superlink.auth_plugin:ControlAuthnPlugin.validate_tokens_in_metadata": "self metadata",
    "flwr.superlink.cli.flower_superlink:SuperLinkLifespan": "config state_factory",
    "flwr.superlink.config_loader:SuperLinkLifespanConfig": (
        "control_address health_server_address host port insecure certificates superexec_auth_secret "
        "authn_plugin event_log_plugin fleet_event_log_plugin enable_event_log artifact_provider "
        "enable_supernode_auth fleet_api_type fleet_api_address simulation ssl_ca_certfile ssl_certfile "
        "ssl_keyfile database isolation runtime_dependency_install"
    ),
    "flwr.superlink.grid:HttpGrid": "runtime_api_address insecure root_certificates token",
    "flwr.superlink.grid:HttpGrid.push_messages": "self messages",
    "flwr.superlink.grid:HttpGrid.set_run": "self run",
    "flwr.superlink.main:create_app": "config superlink_lifespan_class",
    "flwr.supernode.fleet_http_client:FleetHttpClient.ActivateNode": "self request",
    "flwr.supernode.fleet_http_client:FleetHttpClient.ConfirmMessageReceived": "self request",
    "flwr.supernode.fleet_http_client:FleetHttpClient.DeactivateNode": "self request",
    "flwr.supernode.fleet_http_client:FleetHttpClient.PullMessages": "self request",
    "flwr.supernode.fleet_http_client:FleetHttpClient.PullObject": "self request",
    "flwr.supernode.fleet_http_client:FleetHttpClient.PushMessages": "self request",
    "flwr.supernode.fleet_http_client:FleetHttpClient.PushObject": "self request",
    "flwr.supernode.fleet_http_client:FleetHttpClient.SendNodeHeartbeat": "self request",
    "flwr.supernode.node_auth_http_interceptor:NodeAuthHttpInterceptor": "private_key public_key",
}

FIELDS = {
    "flwr.proto.control_pb2:ListRunsResponse": "run_dict",
    "flwr.proto.control_pb2:RegisterNodeRequest": "public_key name",
    "flwr.proto.control_pb2:StartRunRequest": "fab",
    "flwr.proto.control_pb2:StopRunRequest": "run_id",
    "flwr.proto.control_pb2:UnregisterNodeRequest": "node_id",
    "flwr.proto.fleet_pb2:ActivateNodeRequest": "public_key heartbeat_interval",
    "flwr.proto.fleet_pb2:ActivateNodeResponse": "node_id",
    "flwr.proto.fleet_pb2:DeactivateNodeRequest": "node_id",
    "flwr.proto.fleet_pb2:PullMessagesRequest": "node",
    "flwr.proto.fleet_pb2:PullMessagesResponse": "messages_list message_object_trees",
    "flwr.proto.fleet_pb2:PushMessagesRequest": (
        "node messages_list message_object_trees clientapp_runtime_list"
    ),
    "flwr.proto.fleet_pb2:PushMessagesResponse": "objects_to_push session_id",
    "flwr.proto.heartbeat_pb2:SendNodeHeartbeatRequest": "node heartbeat_interval",
    "flwr.proto.node_pb2:NodeInfo": "node_id status last_activated_at public_key name",
    "flwr.proto.runtime_pb2:AcquireTaskRequest": "supported_task_types",
    "flwr.proto.runtime_pb2:AcquireTaskResponse": "task token",
    "flwr.proto.runtime_pb2:PullAppMessagesRequest": "message_ids",
    "flwr.proto.runtime_pb2:PullAppMessagesResponse": "messages_list message_object_trees",
    "flwr.proto.runtime_pb2:PullTaskInputResponse": "task_id run",
}

VALUES = {
    "flwr.app:MessageType.TRAIN": "train",
    "flwr.common.constant:ErrorCode.CLIENT_APP_RAISED_EXCEPTION": 2,
    "flwr.common.constant:ErrorCode.MESSAGE_UNAVAILABLE": 3,
    "flwr.common.constant:ErrorCode.REPLY_MESSAGE_UNAVAILABLE": 4,
    "flwr.common.constant:ErrorCode.NODE_UNAVAILABLE": 5,
    "flwr.common.constant:ErrorCode.MOD_FAILED_PRECONDITION": 6,
    "flwr.common.constant:HEARTBEAT_PATIENCE": 2,
    "flwr.common.constant:SUPERLINK_NODE_ID": 1,
    "flwr.common.constant:Status.FINISHED": "finished",
    "flwr.supercore.constant:NodeStatus.ONLINE": "online",
    "flwr.supercore.constant:NodeStatus.UNREGISTERED": "unregistered",
    "flwr.supercore.constant:TaskType.SERVER_APP": "flwr-serverapp",
    "flwr.supercore.telemetry:FLWR_TELEMETRY_ENABLED": "0",
}


def named(reference: str) -> object:
    module, _, path = reference.partition(":")
    found: object = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def test_the_installed_flwr_is_the_one_whose_insides_were_read():
    assert version("flwr").startswith("1.41.")


@pytest.mark.parametrize("reference", SIGNATURES)
def test_functions_and_classes_take_the_parameters_we_pass(reference):
    parameters = list(inspect.signature(named(reference)).parameters)  # type: ignore[arg-type]
    assert parameters == SIGNATURES[reference].split()


@pytest.mark.parametrize("reference", FIELDS)
def test_messages_have_the_fields_we_use(reference):
    descriptor = named(reference).DESCRIPTOR  # type: ignore[attr-defined]
    assert set(FIELDS[reference].split()) <= {field.name for field in descriptor.fields}


@pytest.mark.parametrize("reference", VALUES)
def test_constants_have_the_values_we_rely_on(reference):
    assert named(reference) == VALUES[reference]


def test_the_clients_keep_their_connection_where_we_replace_it():
    source = inspect.getsource(named("flwr.supercore.protobuf.client:ProtobufClient"))
    assert "self._client = httpx.Client(" in source
    assert "self._client: RuntimeHttpClient | None = None" in inspect.getsource(
        named("flwr.superlink.grid:HttpGrid")
    )


def test_the_lease_is_one_flower_grants():
    constants = importlib.import_module("flwr.common.constant")
    interval = client.daemon.link.LEASE_S / constants.HEARTBEAT_PATIENCE
    assert constants.HEARTBEAT_MIN_INTERVAL <= interval <= constants.HEARTBEAT_MAX_INTERVAL
    assert client.daemon.node.HEARTBEAT_EVERY_S * 4 < client.daemon.link.LEASE_S


def test_flower_is_quiet_and_speaks_once():
    logger = logging.getLogger("flwr")
    assert logger.level == logging.WARNING
    assert logger.handlers == []
    assert logger.propagate
    assert coordinator.flower.superlink.os.environ["FLWR_DISABLE_UPDATE_CHECK"] == "1"
