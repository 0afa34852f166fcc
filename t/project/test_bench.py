"""The benchmark: its figures, tables and chart, what it refuses, its relay;
and quick rows of it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
import xml.etree.ElementTree as ElementTree

import pytest

from lib.server import MODULE_SO, PATIENCE, SANITIZE, STOCK, TOP

BENCH = os.path.join(TOP, "bench")
sys.path.append(BENCH)

import client   # noqa: E402
import cost     # noqa: E402
import delay    # noqa: E402
import files    # noqa: E402
import report   # noqa: E402
import rows     # noqa: E402
import servers  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
RUN = {
    "names": ["h2x", "stock", "nginx"], "rounds": 3, "few": 1, "others": 0,
    "titles": {"h2x": "mod_h2x", "stock": "mod_http2", "nginx": "nginx"},
    "date": "2026-01-02 03:04 +0000", "cores": 2, "processor": "CPU",
    "kernel": "6", "versions": {"h2x": "mod_h2x 1"}, "delay": "a relay"}


def cell(*values, **details):
    return {"values": list(values), "details": [details] * len(values)}


def summary(*of):
    """The report of (name, unit, section, {server: cell})."""
    table = [types.SimpleNamespace(
        name=name, title="work " + name, unit=unit, section=section,
        more_is_better=unit == "req/s") for name, unit, section, _ in of]
    return report.summarise(table, {name: cells for name, _, _, cells in of},
                            RUN)


@pytest.fixture
def both():
    """A row where more is better and one where less is."""
    return summary(
        ("load", "req/s", "main", {
            "h2x": cell(300, 100, 200, client_busy=0.99, server_cpu_us=7),
            "stock": cell(50, 50, 50, client_busy=0.2, server_cpu_us=30),
            "nginx": cell(400, 400, 400, client_busy=0.9, server_cpu_us=3)}),
        ("time", "ms", "main", {
            "h2x": cell(2), "stock": cell(500),
            "nginx": {**cell(), "failed": "round 1: broken"}}))


def lines_of(table):
    return [[part.strip() for part in line.strip("|").split("|")]
            for line in table.splitlines() if line.startswith("|")]


# --- figures and tables ---

def test_medians_and_ratios(both):
    load, timed = both["rows"]
    assert load["servers"]["h2x"]["median"] == 200
    assert load["servers"]["h2x"]["spread"] == 1
    assert load["ratios"] == {"stock": 4, "nginx": 0.5}
    assert timed["ratios"] == {"stock": 250}


def test_main_table(both):
    main, rest = report.markdown(both)
    head, _, load, timed = lines_of(main)
    assert head == ["work", "mod_h2x", "mod_http2", "nginx",
                    "against mod_http2", "against nginx", "spread"]
    assert load == ["work load, req/s", "200 *", "50", "400", "4", "0.5",
                    "100 %"]
    assert timed == ["work time, ms", "2", "500", "failed [1]", "250", "",
                     "0 %"]
    assert "[1] work time, nginx: round 1: broken" in main
    assert "made by a relay" in main and "disturbed" not in main
    assert ["work load", "7", "30", "3"] in lines_of(rest)


def test_what_a_server_cannot_do():
    main, _ = report.markdown(summary(("row", "KB", "main", {
        "h2x": cell(5), "stock": {**cell(), "unable": "round 1: full"},
        "nginx": cell(10)})))
    assert lines_of(main)[2][1:6] == ["5", "unable [1]", "10", "", "2"]


def test_disturbed_run_says_so(both):
    main, _ = report.markdown({**both, "others": 0.1})
    assert "Other work took 10 % of the processors" in main


def test_http1_table():
    one = summary(
        ("http2-16x10", "req/s", "http1", {"h2x": cell(900)}),
        ("http1-16", "req/s", "http1", {"h2x": cell(300)}),
        ("http1-160", "req/s", "http1", {"h2x": cell(1000)}))
    assert lines_of(report.http1_table(one))[2] == [
        "work http2-16x10", "900", "300", "3", "1,000", "0.9"]


def test_site_tables():
    """Requests a second, and what they cost: there less is better.  Servers
    that are in no such row have no column."""
    run = {**RUN, "names": ["h2x", "stock", "http1", "nginx"],
           "titles": {**RUN["titles"], "http1": "HTTP/1.1"}}
    row = types.SimpleNamespace(name="site", title="page", unit="req/s",
                                section="site", more_is_better=True)
    one = report.summarise([row], {"site": {
        "h2x": cell(50, 50, server_cpu_us=30),
        "stock": cell(100, 100, server_cpu_us=40),
        "http1": cell(200, 200, server_cpu_us=20)}}, run)
    lines = lines_of(report.markdown(one)[0])
    assert lines[0] == ["work", "mod_h2x", "mod_http2", "HTTP/1.1",
                        "against mod_http2", "against HTTP/1.1", "spread"]
    assert lines[2] == ["page, req/s", "50", "100", "200", "0.5", "0.25",
                        "0 %"]
    assert lines[3][4:] == ["mod_h2x / mod_http2", "mod_h2x / HTTP/1.1"]
    assert lines[5] == ["page", "30", "40", "20", "0.75", "1.5"]


def test_scaling_table():
    one = summary(
        ("a", "req/s", "streams", {"h2x": cell(100, machine_busy=0.5)}),
        ("b", "req/s", "streams", {"h2x": cell(400, machine_busy=0.9)}),
        ("c", "req/s", "streams", {"h2x": cell(300, machine_busy=0.95)}))
    notes = []
    table = report.scaling_table(one, "streams", notes)
    assert [line[2:] for line in lines_of(table)[2:]] == [
        ["25 %", "50 %", ""], ["100 %", "90 %", "yes"],
        ["75 %", "95 %", "yes"]]
    assert not notes
    assert report.scaling_table(one, "connections", notes) == ""


# --- the chart ---

def test_chart(both):
    root = ElementTree.fromstring(report.chart(both))
    assert root.get("role") == "img"
    labelled = root.get("aria-labelledby").split()
    texts = {e.get("id"): e.text for e in root if e.get("id")}
    assert texts[labelled[0]] == "mod_h2x against mod_http2 and nginx"
    assert "work load: 4 times mod_http2, 0.5 times nginx" in \
        texts[labelled[1]]
    bars = [e for e in root.iter(SVG + "rect")
            if e.get("class") in ("s0", "s1") and e.get("y") != "40"]
    assert len(bars) == 3
    one = report.across(1)[0]
    ahead, behind, far = [(float(b.get("x")), float(b.get("width")))
                          for b in bars]
    step = report.WIDTH / (report.HIGH - report.LOW)    # a power of two
    assert ahead == pytest.approx((one, 2 * step), abs=0.2)
    assert behind == pytest.approx((one - step, step), abs=0.2)
    assert far[0] + far[1] == pytest.approx(report.LEFT + report.WIDTH,
                                            abs=0.2)
    words = [e.text for e in root.iter(SVG + "text")]
    assert "\u226b 250" in words and "work load" in words
    assert "mod_http2" in words


def test_files(both, tmp_path):
    report.write(both, str(tmp_path / "new"))
    assert json.loads((tmp_path / "new/latest.json").read_text()) == both
    assert "(latest.svg)" in (tmp_path / "new/latest.md").read_text()
    assert (tmp_path / "new/latest.svg").read_text().startswith("<svg")


def test_readme_is_updated_between_the_marks(tmp_path):
    path = tmp_path / "README.md"
    marks = "<!-- bench:start -->\n", "<!-- bench:end -->\n"
    path.write_text("before\n%sold\n%safter\n" % marks)
    report.update_readme(str(path), "| new |")
    text = path.read_text()
    assert text.startswith("before\n" + marks[0])
    assert text.endswith("\n| new |\n%safter\n" % marks[1])
    assert "old" not in text and "(bench/results/latest.svg)" in text
    path.write_text("no marks\n")
    with pytest.raises(SystemExit):
        report.update_readme(str(path), "new")
    assert path.read_text() == "no marks\n"


def test_own_readme_has_the_marks():
    report.update_readme(os.path.join(TOP, "README.md"))


def test_processor_time():
    """Of a process, as it knows it itself."""
    of_one = types.SimpleNamespace(pids=lambda: [os.getpid()])
    before = time.process_time()
    between = servers.Server.cpu(of_one)
    assert before <= between <= time.process_time()


# --- what it refuses ---

OUTPUT = """\
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2
finished in 1.00s, 10.00 req/s, 11KB/s
requests: 10 total, 10 started, {done} done, {done} succeeded, {lost} failed, \
{lost} errored, 0 timeout
status codes: {done} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 11KB (11000) total, 1KB (1000) headers, 10KB ({size}) data
"""


def check(code=0, **values):
    text = OUTPUT.format(**{"done": 10, "lost": 0, "size": 10240, **values})
    for old, new in values.get("change", {}).items():
        assert old in text
        text = text.replace(old, new)
    rows.Load("/1k.png", 1, 1).check(
        types.SimpleNamespace(stdout=text, returncode=code), 10)


def test_good_run_is_taken():
    check()


@pytest.mark.parametrize("wrong", [
    {"done": 9}, {"done": 9, "lost": 1}, {"size": 10239}, {"code": 1},
    {"change": {"TLSv1.3": "TLSv1.2"}}, {"change": {"l: h2": "l: http/1.1"}},
    {"change": {"10 2xx, 0 3xx": "9 2xx, 1 3xx"}},
    {"change": {"X25519 253": "P-256 256"}},
    {"change": {"status codes": "\nstatus", ", 0 5xx": ""}},
], ids=str)
def test_bad_run_is_refused(wrong):
    with pytest.raises(client.Failed):
        check(**wrong)


# --- the long way ---

@pytest.mark.skipif(not files.compiler(), reason="needs a C compiler")
def test_relay(tmp_path):
    """Bytes come whole and late, an end is passed on."""
    program = files.build_program(str(tmp_path), "relay")
    sent = os.urandom(8 << 20)
    times = []

    def echo(listener):
        """Returns the first byte at once, and all at the end."""
        sock = listener.accept()[0]
        with sock:
            sock.sendall(sock.recv(1))
            got = b"".join(iter(lambda: sock.recv(1 << 20), b""))
            sock.sendall(got)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20 * PATIENCE)
        thread = threading.Thread(target=echo, args=(listener,))
        thread.start()
        with delay.by_relay(program)(listener.getsockname()[1]) as port:
            sock = socket.create_connection(("127.0.0.1", port),
                                            20 * PATIENCE)
            with sock:
                begin = time.monotonic()
                sock.sendall(b"1")
                assert sock.recv(1) == b"1"
                times.append(time.monotonic() - begin)
                sock.sendall(sent)
                sock.shutdown(socket.SHUT_WR)
                got = b"".join(iter(lambda: sock.recv(1 << 20), b""))
                times.append(time.monotonic() - begin)
        thread.join(20 * PATIENCE)
    assert got == sent
    assert times[0] >= 2 * delay.MS / 1000
    assert times[1] - times[0] >= 2 * delay.MS / 1000


# --- costs ---

def test_costs_side_by_side(capsys):
    """The sum first, then the largest of any server."""
    cost.show("calls", [{"all": 10, "read": 1, "open": 3, "none": 0},
                        {"all": 1200, "mmap": 1000}], 2)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] \
        == [["calls", "for", "a", "request"], ["10.00", "1,200.00", "all"],
            ["0.00", "1,000.00", "mmap"], ["3.00", "0.00", "open"], []]


# --- rows ---

NEEDED = [tool for tool in ("h2load", "openssl", "nginx")
          if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin")]


def needs_bench(test):
    for skip, why in ((STOCK, "is about mod_h2x.so"),
                      (SANITIZE, "a sanitizer's build is no use"),
                      (NEEDED, "needs " + ", ".join(NEEDED))):
        test = pytest.mark.skipif(bool(skip), reason=why)(test)
    return test


def bench(results, *args):
    """One short round; returns the ended process."""
    return subprocess.run(
        [sys.executable, os.path.join(BENCH, "bench.py"), *args, "--rounds",
         "1", "--seconds", "0.5", "--results", str(results)],
        env={**os.environ, "H2X_MODULE_SO": MODULE_SO}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        timeout=200 * PATIENCE)


@needs_bench
def test_quick_row(tmp_path):
    names = ["1k-1x1", "proxy-1x1", "deflate20-1x10"]
    run = bench(tmp_path, "--rows", ",".join(names), "--servers",
                "h2x,nginx")
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / "latest.json").read_text())
    assert [row["id"] for row in written["rows"]] == names
    for row in written["rows"]:
        assert set(row["servers"]) == {"h2x", "nginx"}
        assert all(c["median"] > 0 for c in row["servers"].values())
        assert row["ratios"]["nginx"] > 0
    assert "1 KB file, 1 x 1, req/s" in run.stdout
    assert "20 KB of CSS, compressed, 1 x 10, req/s" in run.stdout
    ElementTree.parse(str(tmp_path / "latest.svg"))


@needs_bench
def test_quiet_rows(tmp_path):
    """Those where processors have nothing to do most of the time, or memory
    counts."""
    run = bench(tmp_path, "--rows", "paced-20,stalled-streams", "--servers",
                "h2x")
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / "latest.json").read_text())
    paced, stalled = [row["servers"]["h2x"] for row in written["rows"]]
    assert paced["median"] > 0 and stalled["median"] > 0
    assert paced["requests"] == 500
    assert 0 < paced["latency_us"] < 1e6 * PATIENCE
    assert report.DETAILS["latency_us"] in run.stdout


@needs_bench
def test_two_builds_by_turns(tmp_path):
    """Rows of sites, with HTTP/1.1 and another build beside this one."""
    run = bench(tmp_path, "--rows", "site-ssi-1x10,site-deflate-8x10",
                "--servers", "h2x,http1", "--against", MODULE_SO)
    assert run.returncode == 0, run.stderr
    written = json.loads((tmp_path / "latest.json").read_text())
    assert written["names"] == ["h2x", "other", "http1"]
    assert [row["id"] for row in written["rows"]] == ["site-ssi-1x10",
                                                      "site-deflate-8x10"]
    for row in written["rows"]:
        assert all(c["median"] > 0 for c in row["servers"].values())
        assert set(row["ratios"]) == {"other", "http1"}
    assert "against other mod_h2x" in run.stdout
    assert "mod_h2x / HTTP/1.1" in run.stdout
