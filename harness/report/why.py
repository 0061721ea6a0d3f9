"""Why a peak is as high as it is, in words and tables: terminal and page say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.analysis.digits import percent
from harness.analysis.holders import NO_NAME, Holder, Known, known
from harness.analysis.session import distinct_names
from harness.analysis.why import (
    LEAST_SHARE,
    LEFT,
    OWN_PEAK,
    TOPOLOGY_PEAK,
    Account,
    ServerAccount,
    Why,
)
from harness.analysis.why_difference import ServiceChange, differences
from harness.core.files import write_whole
from harness.core.sizes import format_size
from harness.core.text import listed
from harness.report.tables import Table
from harness.results.directory import RunDirectory
from harness.results.rows import csv_line

CSV = "why.csv"
_CSV_COLUMNS = (
    "run_id",
    "data_management",
    "moment",
    "container",
    "kernel_net_bytes",
    "traced_bytes",
    "size_bytes",
    "allocations",
    "payload_copies",
    "payload_bytes",
    "library",
    "place",
    "caller",
)
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# What is less of a peak is not said in a sentence.
_SAID_SHARE = 0.05
_SAID = 5
_MOST_LEFT = 1_000_000
_LEAST_TOLD = 0.02
_LEAST_AGAINST = 0.2


def sentences(why: Why, mode: str | None = None) -> list[str]:
    """Return one sentence for each service of each mode that has a peak to speak of."""
    found = []
    for run in why.session.runs:
        if mode is not None and run.mode != mode:
            continue
        servers = [s for s in why.servers if s.run_id == run.run_id]
        told = [(_net(a), _of_account(why, a)) for a in worth_telling(why, run.run_id, OWN_PEAK)]
        told += [(_net_of_server(s), server_sentence(s)) for s in servers]
        most = max((size for size, _ in told), default=0)
        least = max(_MOST_LEFT, _LEAST_TOLD * most)
        large = [text for size, text in sorted(told, reverse=True) if size >= least]
        found += [f"{run.mode}: {text}" for text in large]
    return found


def _net(account: Account) -> int:
    return account.traced_bytes if account.kernel_bytes is None else account.kernel_bytes


def _net_of_server(server: ServerAccount) -> int:
    if server.kernel_bytes is not None:
        return server.kernel_bytes
    return server.at_peak.used_bytes - server.baseline_bytes


def _of_account(why: Why, account: Account) -> str:
    of_service = [
        a
        for a in why.accounts
        if (a.run_id, a.moment, a.service) == (account.run_id, account.moment, account.service)
    ]
    who = f"the {account.service}"
    if len(of_service) > 1:
        who = f"{account.container}, the highest of {len(of_service)},"
    return sentence(who, account)


def sentence(who: str, account: Account) -> str:
    """Return who holds what at a peak: ``the runner holds four inputs of 100 MB because ...``."""
    total = max(_net(account), 1)
    phrases: dict[str, tuple[int, dict[int, int], Known]] = {}
    others: list[tuple[int, str]] = []
    for holder in account.holders:
        if holder.size_bytes < _SAID_SHARE * total:
            continue
        what = known(holder, account.mode, populated=account.populated) if holder.copies else None
        if what is None:
            others.append((holder.size_bytes, _unknown(holder)))
            continue
        size, copies, _ = phrases.get(what.words, (0, {}, what))
        merged = dict(copies)
        for each, count in holder.copies.items():
            merged[each] = merged.get(each, 0) + count
        phrases[what.words] = size + holder.size_bytes, merged, what
    said = [
        (size, what.words.format(n=_counted(copies, what.noun)))
        for size, copies, what in phrases.values()
    ]
    largest = sorted([*said, *others], reverse=True)[:_SAID]
    parts = [text for _, text in largest]
    if not parts:
        return f"{who} holds {format_size(total)} at its peak, in many small pieces"
    unseen = max(0, total - account.traced_bytes)
    rest = total - unseen - sum(size for size, _ in largest)
    more = "".join(
        f", and {format_size(size)} {what}"
        for size, what in ((rest, "of other things"), (unseen, "that no trace saw"))
        if size >= _SAID_SHARE * total
    )
    return f"{who} holds {listed(parts)}{more}: {format_size(total)} at its peak."


def _unknown(holder: Holder) -> str:
    if not holder.stack:
        what = _counted(holder.copies, "copy") or format_size(holder.size_bytes)
        return f"{what} in threads that run no Python (`--why native` names their libraries)"
    function = holder.stack[0][0] or NO_NAME
    place = f"`{function}` ({holder.library})" if function != NO_NAME else f"`{holder.library}`"
    if holder.copies:
        return f"{_counted(holder.copies, 'copy')} in {place}"
    return f"{format_size(holder.size_bytes)} in {place}"


def _counted(copies: Mapping[int, int], noun: str) -> str:
    """Return ``four inputs of 100 MB and one of 10.0 MB``."""
    parts: list[str] = []
    for size, count in sorted(copies.items(), reverse=True):
        number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
        parts.append(f"{number} {_plural(noun, count) if not parts else ''}".strip())
        parts[-1] += f" of {format_size(size)}"
    return listed(parts)


def _plural(noun: str, count: int) -> str:
    if count == 1:
        return noun
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def server_sentence(server: ServerAccount) -> str:
    """Return what a server held when it held most."""
    row = server.at_peak
    parts = [f"{format_size(row.dataset_bytes)} of objects"]
    if row.output_buffer_bytes >= _MOST_LEFT:
        who = "a client reads" if row.readers == 1 else f"{row.readers} clients read at once"
        parts.append(f"{format_size(row.output_buffer_bytes)} in output buffers because {who}")
    if row.query_buffer_bytes >= _MOST_LEFT:
        who = "a client is" if row.writers == 1 else f"{row.writers} clients are"
        parts.append(
            f"{format_size(row.query_buffer_bytes)} in query buffers because {who} sending"
        )
    kernel = server.kernel_bytes
    net = "" if kernel is None else f"; its net peak is {format_size(kernel)}, by the kernel"
    return f"Redis holds {listed(parts)}, by the fullest of {server.samples} answers{net}."


# --- tables -----------------------------------------------------------------------------------


def account_table(account: Account) -> Table:
    """Return who holds how much of one container's memory, and what that leaves."""
    kernel = account.kernel_bytes
    total = max(_net(account), 1)
    rows: list[tuple[str, ...]] = []
    small = 0
    for holder in account.holders:
        if holder.size_bytes < LEAST_SHARE * total:
            small += holder.size_bytes
            continue
        rows.append(
            (
                format_size(holder.size_bytes),
                f"{holder.size_bytes / total:.0%}".replace("%", " %"),
                _copies(holder),
                holder.library,
                holder.place,
                holder.caller,
            )
        )
    small += account.traced_bytes - sum(holder.size_bytes for holder in account.holders)
    rows.append((format_size(small), "", "", "", "smaller ones, and what has no line", ""))
    rows.append((format_size(account.traced_bytes), "", "", "", "all that Python asked for", ""))
    if kernel is not None:
        rest = kernel - account.traced_bytes
        what = "asked for and not touched" if rest < 0 else "seen by no trace"
        rows.append((format_size(rest), "", "", "", what + _parts(account), ""))
        rows.append((format_size(kernel), "", "", "", "net, by the kernel", ""))
    title = f"{account.mode}: {account.container} at {_moment(account)}"
    header = (" bytes", " share", "payloads", "library", "held by", "called from")
    note = "" if account.processes == 1 else f"{account.processes} traced processes."
    return Table(f"why-{account.run_id}-{account.container}", title, header, tuple(rows), note)


