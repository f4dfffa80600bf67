#!/usr/bin/env python3
"""Holds the signatures that `coracle serve` accepts against those that botocore makes: requests of any headers, query and
body, signed in the header and in the query, must be let in, and with one thing changed afterwards they must not.

    ecs_signatures.py http://HOST:PORT [COUNT [SEED]]     with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    ecs_signatures.py CORACLE [COUNT [SEED]]              starts `coracle serve` itself; needs root
"""

import http.client
import json
import os
import random
import string
import sys
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials

import serving

COUNT = 3000
TARGET = "AmazonEC2ContainerServiceV20141113."
REFUSALS = {"IncompleteSignatureException", "InvalidSignatureException", "MissingAuthenticationTokenException"}
VISIBLE = string.ascii_letters + string.digits + "!#$%&'()*+,-./:;<=>?@[]^_`{|}~\""


def text(dice, alphabet, most):
    return "".join(dice.choice(alphabet) for _ in range(dice.randrange(most)))


def request(dice, netloc, credentials):
    """One that botocore has signed: its path with the query, its headers and its body."""
    query = [(text(dice, VISIBLE + " ä✓", 8), text(dice, VISIBLE + " ä✓", 8)) for _ in range(dice.choice([0, 0, 1, 3]))]
    url = f"http://{netloc}/" + (f"?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}" if query else "")
    headers = {
        "Host": netloc,
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"{TARGET}ListClusters",
        "X-Amz-User-Agent": text(dice, VISIBLE + "  ", 30) or "a",
    }
    if dice.random() < 0.5:
        headers[f"X-{text(dice, string.ascii_letters, 6)}a"] = text(dice, VISIBLE + "   ", 40)
    body = json.dumps({"nextToken": None, "note": text(dice, VISIBLE + "ä✓", 200)}).encode()
    made = botocore.awsrequest.AWSRequest(method="POST", url=url, headers=headers, data=body)
    region = f"{text(dice, string.ascii_lowercase, 5)}a-1"
    if dice.random() < 0.5:
        botocore.auth.SigV4Auth(credentials, "ecs", region).add_auth(made)
    else:
        # It moves the body's members into the query.
        botocore.auth.SigV4QueryAuth(credentials, "ecs", region, expires=60).add_auth(made)
        body = made.data.encode()
    parts = urllib.parse.urlsplit(made.url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path, dict(made.headers.items()), body


def changed(dice, path, headers, body):
    """The same with a difference that matters."""
    headers = dict(headers)
    at = dice.randrange(5)
    if at == 0 and not body:
        body = b" "
    elif at == 0:
        byte = dice.randrange(len(body))
        body = body[:byte] + bytes([body[byte] ^ (1 << dice.randrange(7))]) + body[byte + 1 :]
    elif at == 1:
        headers["X-Amz-Target"] = f"{TARGET}DeleteCluster"
    elif at == 2:
        headers["X-Amz-Anything"] = "1"
    elif at == 3:
        path += f"{'&' if '?' in path else '?'}more=1"
    else:
        name = dice.choice(["X-Amz-User-Agent", "Content-Type"])
        headers[name] = headers[name] + "x"
    return path, headers, body


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else COUNT
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(2**32)
    dice, wrong = random.Random(seed), 0
    with serving.serving(sys.argv[1], any_key=False) as endpoint:
        key = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        credentials = botocore.credentials.Credentials(*key)
        stranger = botocore.credentials.Credentials(key[0], "another")
        netloc = urllib.parse.urlsplit(endpoint).netloc
        connection = http.client.HTTPConnection(netloc, timeout=serving.PATIENCE_S)

        def answered(path, headers, body):
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            return "" if answer.status == 200 else said["__type"]

        for _ in range(count):
            signed = request(dice, netloc, credentials)
            for what, found, good in [
                ("signed", answered(*signed), {""}),
                ("changed", answered(*changed(dice, *signed)), REFUSALS),
                ("signed with another secret", answered(*request(dice, netloc, stranger)), REFUSALS),
            ]:
                if found not in good:
                    wrong += 1
                    print(f"{what}, and the answer is {found or 'good'}: {signed}")
    print(f"seed {seed}: {count} requests signed, changed and forged; {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
