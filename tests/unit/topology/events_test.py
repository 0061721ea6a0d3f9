from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.topology.engine import ROLE_LABEL
from harness.topology.events import Event, Kind, parse_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_deaths_memory_and_cuts_are_told_apart() -> None:
    attributes = {"name": "wmh1-worker-2", ROLE_LABEL: "worker", "exitCode": "137"}
    died = parse_event({"Action": "die", "Actor": {"ID": "abc", "Attributes": attributes}})
    assert died == Event(Kind.DIED, "abc", "wmh1-worker-2", "worker", 137)
    short = parse_event({"Action": "oom", "Actor": {"ID": "abc", "Attributes": attributes}})
    assert short is not None
    assert short.kind == Kind.MEMORY
    cut = {"name": "wmh1_default", "container": "abc", "type": "bridge"}
    message = {"Action": "disconnect", "Actor": {"ID": "net", "Attributes": cut}}
    assert parse_event(message, "wmh1_default") == Event(Kind.CUT, "abc")
    assert parse_event(message, "wmh2_default") is None
    assert parse_event({"Action": "start", "Actor": {"Attributes": attributes}}) is None


@given(
    st.dictionaries(st.sampled_from(["Action", "Actor", "Type"]), JSON)
    | st.fixed_dictionaries(
        {
            "Action": st.sampled_from(["die", "oom", "disconnect"]) | JSON,
            "Actor": st.fixed_dictionaries(
                {"ID": JSON, "Attributes": st.dictionaries(st.text(), JSON)}
            ),
        }
    )
)
def test_any_message_is_an_event_or_nothing(message: dict[str, object]) -> None:
    found = parse_event(message, "wmh1_default")
    assert found is None or found.kind in Kind
