"""Requests that are broken below JSON: lengths that are not the body's, chunks that are none, heads that are no heads. Each
is sent on a connection of its own, as bytes. The server may answer as a client's fault or hang up; it may not call it its own.
"""

import socket

PATIENCE_S = 120
GOOD = b'{"maxResults":1}'


def head(signed, *lines, method="POST", path="/", version="HTTP/1.1"):
    fixed = ["Host: localhost", "Content-Type: application/x-amz-json-1.1", "X-Amz-Target: AmazonEC2ContainerServiceV20141113.ListClusters"]
    fixed += [f"{name}: {value}" for name, value in signed.items()]
    return "\r\n".join([f"{method} {path} {version}", *fixed, *lines, "", ""]).encode("latin-1")


def cases(signed):
    """Name, bytes, and the statuses that are right; 0 is hanging up without a word."""
    length = f"Content-Length: {len(GOOD)}"
    chunked = "Transfer-Encoding: chunked"
    refused = {0, 400}
    yield "good", head(signed, length) + GOOD, {200}
    yield "good in chunks", head(signed, chunked) + b"8\r\n" + GOOD[:8] + b"\r\n8\r\n" + GOOD[8:] + b"\r\n0\r\n\r\n", {200}
    yield "good in chunks with trailers", head(signed, chunked) + b"10\r\n" + GOOD + b"\r\n0\r\nx-a: b\r\n\r\n", {200, *refused}
    yield "good chunk with an extension", head(signed, chunked) + b"10;a=b\r\n" + GOOD + b"\r\n0\r\n\r\n", {200, *refused}
    yield "good, and another behind it", (head(signed, length) + GOOD) * 2, {200}
    # The rest never comes.
    yield "body shorter than its length", head(signed, "Content-Length: 500") + GOOD, refused | {408}
    yield "no byte of its body", head(signed, "Content-Length: 500"), refused | {408}
    yield "body longer than its length", head(signed, "Content-Length: 5") + GOOD, refused
    yield "empty body", head(signed, "Content-Length: 0"), {200}
    yield "no length", head(signed), {200, 400, 411}
    for wrong in ("-1", "+16", "0x10", "16, 17", "1e1", "", "99999999999999999999", "18446744073709551616", "16\x00"):
        yield f"length {wrong!r}", head(signed, f"Content-Length: {wrong}") + GOOD, refused | {200, 413}
    yield "a length beyond the limit", head(signed, "Content-Length: 999999999") + GOOD, {0, 400, 408, 413}
    yield "two lengths", head(signed, length, "Content-Length: 3") + GOOD, refused
    yield "a length and chunks", head(signed, length, chunked) + b"10\r\n" + GOOD + b"\r\n0\r\n\r\n", {200, *refused}
    yield "chunked twice", head(signed, "Transfer-Encoding: chunked, chunked") + GOOD, refused
    yield "unknown coding", head(signed, "Transfer-Encoding: gzip") + GOOD, refused | {501}
    for wrong in (b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"10\n", b"10\r\n" + GOOD, b"10\r\n" + GOOD + b"xx0\r\n\r\n", b"\r\n", b"1" * 70000):
        yield f"chunk {wrong[:24]!r}", head(signed, chunked) + wrong, refused | {408}
    # A megabyte and more of chunks of a byte.
    yield "very many small chunks", head(signed, chunked) + b"1\r\n \r\n" * 200000 + b"0\r\n\r\n", {0, 400, 408, 413}
    yield "compressed body", head(signed, length, "Content-Encoding: gzip") + GOOD, {200, 400, 415}
    yield "expects to be told", head(signed, length, "Expect: 100-continue") + GOOD, {100, 200}
    yield "expects something else", head(signed, length, "Expect: a miracle") + GOOD, {200, 400, 417}
    yield "very long header", head(signed, length, "X-Long: " + "a" * 400000) + GOOD, refused | {413, 431}
    yield "very many headers", head(signed, length, *[f"X-{number}: a" for number in range(5000)]) + GOOD, refused | {413, 431}
    yield "very long path", head(signed, length, path="/" + "a" * 100000) + GOOD, refused | {404, 413, 414}
    yield "very long target", head(signed, length, "X-Amz-Target: " + "T." * 4000) + GOOD, refused | {413, 431}
    for wrong in ("X-A\x00: b", "X-A: b\x00", ": b", "X A: b", "X-A", "X-A : b", " folded: b", "X-A: \x80\xff", "X-A: b\rX-B: c"):
        yield f"header {wrong!r}", head(signed, length, wrong) + GOOD, {200, *refused}
    for path in ("*", "http://localhost/", "//", "/%", "/%00", "/../..", "/?%zz", "/\xe4", "", "/a b"):
        yield f"path {path!r}", head(signed, length, path=path) + GOOD, {200, 403, 404, *refused}
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PRI", "post", "P\x00ST", "A" * 5000):
        yield f"method {method[:8]!r}", head(signed, length, method=method) + GOOD, {200, 404, 405, *refused}
    for version in ("HTTP/0.9", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/9", "HTTP", "ICY", ""):
        yield f"version {version!r}", head(signed, length, version=version) + GOOD, {200, 404, 505, *refused}
    yield "HTTP/0.9", b"GET /\r\n", refused
    yield "nothing", b"", {0}
    yield "half a head", head(signed, length)[:60], refused | {408}
    yield "only ends of lines", b"\r\n" * 2000, refused | {408}
    yield "TLS to a port without", bytes.fromhex("16030100c8010000c40303") + bytes(200), refused
    yield "HTTP/2 without more", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0}
    yield "HTTP/2 with a frame too long", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100, {0}
    yield "an upgrade to nothing", head(signed, "Connection: upgrade", "Upgrade: coracle-nothing", length) + GOOD, {200, *refused}
    for at in range(0, 256, 3):
        yield f"bytes from {at}", bytes((at + step * step) % 256 for step in range(300)), refused | {408}


def ask(address, request, right):
    """The status of the first answer; 0 for none. Where that is right, whoever sends stops sending, so that nothing waits for
    more; the server may hang up on that with a request that is whole, too."""
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        try:
            connection.sendall(request)
            if 0 in right:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            # It has hung up; what it said before is still here.
            pass
        answer = b""
        try:
            while more := connection.recv(65536):
                answer += more
                if b"\r\n\r\n" in answer:
                    break
        except ConnectionError:
            pass
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1].isdigit() else 0
