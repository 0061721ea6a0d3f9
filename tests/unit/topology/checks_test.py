from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.topology import checks
from harness.topology.checks import Verdict


def test_versions() -> None:
    assert checks.version_tuple("v2.26.1-4") == (2, 26, 1)
    assert checks.version_tuple("20.10.24+dfsg1") == (20, 10, 24)
    assert checks.version_tuple("dev") == ()
    assert checks.api("1.41").verdict == Verdict.OK
    assert checks.api("1.9").verdict == Verdict.FAIL
    assert checks.compose("2.26.1").verdict == Verdict.OK
    assert checks.compose("1.29.2").verdict == Verdict.FAIL
    assert checks.compose("").verdict == Verdict.FAIL


def test_memory_and_disk_are_held_against_the_plan() -> None:
    assert checks.memory(10**9, None).verdict == Verdict.OK
    assert checks.memory(10**9, 10**8).verdict == Verdict.OK
    assert checks.memory(10**9, 6 * 10**8).verdict == Verdict.WARN
    assert checks.memory(10**9, 2 * 10**9).verdict == Verdict.FAIL
    assert checks.disk("disk", 10**10, 10**9).verdict == Verdict.OK
    assert checks.disk("disk", 10**9, None).verdict == Verdict.WARN
    assert checks.disk("disk", 10**9, 10**10).verdict == Verdict.FAIL


def test_descriptors_for_the_sampler() -> None:
    assert checks.descriptors(1024, None).verdict == Verdict.OK
    assert checks.descriptors(1024, 1024).verdict == Verdict.OK
    short = checks.descriptors(1023, 1024)
    assert short.verdict == Verdict.FAIL
    assert "1023" in short.found
    assert "ulimit -Hn 1024" in short.remedy


def test_what_makes_figures_worse_is_a_warning_with_a_remedy() -> None:
    for check in (
        checks.clock(3600.0, "tsc"),
        checks.clock(0.0, "hpet"),
        checks.swap(10**9, 5 * 10**8),
        checks.huge_pages("[always] madvise never\n"),
        checks.load(3.0, 2),
        checks.peaks(1, "cgroupfs", "child", "creating cgroups needs root"),
    ):
        assert check.verdict == Verdict.WARN
        assert check.remedy
    for check in (
        checks.clock(0.1, "tsc"),
        checks.swap(0, 0),
        checks.huge_pages("always [madvise] never\n"),
        checks.huge_pages(""),
        checks.load(0.2, 2),
        checks.peaks(2, "systemd", "container", ""),
    ):
        assert check.verdict == Verdict.OK


def test_which_peaks_there_are_is_told_with_what_stands_against_the_others() -> None:
    exact = checks.peaks(2, "systemd", "container", "")
    assert exact.found == (
        "cgroup v2, driver systemd, agent is a container: the kernel's, of containers, services"
        " and the topology"
    )
    assert exact.remedy == ""
    sampled = checks.peaks(1, "none", "child", "the engine manages no cgroups (driver none)")
    assert sampled.found == (
        "cgroup v1, driver none, agent is a child: sampled for services: the engine manages no"
        " cgroups (driver none)"
    )


@given(st.text())
def test_any_text_is_a_version_or_none(text: str) -> None:
    assert all(number >= 0 for number in checks.version_tuple(text))
    assert checks.huge_pages(text).found
