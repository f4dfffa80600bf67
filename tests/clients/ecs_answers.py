"""Holds every answer to the ECS model of botocore: no member that the model does not know, none missing that clients
rely on, the right type for each, and errors that the operation declares.

botocore itself is lenient: it skips what it does not know and takes a text for a number. So the bytes are judged here,
before it reads them.
"""

import json
import re
import time

# Of every service (CommonErrors), or of Amazon's front door.
COMMON_ERRORS = {
    "AccessDeniedException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "SerializationException",
    "ThrottlingException",
    "UnknownOperationException",
    "UnrecognizedClientException",
}

# The model requires nearly nothing of an answer; these are there in every one of Amazon's.
ALWAYS = {
    "Attribute": {"name"},
    "CapacityProvider": {"capacityProviderArn", "name", "status"},
    "Cluster": {
        "clusterArn",
        "clusterName",
        "status",
        "registeredContainerInstancesCount",
        "runningTasksCount",
        "pendingTasksCount",
        "activeServicesCount",
        "statistics",
        "tags",
        "settings",
        "capacityProviders",
        "defaultCapacityProviderStrategy",
    },
    "Container": {"containerArn", "taskArn", "name", "image", "lastStatus", "networkInterfaces", "cpu"},
    "ContainerDefinition": {"name", "image"},
    "ContainerInstance": {
        "containerInstanceArn",
        "version",
        "versionInfo",
        "remainingResources",
        "registeredResources",
        "status",
        "agentConnected",
        "runningTasksCount",
        "pendingTasksCount",
        "attributes",
        "registeredAt",
        "attachments",
        "tags",
    },
    "Failure": {"arn", "reason"},
    "ProtectedTask": {"taskArn", "protectionEnabled"},
    "Resource": {"name", "type"},
    "Setting": {"name", "value", "principalArn"},
    "Tag": {"key", "value"},
    "Task": {
        "attachments",
        "attributes",
        "clusterArn",
        "containers",
        "cpu",
        "createdAt",
        "desiredStatus",
        "enableExecuteCommand",
        "group",
        "lastStatus",
        "memory",
        "overrides",
        "tags",
        "taskArn",
        "taskDefinitionArn",
        "version",
    },
    "TaskDefinition": {
        "taskDefinitionArn",
        "containerDefinitions",
        "family",
        "revision",
        "volumes",
        "status",
        "placementConstraints",
        "compatibilities",
        "registeredAt",
    },
}

# An answer's own members that may be absent. All others are there, the lists empty.
MAY_BE_ABSENT = {
    "nextToken",
    "DescribeTaskDefinition.tags",
    "RegisterTaskDefinition.tags",
    "DiscoverPollEndpoint.serviceConnectEndpoint",
    "DiscoverPollEndpoint.telemetryEndpoint",
    "DeleteAccountSetting.setting",
}

YEAR_2020, A_DAY_S = 1577836800, 86400


class Answers:
    """What has been answered so far, and what was wrong with it."""

    def __init__(self, model):
        self.model = model
        self.wrong = []
        self.good = {}
        self.refused = {}
        # Of each operation, as it came.
        self.last = {}

    def watch(self, client):
        client.meta.events.register("response-received.ecs", self.on_response)

    def on_response(self, response_dict, event_name, **_):
        # An empty response is one that never came: the test fails by itself.
        if response_dict is not None:
            operation = event_name.rpartition(".")[2]
            self.last[operation] = response_dict
            self.judge(operation, response_dict)

    def judge(self, operation, response):
        status, headers, body = response["status_code"], response["headers"], response["body"]
        headers = {name.lower(): value for name, value in headers.items()}
        if headers.get("content-type") != "application/x-amz-json-1.1":
            self.no(operation, f"content-type is {headers.get('content-type')}")
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", headers.get("x-amzn-requestid", "")):
            self.no(operation, f"x-amzn-requestid is {headers.get('x-amzn-requestid')}")
        try:
            value = json.loads(body, object_pairs_hook=lambda pairs: self.members(operation, pairs))
        except ValueError as error:
            return self.no(operation, f"the body is not JSON: {error}: {body[:200]}")
        if status == 200:
            self.good[operation] = self.good.get(operation, 0) + 1
            self.answer(operation, value)
        else:
            self.error(operation, status, headers, value)

    def members(self, operation, pairs):
        names = [name for name, _ in pairs]
        for name in {name for name in names if names.count(name) > 1}:
            self.no(operation, f"{name} is there twice")
        return dict(pairs)

    def answer(self, operation, value):
        shape = self.model.operation_model(operation).output_shape
        self.check(operation, operation, value, shape)
        if isinstance(value, dict):
            for name in shape.members.keys() - value.keys() - MAY_BE_ABSENT:
                if f"{operation}.{name}" not in MAY_BE_ABSENT:
                    self.no(operation, f"{name} is not there")

    def error(self, operation, status, headers, value):
        code = value.get("__type") if isinstance(value, dict) else None
        declared = {shape.error_code: shape for shape in self.model.operation_model(operation).error_shapes}
        if code is None:
            return self.no(operation, f"status {status} without __type")
        self.refused.setdefault(operation, set()).add(code)
        if headers.get("x-amzn-errortype") != code:
            self.no(operation, f"x-amzn-errortype is {headers.get('x-amzn-errortype')}, __type {code}")
        if not isinstance(value.get("message"), str) or not value["message"].strip():
            self.no(operation, f"{code} has no message")
        known = {"__type", "message"}
        if code in declared:
            known |= declared[code].members.keys()
        elif code not in COMMON_ERRORS and code != "UnsupportedFeatureException":
            self.no(operation, f"{code} is not declared: {value.get('message')}")
        if value.keys() - known:
            self.no(operation, f"{code} has {sorted(value.keys() - known)}")
        if status != (500 if code == "ServerException" else 400):
            self.no(operation, f"{code} comes with status {status}")
        if status >= 500:
            self.no(operation, f"the server's fault: {value.get('message')}")

    def check(self, operation, place, value, shape):
        kind = shape.type_name
        if kind == "structure":
            if not isinstance(value, dict):
                return self.no(operation, f"{place} is no object: {value!r}")
            for name in sorted(value.keys() - shape.members.keys()):
                self.no(operation, f"{place}.{name} is not in the model")
            for name in sorted((set(shape.required_members) | ALWAYS.get(shape.name, set())) - value.keys()):
                self.no(operation, f"{place}.{name} is not there")
            for name in sorted(value.keys() & shape.members.keys()):
                self.check(operation, f"{place}.{name}", value[name], shape.members[name])
        elif kind == "list":
            if not isinstance(value, list):
                return self.no(operation, f"{place} is no list: {value!r}")
            for element in value:
                self.check(operation, f"{place}[]", element, shape.member)
        elif kind == "map":
            if not isinstance(value, dict):
                return self.no(operation, f"{place} is no map: {value!r}")
            for element in value.values():
                self.check(operation, f"{place}{{}}", element, shape.value)
        elif not is_a(value, kind):
            self.no(operation, f"{place} is no {kind}: {value!r}")
        elif kind == "string" and getattr(shape, "enum", None) and value not in shape.enum:
            self.no(operation, f"{place} is none of {shape.enum}: {value!r}")

    def no(self, operation, text):
        line = f"{operation}: {text}"
        if line not in self.wrong:
            self.wrong.append(line)


