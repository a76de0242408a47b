"""The SARIF log satisfies the standard's own schema and says where, what, how bad, and what was accepted.

The schema comes from the npm package @microsoft/jest-sarif (unpacked to share/sarif of the environment, or named by SARIF_SCHEMA);
without it the tests that need it are skipped.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from agent_core.config import environ
from agent_plugins.scanning import engine, report, sarif
from agent_plugins.scanning.engine import scan_text

PLACES = (
    environ().get("SARIF_SCHEMA", ""),
    f"{sys.prefix}/share/sarif/sarif-2.1.0.json",
    f"{sys.prefix}/node_modules/@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json",
)
SCHEMA = next((Path(place) for place in PLACES if place and Path(place).is_file()), None)
TOKEN = "sk_live_" + "Zq8Xw2Lm9Rt4Kp7Vb3Nc6Hd1"
TEXT = f"import os\nos.system('ls ' + x)\nt = '{TOKEN}'  # security: ignore[stripe-key] revoked last year\n"


def log(*texts, explanations=None, missed=()):
    scans = [scan_text(path, text) for path, text in texts]
    return sarif.log(engine.joined([*scans, engine.Scan(missed=tuple(missed))]), "security-scanner", "1.2.3", explanations)


def problems(document):
    if SCHEMA is None:
        pytest.skip("the SARIF schema is not installed (npm pack @microsoft/jest-sarif)")
    import jsonschema

    schema = json.loads(SCHEMA.read_text("utf-8"))
    checker = jsonschema.validators.validator_for(schema)(schema, format_checker=jsonschema.FormatChecker())
    return [f"{list(each.absolute_path)}: {each.message[:200]}" for each in checker.iter_errors(json.loads(json.dumps(document)))]


@pytest.mark.parametrize(
    "document",
    [
        log(),
        log(("a.py", TEXT)),
        log(
            ("/abs/a b.py", TEXT),
            ("c:d.py", TEXT),
            (os.fsdecode(b"caf\xe9\n.py"), TEXT),
            ("ünï#?.py", TEXT),
            ("lone\ud800.py", TEXT),
        ),
        log(("a.py", TEXT), explanations={"F1": {"explanation": "It runs.", "fix": "Do not."}}, missed=("b: too large",)),
        log(("a.py", "t = '\x1b[31m" + TOKEN + "\ud800'\neval(x)\n")),
        log(("a.py", "")),
    ],
    ids=["nothing", "findings", "odd names", "explained", "odd characters", "empty"],
)
def test_a_log_satisfies_the_schema_of_sarif(document):
    assert problems(document) == []


def test_a_result_says_what_where_and_how_bad():
    run = log(("src/a.py", TEXT))["runs"][0]
    result = run["results"][0]

    assert result["ruleId"] == run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "python-shell"
    assert result["level"] == "error"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "src/a.py", "uriBaseId": "%SRCROOT%"}
    region = {name: place["region"][name] for name in ("startLine", "startColumn", "endLine", "endColumn")}
    assert region == {"startLine": 2, "startColumn": 1, "endLine": 2, "endColumn": 21}
    assert result["partialFingerprints"]
    assert "suppressions" not in result


def test_an_accepted_finding_is_there_with_its_suppression():
    result = log(("a.py", TEXT))["runs"][0]["results"][1]

    assert result["suppressions"] == [{"kind": "inSource", "justification": "revoked last year"}]


def test_paths_are_percent_encoded_uris():
    uris = {
        path: sarif.log(engine.joined([scan_text(path, "eval(x)\n")]), "s", "1")
        for path in ("a b#.py", "/x/é.py", os.fsdecode(b"\xe9.py"))
    }
    found = [each["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in uris.values()]

    assert found == ["a%20b%23.py", "file:///x/%C3%A9.py", "%E9.py"]


def test_no_secret_is_in_a_log_and_the_marks_that_stand_for_them_are_named():
    document = log(("a.py", TEXT))
    text = json.dumps(document)

    assert TOKEN[8:] not in text
    assert "[secret]" in document["runs"][0]["redactionTokens"]
    assert "[secret]" in text


def test_what_was_not_read_is_a_notification():
    notes = log(("a.py", TEXT), missed=("big.py: not scanned",))["runs"][0]["invocations"][0]["toolExecutionNotifications"]

    assert [each["message"]["text"] for each in notes] == ["big.py: not scanned"]


def test_the_log_and_the_report_hold_the_same_findings():
    scan = engine.joined([scan_text("a.py", TEXT)])
    results = sarif.log(scan, "s", "1")["runs"][0]["results"]
    rows = report.value(scan)

    assert len(results) == len(rows["findings"]) + len(rows["accepted"])
