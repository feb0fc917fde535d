"""The local page of runs: what it lists, and what no request gets."""

import contextlib
import http.client
import os
import re
import socket
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from parcnet_train.actions.watch import server
from parcnet_train.actions.watch.server import Site
from parcnet_train.actions.watch.states import Watcher
from parcnet_train.errors import ConfigError
from watched_runs import plant, plant_all, results_of

PAGE = b"<!doctype html><title>A run</title><h1>A run</h1>"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return the outer folder of the watched one, with secrets beside it."""
    outer = tmp_path_factory.mktemp("outer").resolve()
    runs = plant_all(outer / "runs")
    (outer / "secret.txt").write_text("secret")
    (outer / "report.html").write_text("secret")
    (outer / "runs" / "report.html").write_text("secret")  # of no run
    for name in ("finished", "failed"):
        (runs[name] / "report.html").write_bytes(PAGE)
    (runs["stopped"] / "report.html").symlink_to(outer / "secret.txt")
    (runs["killed"] / "report.html").mkdir()
    os.mkfifo(runs["running"] / "report.html")
    other = plant(outer / "other" / "run")
    (other / "report.html").write_text("secret")
    (outer / "runs" / "link").symlink_to(other)
    for inner in (
        plant(runs["finished"] / "inner"),  # not listed: in a run
        plant(outer / "runs" / "export", results=results_of(action="export")),  # without a metric
    ):
        (inner / "report.html").write_text("secret")
    odd = plant(outer / "runs" / "odd <b>&#?% é", results=results_of())
    (odd / "report.html").write_bytes(PAGE)
    return outer


@contextlib.contextmanager
def serving(*folders):
    with Site(Watcher(folders), 0) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def site(root):
    with serving(root / "runs") as site:
        yield site


def ask(site, target, method="GET", **headers):
    """Send a request as it is typed, and return status, headers and content."""
    connection = http.client.HTTPConnection(*site.server_address, timeout=10)
    connection.putrequest(method, target, skip_host=True)
    for name, value in {"Host": f"127.0.0.1:{site.server_address[1]}", **headers}.items():
        for each in value if isinstance(value, list) else [value]:
            connection.putheader(name, each)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


GROUP = "/classification/parcnet_s-demo"


def test_index_lists_all_runs_and_links_those_with_a_page(site):
    status, headers, content = ask(site, "/")
    text = content.decode()
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "6 runs below" in text
    odd = quote("/odd <b>&#?% é/report.html")
    links = re.findall('<a href="([^"]*)"', text.partition("<script>")[0])
    assert set(links) == {f"{GROUP}/finished/report.html", f"{GROUP}/failed/report.html", odd}
    assert "odd &lt;b&gt;&amp;#?% é" in text
    assert "the loss is not finite" in text
    assert all(ask(site, link)[0] == 200 for link in links)


def test_page_of_a_run_reloads_itself_when_it_has_changed(site, root):
    target = f"{GROUP}/finished/report.html"
    _, headers, content = ask(site, target)
    assert content.startswith(PAGE)
    assert headers["ETag"].encode().strip(b'"') in content.removeprefix(PAGE)
    assert ask(site, target)[1]["ETag"] == headers["ETag"]
    file = root / "runs" / target[1:]
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert ask(site, target)[1]["ETag"] != headers["ETag"]


def test_head_sends_the_headers_only(site):
    _, headers, content = ask(site, "/")
    status, of_head, nothing = ask(site, "/", "HEAD")
    assert (status, nothing) == (200, b"")
    assert of_head["Content-Length"] == headers["Content-Length"] == str(len(content))


def test_headers_of_a_page_are_sent_without_reading_it_or_other_runs(site, monkeypatch):
    target = f"{GROUP}/finished/report.html"
    _, headers, content = ask(site, target)
    monkeypatch.setattr(server, "read_regular", pytest.fail)
    monkeypatch.setattr(Watcher, "read", pytest.fail)
    status, of_head, nothing = ask(site, target, "HEAD")
    assert (status, nothing, of_head["ETag"]) == (200, b"", headers["ETag"])
    assert of_head["Content-Length"] == headers["Content-Length"] == str(len(content))


def test_runs_beside_the_watched_folders_have_no_page(root):
    runs = root / "runs"
    with serving(runs / "classification", runs / "odd <b>&#?% é") as site:
        assert ask(site, f"{GROUP}/finished/report.html")[0] == 200
        assert ask(site, quote("/odd <b>&#?% é/report.html"))[0] == 200
        assert ask(site, "/report.html")[0] == 404
    with serving(runs / "odd <b>&#?% é", root / "other") as site:
        assert ask(site, "/other/run/report.html")[0] == 200
        assert ask(site, f"/runs{GROUP}/finished/report.html")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT"])
def test_nothing_can_be_written(site, method):
    assert ask(site, "/", method)[0] == 501


OUTSIDE = (
    "/../secret.txt",
    "/../report.html",
    "/..%2fsecret.txt",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%252fsecret.txt",
    "/..\\secret.txt",
    "/..%5csecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/classification/../../secret.txt",
    "/../other/run/report.html",
    "//../other/run/report.html",
    "/link/report.html",
    "{outer}/secret.txt",
    "/{outer}/secret.txt",
    "{outer}/runs" + GROUP + "/finished/report.html",
    "http://127.0.0.1{outer}/secret.txt",
    "file://{outer}/secret.txt",
    "//etc/passwd",
    "/etc/passwd",
    "/report.html",
    GROUP + "/finished/results.json",
    GROUP + "/finished/",
    GROUP + "/finished/report.html/",
    GROUP + "/finished/./report.html",
    GROUP + "/finished/../finished/report.html",
    GROUP + "/finished/report.html%00",
    GROUP + "/finished/report.html%00.txt",
    GROUP + "/finished/inner/report.html",
    "/export/report.html",
    GROUP + "/stopped/report.html",  # a link
    GROUP + "/killed/report.html",  # a folder
    GROUP + "/running/report.html",  # a FIFO
    "*",
    "secret.txt",
    "/" + "../" * 40 + "etc/passwd",
    "/%",
    "/%zz",
    "/" + "a" * 3000,
)


@pytest.mark.parametrize("target", OUTSIDE)
def test_no_address_leads_outside_the_pages_of_the_runs(site, root, target):
    status, _, content = ask(site, target.replace("{outer}", str(root)))
    assert status in (400, 404)
    assert b"secret" not in content
    assert b"root:" not in content
    assert b"A run" not in content


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:9000", "127.0.0.1:1"])
def test_names_of_this_machine_are_answered(site, host):
    assert ask(site, "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "evil.example:127.0.0.1",
        "0.0.0.0",
        "[::1]",
        "127.0.0.1@evil.example",
        "",
        [],
        ["127.0.0.1", "evil.example"],
        ["evil.example", "127.0.0.1"],
    ],
)
@pytest.mark.parametrize("target", ["/", f"{GROUP}/finished/report.html"])
def test_other_names_get_nothing(site, host, target):
    status, _, content = ask(site, target, Host=host)
    assert status == 403
    assert b"run" not in content


def test_answers_allow_no_other_site_to_read_or_frame_them(site):
    for target in ("/", f"{GROUP}/finished/report.html", "/nothing"):
        headers = ask(site, target)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def test_server_listens_at_this_machine_only(site):
    assert site.socket.getsockname()[0] == "127.0.0.1"


def test_a_client_that_goes_away_leaves_no_traceback(site, capfd):
    with socket.create_connection(site.server_address) as connection:
        connection.sendall(b"GET /")
    assert ask(site, "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_used_port_is_a_fault(site):
    port = site.server_address[1]
    with pytest.raises(ConfigError) as caught:
        Site(Watcher([Path()]), port)
    assert str(caught.value) == (
        f"watch.port={port}: this port is in use; expected a free port. Fix: watch.port=0 takes "
        "any free one"
    )


def test_a_watched_run_and_a_folder_without_runs(root, tmp_path):
    run = root / "runs" / "classification" / "parcnet_s-demo" / "finished"
    with serving(run) as site:
        assert b'href="/report.html"' in ask(site, "/")[2]
        assert ask(site, "/report.html")[0] == 200
        site.watcher = Watcher([tmp_path])
        assert b"There is no run below" in ask(site, "/")[2]