def _moment(account: Account) -> str:
    if account.moment == OWN_PEAK:
        return "its own peak"
    return "the topology's peak" if account.moment == TOPOLOGY_PEAK else "the end, after the run"


def _copies(holder: Holder) -> str:
    found = sorted(holder.copies.items(), reverse=True)
    return ", ".join(f"{count} x {format_size(size)}" for size, count in found)


def _parts(account: Account) -> str:
    """Return the kernel's own kinds of memory that no allocator sees, where they are something."""
    names = {"file_bytes": "page cache", "kernel_bytes": "kernel", "shmem_bytes": "shared"}
    parts = [
        f"{name} {format_size(account.parts[part])}"
        for part, name in names.items()
        if account.parts.get(part, 0) >= 100_000
    ]
    return f" ({', '.join(parts)})" if parts else ""


def overview(why: Why) -> Table:
    """Return of each service the highest container, at its own and at the topology's peak."""
    rows: list[tuple[str, ...]] = []
    for account in _shown(why):
        share = account.attributed
        many = sum(sum(h.copies.values()) for h in account.holders)
        rows.append(
            (
                account.mode,
                account.container,
                account.moment,
                "-" if account.kernel_bytes is None else format_size(account.kernel_bytes),
                format_size(account.traced_bytes),
                "-" if share is None or _net(account) < _MOST_LEFT else _percent(share),
                str(many) if many else "",
                format_size(sum(h.payload_bytes for h in account.holders)),
            )
        )
    header = (
        "mode",
        "container",
        "moment",
        " net, kernel",
        " traced",
        " share with a line",
        " payloads",
        " bytes of these",
    )
    note = (
        "Traced: what Python code had asked for beyond the baseline; more than the kernel's figure"
        " where it was not all touched. At the topology's peak a reading may be 20 ms off."
    )
    return Table("why-overview", "Who holds what, by container", header, tuple(rows), note)


