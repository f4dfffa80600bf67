#!/usr/bin/env python3
"""Sends `coracle serve` thousands of requests that are nearly right. First every member of every operation of botocore's
model with a value of each wrong kind; then inputs of chance, with values of other types, sizes and alphabets in some
places, and bodies that are no JSON; then HTTP that is none (broken_http.py). Each must be answered, as the model has it, and
never as the server's fault; at the end the server still does what it did before.

    ecs_malformed.py CORACLE|http://HOST:PORT [COUNT [SEED]]
"""

import http.client
import json
import random
import sys
import urllib.parse

import botocore.session

import broken_http
import ecs_answers
import serving

# Of those of chance.
COUNT = 20000
# What a body of most operations may have.
BODY_BYTES = 128 * 1024
TARGET = "AmazonEC2ContainerServiceV20141113"
# With --dev any signature is good.
SIGNED = {
    "X-Amz-Date": "20261123T120000Z",
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20261123/eu-north-7/ecs/aws4_request, SignedHeaders=host, Signature="
    + "0" * 64,
}
ARN = "arn:aws:ecs:eu-north-7:123456789012:"
TEXTS = [
    *["default", "model", "model:1", "nowhere", "", "a" * 256, "a" * 5000, "0" * 32, "../..", "a/b", "%2e%2e", "\0", "ä✓", "\u202e"],
    *["ACTIVE", "RUNNING", "STOPPED", "EC2", "FARGATE", "enabled", "TAGS", "container-instance", "-1", "18446744073709551616"],
    *[f"{ARN}cluster/default", f"{ARN}task/default/{'0' * 32}", f"{ARN}task-definition/model:1", "arn:aws:ecs:::", "arn:"],
    *["attribute:a == b", "attribute:a ==", "(" * 3000, "not " * 3000, "a in [" + "1," * 3000, "coracle/hello:latest", "awsvpc"],
]
NUMBERS = [0, 1, 2, 10, 11, 100, 101, 65535, 65536, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 1.5, 1e300, -0.0]
ANYTHING = [None, True, False, [], {}, [[]], [None], {"": {}}, "text", 7, 1.25]


# One of each kind that JSON has, and what is too large, too deep or no text: for each member of each operation.
WRONG = [None, True, 7, -1, 1.5, 1e300, 10**400, "text", "", "x" * 20000, "\ud800", [], [None], ["text"], {}, {"": {}}, json.loads("[" * 120 + "]" * 120)]

# By the names of members, so that many requests get beyond their first check.
LIKELY = {
    "cluster": "default",
    "clusters": "default",
    "clusterName": "model",
    "family": "model",
    "taskDefinition": "model",
    "taskDefinitions": "model:1",
    "name": "web",
    "container": "web",
    "image": "nowhere.example/none:1",
    "networkMode": "none",
    "resourceArn": f"{ARN}cluster/default",
    "nextToken": None,
}
DEFINITION = {
    "family": "model",
    "networkMode": "none",
    "containerDefinitions": [{"name": "web", "image": "nowhere.example/none:1", "memory": 16}],
}


def made(dice, shape, wrongness, depth=0, member=""):
    """A value of the shape, wrong in a place here and there."""
    if dice.random() < wrongness:
        return dice.choice(ANYTHING)
    if shape.type_name == "string" and member in LIKELY and dice.random() < 0.9:
        return LIKELY[member]
    kind = shape.type_name
    if kind == "structure":
        names = [name for name in shape.members if dice.random() < (0.9 if name in shape.required_members else 0.25)]
        value = {name: made(dice, shape.members[name], wrongness, depth + 1, name) for name in names} if depth < 9 else {}
        if dice.random() < wrongness:
            value["notOfTheModel"] = dice.choice(ANYTHING)
        return value
    if kind == "list":
        return [made(dice, shape.member, wrongness, depth + 1, member) for _ in range(dice.choice([0, 1, 1, 1, 2, 3, 101]) if depth < 3 else 1)]
    if kind == "map":
        return {dice.choice(TEXTS): made(dice, shape.value, wrongness, depth + 1) for _ in range(dice.choice([0, 1, 3]))}
    if kind == "string":
        enum = getattr(shape, "enum", None)
        return dice.choice(enum if enum and dice.random() < 0.8 else TEXTS)
    if kind == "boolean":
        return dice.random() < 0.5
    return dice.choice(NUMBERS)


