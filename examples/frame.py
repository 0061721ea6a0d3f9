"""Group the rows of a table: split into parts, sum each part, add up what came of them.

    harness run --executor process --ps-connector file --ps-file-dir objects \
        --workload python --workflow examples/frame.py:main
"""

PARTS = 6
ROWS = 50_000


def part(number):
    """Return some rows of the table, as columns."""
    return {"key": [(row * 7 + number) % 10 for row in range(ROWS)], "value": list(range(ROWS))}


def sums(table):
    """Return the sum of the values of each key."""
    found = {}
    for key, value in zip(table["key"], table["value"], strict=True):
        found[key] = found.get(key, 0) + value
    return found


def together(*tables):
    """Add up such sums."""
    return {key: sum(table[key] for table in tables) for key in sorted(tables[0])}


def main(client):
    """Make all parts, sum each, and add up."""
    parts = client.map(part, range(PARTS))
    grouped = client.map(sums, parts)
    for each in parts:
        client.evict(each)
    del parts
    total = client.submit(together, *grouped).result()
    print(dict(client.value(total)))
    for each in (*grouped, total):
        client.evict(each)
