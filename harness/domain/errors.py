"""The errors a user can meet, as one small tree.

HarnessError                 the request was wrong, or could not be served; exit code 2
├── SuiteError               a declaration is wrong: a suite, a path, a value, an expression
├── DataError                a dataset cannot be had, or is not what it should be
├── ResultsError             a results folder or file cannot be written or read
├── SetupError               this machine or cluster cannot do what was asked
└── ClusterLostError         what ran the trials is gone in the middle of a run, which can be resumed; exit code 75

Workloads add two that only fail a trial: ReportError (what a function or a program reports is no measurement) and
ProgramError (a program that did not end well).

A trial that fails is no error but a result: see `harness.domain.outcome`.
"""

from __future__ import annotations


class HarnessError(Exception):
    """One clear message: what is wrong, where, with which value, and the way out."""

    exit_code = 2


class SuiteError(HarnessError):
    """A declaration is wrong."""


class DataError(HarnessError):
    """A dataset cannot be had, or is not what it should be."""


class ResultsError(HarnessError):
    """A results folder or file cannot be written or read."""


class SetupError(HarnessError):
    """This machine or cluster cannot do what was asked."""


class ClusterLostError(HarnessError):
    """What ran the trials is gone in the middle of a run; what was recorded is kept, and the run can be resumed."""

    exit_code = 75


def a(noun: str) -> str:
    """Return the noun with its article."""
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"


def known(names: object) -> str:
    """Return the names that would have been right, sorted and joined for a message."""
    return ", ".join(sorted(str(name) for name in names))  # type: ignore[attr-defined]
