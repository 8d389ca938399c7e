import contextlib
import http.client
import re
import threading

import pytest

from harness.__main__ import main
from harness.cli import watch
from harness.report.live import LivePage, live_server
from harness.spec import CHECKS


@pytest.fixture
def running(make_run, release_cells, thresholds):
    """Make a run that has ended two of its three cells."""
    required = tuple(f"{cell.id}:{check}" for cell in release_cells[:3] for check in CHECKS)
    changes = {"is_over": False, "environment_after": {}, "tier": "nightly", "required": required}
    run = make_run("run", release_cells[:2], **changes)
    (run.root / "thresholds.toml").write_bytes(thresholds.path.read_bytes())
    (run.root / "logs").mkdir()
    (run.root / "logs" / "progress-gw0.log").write_text("first\nexport <b>, 30 s\n")
    return run


@contextlib.contextmanager
def served(page):
    with live_server(page, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def got(port, path="/", method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {} if host is None else {"Host": host}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def finish(run):
    facts = run.facts()
    run.write_facts(facts.model_copy(update={"is_over": True, "environment_after": {"a": "b"}}))


def test_a_running_run_shows_what_has_ended_and_then_its_end(running):
    with served(LivePage(running.root)) as port:
        status, text = got(port)
        assert status == 200
        assert "The run goes on: 8 of 12 checks have ended." in text
        assert "export &lt;b&gt;, 30 s" in text
        assert 'http-equiv="refresh"' in text
        assert "stopped" not in text
        # No file lies beside a page that is served.
        assert not re.findall(r'href="(?!#|data:)[^"]*"', text)
        finish(running)
        _, text = got(port)
        assert "The run goes on" not in text
        assert 'http-equiv="refresh"' not in text
        assert "8 of 12 required checks passed; 4 checks have not run in full" in text


def test_it_speaks_the_language_that_is_asked_for(running):
    text = LivePage(running.root, spoken="zh").html()
    assert '<html lang="zh">' in text
    assert "运行仍在进行：12 项检查中已结束 8 项。" in text


def test_while_a_record_is_written_the_page_before_is_shown(running):
    with served(LivePage(running.root)) as port:
        before = got(port)
        with (running.root / "records.jsonl").open("a") as file:
            file.write('{"schema_version":1,"run_id":')
        assert got(port) == before


def test_it_reads_only_and_answers_this_machine_alone(running):
    files = sorted(running.root.rglob("*"))
    with served(LivePage(running.root)) as port:
        assert got(port, "/records.jsonl")[0] == 404
        assert got(port, method="POST")[0] == 501
        assert got(port, host="evil.example")[0] == 404
        assert got(port, host=f"localhost:{port}")[0] == 200
    assert sorted(running.root.rglob("*")) == files


def test_the_command_ends_with_the_run(running, capsys, monkeypatch):
    monkeypatch.setattr(watch, "_LINGER_S", 0.0)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: finish(running))
    assert main(["watch", str(running.root)]) == 0
    address, last = capsys.readouterr().out.splitlines()
    assert address.startswith("http://127.0.0.1:")
    assert last.endswith("the run is over; harness report makes its page")


def test_what_is_not_a_run_is_refused(tmp_path, capsys):
    assert main(["watch", str(tmp_path)]) == 2
    assert "is it a run folder?" in capsys.readouterr().err
