"""A job that is killed and run again gives the files of one that was not, and touches no shipped weights."""

from __future__ import annotations

import json

import pytest

from tests import forks
from tests.fixtures import REPOSITORY
from tests.kills import server
from tests.kills.jobs import JOBS, shipped


def killed(job, where, moments):
    """What differs at each moment."""
    done = forks.Fork(lambda: server.main(job, str(where), moments), REPOSITORY).wait(7200)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert results
    return [result for result in results if result["again"] != 0 or result["differ"]], results


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_job_killed_at_some_moment_is_the_same_when_run_again(tmp_path, job):
    before = shipped()
    wrong, results = killed(job, tmp_path, "some 1")
    assert wrong == []
    assert any(result["first"] != 0 for result in results)
    assert shipped() == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("job", JOBS)
def test_a_job_killed_at_every_event_and_at_twenty_times(tmp_path, job):
    before = shipped()
    wrong, results = killed(job, tmp_path, "every")
    print(job, f"{len(wrong)} of {len(results)}")
    assert wrong == []
    assert shipped() == before
