"""The terminal: plain lines without one, a bar on one, silence when asked, warnings always."""

import io
import sys

import pytest

from credit.runs.screen import Screen

ROW = {"epoch": 1, "train_loss": 0.5, "train_top1": 0.25, "val_top1": 0.5, "test_top1": 0.75, "memorized": 0.1}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_with_the_time_left(capsys):
    with Screen(20) as screen:
        screen.begin(5)
        for step in range(6, 11):
            screen.step(step)
        screen.evaluated(ROW, 2.0)
        screen.step(20)
        screen.evaluated(ROW, 2.0)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("epoch 1/2  loss 0.5  train 25.00%  val 50.00%  test 75.00%  wrong labels memorized 10.00%")
    assert first.endswith(" s left") and "left" not in last


def test_silent_but_for_warnings(capsys):
    with Screen(20, show=False) as screen:
        screen.begin(0)
        screen.step(1)
        screen.line("no")
        screen.evaluated(ROW, 2.0)
        screen.warn("yes")
    out, err = capsys.readouterr()
    assert out == "" and err == "warning: yes\n"


def test_a_bar_where_there_is_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Screen(20) as screen:
        screen.begin(10)
        screen.step(15)
        screen.line("[a line] with brackets")
        screen.warn("careful")
    shown = terminal.getvalue()
    assert "15/20" in shown and "left" in shown and "[a line] with brackets" in shown and "careful" in shown


@pytest.mark.parametrize("missing", ["train_loss", "val_top1", "memorized"])
def test_shows_what_there_is(capsys, missing):
    screen = Screen(1)
    screen.evaluated({key: value for key, value in ROW.items() if key != missing}, 1.0)
    assert "test 75.00%" in capsys.readouterr().out
