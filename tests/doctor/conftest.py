"""What the tests of the detectors share."""

import importlib

import pytest

from cookbook.doctor.checks import Skip


@pytest.fixture
def found(request):
    """`found(run)`: fault → finding, by the checks of the file that this test file mirrors."""
    mirrored = request.path.stem.removeprefix("test_")
    checks = importlib.import_module(f"cookbook.doctor.{mirrored}").CHECKS

    def of(run):
        findings = {}
        for check in checks:
            try:
                findings |= {f.fault: f for f in check(run)}
            except Skip:
                pass
        return findings

    return of
