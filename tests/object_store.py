"""An S3 server of this machine, and a proxy before it that is slow and makes errors."""

import contextlib
import http.client
import logging
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}
FAULTS = ("error", "dropped", "cut", "short", "changed")


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server, late, some of them with a fault.

    Attributes:
        latency: Seconds before each answer.
        rate: Share of the readings of objects that have a fault.
        faults: The kinds of faults: `error`: status 503; `dropped`: no answer; `cut`: the
            connection ends within the body; `short`: half of the body, as if it were the whole;
            `changed`: one other byte.
        counts: Number of faults so far, by kind, and of requests.
    """

    daemon_threads = True

    def __init__(self, target, latency=0.0, rate=0.0, faults=FAULTS, seed=0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = urlsplit(target)
        self.latency, self.rate, self.faults = latency, rate, faults
        self.random = random.Random(seed)
        self.counts = dict.fromkeys((*FAULTS, "requests"), 0)
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def draw(self):
        with self.lock:
            self.counts["requests"] += 1
            if self.random.random() >= self.rate:
                return None
            fault = self.random.choice(self.faults)
            self.counts[fault] += 1
            return fault

    def handle_error(self, request, client_address):
        """Say nothing: clients leave whenever they like."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length) if length else None
        target = self.server.target
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        connection.request(self.command, self.path, sent, dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        time.sleep(self.server.latency)
        is_object = self.command == "GET" and "list-type" not in self.path and len(body) > 1
        fault = self.server.draw() if is_object else None
        if fault == "dropped":
            self.close_connection = True
            return
        status = 503 if fault == "error" else answer.status
        if fault == "error":
            body = b"<Error><Code>SlowDown</Code></Error>"
        declared = len(body)
        if fault in ("cut", "short"):
            body = body[: len(body) // 2]
            declared = declared if fault == "cut" else len(body)
        if fault == "changed":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header(
            "Content-Length", answer.getheader("Content-Length", "0") if is_head else str(declared)
        )
        self.end_headers()
        if not is_head:
            self.wfile.write(body)
        self.close_connection = fault == "cut"

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

    def log_message(self, *arguments):
        """Say nothing."""


@contextlib.contextmanager
def s3_server():
    """Run moto's S3 server; yields its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line per request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextlib.contextmanager
def proxy(target, **settings):
    """Run a `Proxy`, which yields itself."""
    server = Proxy(target, **settings)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def upload(folder, url, bucket):
    """Put all files of a folder into a new bucket of an S3 server."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=bucket)
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            client.put_object(
                Bucket=bucket, Key=str(path.relative_to(folder)), Body=path.read_bytes()
            )
    return client
