"""A report is readable lines, or one JSON object that nothing else mixes with."""

import io
import json
import logging
import os
import warnings

from burnish.terminal import print_report, quiet_libraries, report_of

REPORT = {"rows": 12345, "loss": 0.123456789, "ok": True, "left": {"train": 3}, "none": []}


def test_a_reader_gets_a_line_for_each_value_and_nested_ones_indented():
    out = io.StringIO()
    print_report(REPORT, out, as_json=False)
    assert (
        out.getvalue() == "rows: 12,345\nloss: 0.123457\nok: yes\nleft:\n  train: 3\nnone: none\n"
    )


def test_a_list_of_texts_stands_on_lines_of_its_own():
    out = io.StringIO()
    print_report({"files": ["a.csv", "b.csv"]}, out, as_json=False)
    assert out.getvalue() == "files:\n  a.csv\n  b.csv\n"


def test_a_list_of_mappings_has_a_line_for_each():
    out = io.StringIO()
    trials = [{"r": 8, "loss": 1.54815529, "failed": None}, {"r": 1600, "ok": False}]
    print_report({"trials": trials}, out, as_json=False)
    assert out.getvalue() == "trials:\n  r: 8, loss: 1.54816, failed: none\n  r: 1,600, ok: no\n"


def test_with_json_what_the_work_writes_goes_to_stderr_even_past_python(capfd):
    def work():
        os.write(1, b"from a library in C\n")
        return REPORT

    report_of(work, as_json=True)
    out, err = capfd.readouterr()
    assert json.loads(out) == REPORT
    assert err == "from a library in C\n"


def test_without_json_report_and_noise_share_stdout(capfd):
    report_of(lambda: {"rows": 1}, as_json=False)
    assert capfd.readouterr().out == "rows: 1\n"


def test_what_libraries_say_of_their_versions_is_left_out():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn("this will go", FutureWarning, stacklevel=1)
        warnings.warn("this matters", UserWarning, stacklevel=1)
    assert [str(w.message) for w in seen] == ["this matters"]
    assert not logging.getLogger("bitsandbytes.backends").isEnabledFor(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.NOTSET)