def places(shape, above=()):
    """The way to each member below a shape: names, 0 for a list's member, a text for a map's value."""
    if shape.name in above:
        return
    below = {"structure": lambda: shape.members.items(), "list": lambda: [(0, shape.member)], "map": lambda: [("key", shape.value)]}
    for step, member in below.get(shape.type_name, lambda: [])():
        yield (step,)
        for further in places(member, (*above, shape.name)):
            yield (step, *further)


def with_value(dice, shape, way, value):
    """An input as it should be but for the value at the end of the way."""
    if not way:
        return value
    step, further = way[0], way[1:]
    if shape.type_name == "structure":
        required = {name: made(dice, shape.members[name], 0, 5, name) for name in shape.required_members if name != step}
        return {**required, step: with_value(dice, shape.members[step], further, value)}
    if shape.type_name == "list":
        return [with_value(dice, shape.member, further, value)]
    return {step: with_value(dice, shape.value, further, value)}


def each_member_wrong(dice, model):
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        for way in places(shape):
            for value in WRONG:
                yield operation, json.dumps(with_value(dice, shape, way, value)).encode()
            # The same key twice, wherever the member stands.
            twice = json.dumps(with_value(dice, shape, way, "@")).encode()
            if isinstance(way[-1], str):
                name = json.dumps(way[-1]).encode()
                yield operation, twice.replace(name + b': "@"', name + b': "@", ' + name + b': "@"')
            yield operation, twice.replace(b"@", b"\xff\xfe")
        for body in (b"", b"null", b"[]", b'"text"', b"{", b"}", b"{}{}", b"{}x", b"\x00", b"[" * 100000, b'{"a":' * 20000):
            yield operation, body


def broken(dice, body):
    """Bytes that are not what they were."""
    at = dice.randrange(len(body) + 1)
    return dice.choice(
        [
            body[:at],
            body[:at] + bytes([dice.randrange(256)]) + body[at:],
            body[:at] + body[at + 1 :],
            body.replace(b":", b"::", 1),
            b"\xef\xbb\xbf" + body,
            b"[" * 100000,
            b'{"a":' * 20000,
            b'{"cluster":"a","cluster":"b"}',
            b'{"cluster":"\\ud800"}',
            b'{"maxResults":1e999}',
        ]
    )


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else COUNT
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(2**32)
    dice = random.Random(seed)
    model = botocore.session.get_session().get_service_model("ecs")
    answers = ecs_answers.Answers(model)
    statuses = {}
    with serving.serving(sys.argv[1]) as endpoint:
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(endpoint).netloc, timeout=serving.PATIENCE_S)

        def send(operation, body):
            headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{TARGET}.{operation}"}
            try:
                connection.request("POST", "/", body, {**headers, **SIGNED})
            except (BrokenPipeError, ConnectionResetError):
                # A body that is too large is not read to its end.
                if len(body) <= BODY_BYTES:
                    raise
                connection.close()
                return {"status_code": 413}
            answer = connection.getresponse()
            found = {"status_code": answer.status, "headers": dict(answer.headers), "body": answer.read()}
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            if answer.status != 413:
                answers.judge(operation, found)
            return found

        send("CreateCluster", b'{"clusterName":"default"}')
        send("RegisterTaskDefinition", json.dumps(DEFINITION).encode())
        def check(operation, body):
            before = len(answers.wrong)
            send(operation, body)
            for line in answers.wrong[before:]:
                print(f"{line}\n  after {operation} {body[:300]!r}")

        members = 0
        for operation, body in each_member_wrong(dice, model):
            check(operation, body)
            members += 1
        for number in range(count):
            operation = dice.choice(model.operation_names)
            wrongness = dice.choice([0, 0, 0.02, 0.1])
            body = json.dumps(made(dice, model.operation_model(operation).input_shape, wrongness)).encode()
            if number % 10 == 0:
                body = broken(dice, body)
            check(operation, body)
        address = urllib.parse.urlsplit(endpoint)
        http_cases = list(broken_http.cases(SIGNED))
        for name, request, right in http_cases:
            if (status := broken_http.ask((address.hostname, address.port), request, right)) not in right:
                answers.no("HTTP", f"{name}: {status}, not one of {sorted(right)}")
                print(answers.wrong[-1])
        if send("ListClusters", b"{}")["status_code"] != 200:
            answers.no("ListClusters", "does not answer at the end")
    print(f"seed {seed}: {members} wrong members, {count} requests of chance, {len(http_cases)} of broken HTTP; answers by status {statuses}, {len(answers.wrong)} wrong")
    sys.exit(bool(answers.wrong))


if __name__ == "__main__":
    main()
