#!/usr/bin/env python3
"""What Amazon's session-manager-plugin is to the AWS CLI: called with a session, it opens its data channel, shakes hands,
and joins it to this terminal until the other side closes it. The arguments and the protocol are the plug-in's
(<https://github.com/aws/session-manager-plugin>, src/message and src/sessionmanagerplugin), the code is not.

    session_manager_plugin.py     says that it is there, as the CLI asks first
    session_manager_plugin.py SESSION REGION StartSession PROFILE TARGET ENDPOINT
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import time
import urllib.parse
import uuid

HEADER_BYTES = 116
OUTPUT, SIZE, HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE, HANDSHAKE_COMPLETE = 1, 3, 5, 6, 7
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE_S = 120


class WebSocket:
    """RFC 6455, as much of it as a client needs."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "ws":
            sys.exit(f"only ws:// is spoken here, not {url}")
        self.socket = socket.create_connection((parts.hostname, parts.port), PATIENCE_S)
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        status = self.file.readline().decode().strip()
        headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        if " 101 " not in f"{status} " or headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
            sys.exit(f"no websocket: {status} {headers}")

    def send(self, kind, payload):
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + struct.pack(">H", length)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.socket.sendall(bytes([0x80 | kind]) + size + mask + masked)

    def receive(self):
        """The next message, or nothing at the end."""
        payload, first = b"", None
        while True:
            head = self.file.read(2)
            if len(head) < 2:
                return None
            kind, length = head[0] & 0x0F, head[1] & 0x7F
            if length >= 126:
                wide = 2 if length == 126 else 8
                length = int.from_bytes(self.file.read(wide), "big")
            part = self.file.read(length)
            if kind == CLOSE:
                return None
            if kind == PING:
                self.send(PONG, part)
            elif kind != PONG:
                first = kind if first is None else first
                payload += part
                if head[0] & 0x80:
                    return payload


def message(kind, sequence, payload_type, payload):
    identity = uuid.uuid4().bytes
    return (
        struct.pack(">I32sIQQQ", HEADER_BYTES, kind.ljust(32).encode(), 1, int(time.time() * 1000), sequence, 0)
        # The two halves of the id change places.
        + identity[8:]
        + identity[:8]
        + hashlib.sha256(payload).digest()
        + struct.pack(">II", payload_type, len(payload))
        + payload
    )


def parsed(data):
    length, kind, _, _, sequence, _ = struct.unpack(">I32sIQQQ", data[:64])
    identity = uuid.UUID(bytes=data[72:80] + data[64:72])
    payload_type, size = struct.unpack(">II", data[length - 4 : length + 4])
    payload = data[length + 4 :]
    if len(payload) != size or hashlib.sha256(payload).digest() != data[80:112]:
        sys.exit("a message's payload is not what its header says")
    return kind.rstrip(b" \0").decode(), sequence, identity, payload_type, payload


class Session:
    def __init__(self, session):
        self.channel = WebSocket(session["StreamUrl"])
        self.next, self.expected = 0, 0
        opening = {
            "MessageSchemaVersion": "1.0",
            "RequestId": str(uuid.uuid4()),
            "TokenValue": session["TokenValue"],
            "ClientId": str(uuid.uuid4()),
            "ClientVersion": "1.2.0.0",
        }
        self.channel.send(TEXT, json.dumps(opening).encode())

    def send(self, payload_type, payload):
        self.channel.send(BINARY, message("input_stream_data", self.next, payload_type, payload))
        self.next += 1

    def acknowledge(self, kind, sequence, identity):
        content = {
            "AcknowledgedMessageType": kind,
            "AcknowledgedMessageId": str(identity),
            "AcknowledgedMessageSequenceNumber": sequence,
            "IsSequentialMessage": True,
        }
        self.channel.send(BINARY, message("acknowledge", 0, 0, json.dumps(content).encode()))

    def run(self):
        while (data := self.channel.receive()) is not None:
            kind, sequence, identity, payload_type, payload = parsed(data)
            if kind == "channel_closed":
                said = json.loads(payload).get("Output", "")
                print(f"\n{said}\n" if said else "", end="")
                return
            if kind != "output_stream_data":
                continue
            self.acknowledge(kind, sequence, identity)
            if sequence == self.expected:
                self.expected += 1
                self.take(payload_type, payload)
        sys.exit("the channel ended before it was closed")

    def take(self, payload_type, payload):
        if payload_type == HANDSHAKE_REQUEST:
            actions = json.loads(payload)["RequestedClientActions"]
            done = [{"ActionType": each["ActionType"], "ActionStatus": 1, "ActionResult": None} for each in actions]
            answer = {"ClientVersion": "1.2.0.0", "ProcessedClientActions": done, "Errors": []}
            self.send(HANDSHAKE_RESPONSE, json.dumps(answer).encode())
        elif payload_type == HANDSHAKE_COMPLETE:
            self.send(SIZE, json.dumps({"cols": 100, "rows": 30}).encode())
        elif payload_type == OUTPUT:
            sys.stdout.buffer.write(payload)
            sys.stdout.flush()


def main():
    if len(sys.argv) == 1:
        print("The Session Manager plugin was installed successfully.")
        return
    session, _region, operation, _profile, target, _endpoint = sys.argv[1:7]
    if operation != "StartSession" or not json.loads(target)["Target"].startswith("ecs:"):
        sys.exit(f"these are not the plug-in's arguments: {sys.argv[2:]}")
    # The CLI gives the session as ExecuteCommand's answer has it, or with SSM's capitals.
    members = {name[0].upper() + name[1:]: value for name, value in json.loads(session).items()}
    print(f"\nStarting session with SessionId: {members['SessionId']}")
    Session(members).run()


if __name__ == "__main__":
    main()