def overlooked(model, operation, response):
    """What would not be found out if an answer were spoilt so. The answer itself must be good."""

    def judged(change, headers=()):
        value = json.loads(response["body"])
        change(value)
        judge = Answers(model)
        spoilt = {**response, "headers": {**response["headers"], **dict(headers)}, "body": json.dumps(value).encode()}
        judge.judge(operation, spoilt)
        return judge.wrong

    task = lambda value: value["tasks"][0]
    container = lambda value: task(value)["containers"][0]
    changes = {
        "an unknown member": lambda value: value.update(further=1),
        "an unknown member of a container": lambda value: container(value).update(further=1),
        "an unknown member of an override": lambda value: task(value)["overrides"]["containerOverrides"][0].update(a="b"),
        "no failures": lambda value: value.pop("failures"),
        "no name of a container": lambda value: container(value).pop("name"),
        "a text for a number": lambda value: task(value).update(version="1"),
        "a fraction for a number": lambda value: task(value).update(version=1.5),
        "a text for a time": lambda value: task(value).update(createdAt="2026-11-23T00:00:00Z"),
        "milliseconds for a time": lambda value: task(value).update(createdAt=task(value)["createdAt"] * 1000),
        "a number for a text": lambda value: task(value).update(cpu=256),
        "null": lambda value: task(value).update(attachments=None),
        "an object for a list": lambda value: task(value).update(tags={}),
        "no word of an enumeration": lambda value: task(value).update(connectivity="AWAY"),
    }
    found = [name for name, change in changes.items() if not judged(change)]
    if not judged(lambda value: None, {"Content-Type": "application/json"}.items()):
        found.append("another content type")
    twice = {**response, "body": response["body"].replace(b'"failures"', b'"failures":[],"failures"', 1)}
    judge = Answers(model)
    judge.judge(operation, twice)
    return found + ([] if judge.wrong else ["a member twice"]) + judged(lambda value: None)


def is_a(value, kind):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return number and isinstance(value, int) and -(2**31) <= value < 2**31
    if kind == "long":
        return number and isinstance(value, int) and -(2**63) <= value < 2**63
    if kind in ("double", "float"):
        return number
    if kind == "timestamp":
        return number and YEAR_2020 < value < time.time() + A_DAY_S
    raise AssertionError(f"the model has a {kind}")


def example(shape, depth=0):
    """The smallest value of a shape that botocore lets through: what is required, and no more."""
    kind = shape.type_name
    if kind == "structure":
        names = shape.required_members
        if getattr(shape, "is_tagged_union", False):
            names = list(shape.members)[:1]
        return {name: example(shape.members[name], depth + 1) for name in names}
    if kind == "list":
        return [example(shape.member, depth + 1)] if depth < 8 else []
    if kind == "map":
        return {"a": example(shape.value, depth + 1)}
    if kind == "string":
        return getattr(shape, "enum", None)[0] if getattr(shape, "enum", None) else "a" * shape.metadata.get("min", 1)
    return {"boolean": True, "integer": shape.metadata.get("min", 1), "long": 1, "double": 1.0, "float": 1.0}.get(
        kind, 1700000000
    )