def _shown(why: Why) -> Iterator[Account]:
    for run in why.session.runs:
        for account in worth_telling(why, run.run_id, OWN_PEAK):
            alike = (a for a in why.accounts if a.container == account.container)
            yield from (a for a in alike if a.run_id == run.run_id and a.moment != LEFT)


def worth_telling(why: Why, run_id: str, moment: str) -> list[Account]:
    """Return of each service the highest container, where that is anything beside the others."""
    found = why.highest(run_id, moment)
    most = max((_net(account) for account in found), default=0)
    return [a for a in found if _net(a) >= max(_LEAST_TOLD * most, _MOST_LEFT)]


def _percent(share: float) -> str:
    return percent(share)


# --- two sessions -----------------------------------------------------------------------------


def difference_table(a: Why, b: Why) -> Table:
    """Return what each service holds more or less of at its own peak, and where."""
    rows: list[tuple[str, ...]] = []
    for change in _worth_telling(a, b):
        sizes = _net(change.a), _net(change.b)
        rows.append(
            (change.mode, change.service, *_sides(*sizes), "", "net peak, by the kernel", "")
        )
        for each in change.changes:
            copies = f"{each.a_copies} -> {each.b_copies}" if each.a_copies or each.b_copies else ""
            sides = _sides(each.a_bytes, each.b_bytes)
            rows.append(("", "", *sides, copies, each.place, each.caller))
    first, second = distinct_names([_bench_path(a), _bench_path(b)])
    header = ("mode", "service", f" {first}", f" {second}", " change", "payloads", "held by")
    title = f"What changed at the services' own peaks: {first} -> {second}"
    note = "" if rows else "No peak changed by 1 MB and 2 % of the mode's highest."
    return Table("why-difference", title, (*header, "called from"), tuple(rows), note)


def _worth_telling(a: Why, b: Why) -> Iterator[ServiceChange]:
    """Yield the peaks that changed by something beside the mode's highest."""
    found = list(differences(a, b))
    for change in found:
        alike = [c for c in found if c.mode == change.mode]
        most = max(max(_net(c.a), _net(c.b)) for c in alike)
        if abs(change.change_bytes) >= max(_MOST_LEFT, _LEAST_TOLD * most):
            yield change


def _sides(a: int, b: int) -> tuple[str, str, str]:
    sign = "+" if b > a else ""
    return format_size(a), format_size(b), f"{sign}{format_size(b - a)}"


def _bench_path(why: Why) -> Path:
    path = why.session.path
    return path.parent if path.name == RunDirectory(path).why.name else path


def difference_sentences(a: Why, b: Why) -> list[str]:
    """Return a sentence for each service whose peak changed."""
    found = []
    for change in _worth_telling(a, b):
        by, grows = abs(change.change_bytes), change.change_bytes > 0
        verb = "more" if grows else "less"
        alike = [c for c in change.changes if (c.change_bytes > 0) == grows][:2]
        # Without them the sum would not be the peak's.
        against = [
            c
            for c in change.changes
            if (c.change_bytes > 0) != grows and abs(c.change_bytes) >= _LEAST_AGAINST * by
        ][:2]
        where = [
            f"{format_size(abs(c.change_bytes))} {'more' if c.change_bytes > 0 else 'less'} in"
            f" `{c.place.partition(' ')[0]}`"
            + (f", called from `{c.caller.partition(' ')[0]}`" if c.caller else "")
            for c in (*alike, *against)
        ]
        because = f": {'; '.join(where)}" if where else ""
        found.append(
            f"{change.mode}: the {change.service} needs {format_size(by)} {verb} at its"
            f" peak{because}."
        )
    return found


# --- files ------------------------------------------------------------------------------------


def csv_rows(why: Why) -> Iterator[tuple[object, ...]]:
    """Yield a row for each place that holds something at each moment."""
    for a in why.accounts:
        for holder in a.holders:
            yield (
                a.run_id,
                a.mode,
                a.moment,
                a.container,
                "" if a.kernel_bytes is None else a.kernel_bytes,
                a.traced_bytes,
                holder.size_bytes,
                holder.count,
                sum(holder.copies.values()),
                holder.payload_bytes,
                holder.library,
                holder.place,
                holder.caller,
            )


def write_csv(why: Why, path: Path) -> None:
    """Write all of it for programs. Raises OSError."""
    lines = [csv_line(list(_CSV_COLUMNS)), *(csv_line(list(row)) for row in csv_rows(why))]
    write_whole(path, "".join(lines))
