"""How much one session and one agent may have open: the bounds, the sentences, the counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.errors import CallsExceeded, InstancesExceeded, SubscriptionsExceeded, TrishulaError
from trishula_router.agents.quotas import PER_AGENT, SESSION_INSTANCES, Quota, Quotas
from trishula_router.settings.limits import Limits

LIMITS = Limits(payload_bytes=1, mailbox_messages=1, mailbox_bytes=1, store_bytes=1, batch_messages=1)


@given(st.sampled_from(Quota), st.integers(0, 5000), st.integers(0, 20_000))
def test_below_both_bounds_one_more_is_let_in_and_at_one_of_them_none(kind: Quota, session: int, agent: int) -> None:
    quotas = Quotas(LIMITS)
    of_session, of_agent = quotas.most(kind)
    if session < of_session and agent < of_agent:
        quotas.admit(kind, "dc", session, agent)
        assert quotas.told()[kind.value] == 0
    else:
        with pytest.raises(TrishulaError) as caught:
            quotas.admit(kind, "dc", session, agent)
        assert f"limits.{kind.value}" in caught.value.sentence
        assert quotas.told() == {**dict.fromkeys((one.value for one in Quota), 0), kind.value: 1}


def test_a_refusal_says_who_has_how_many_and_what_to_do() -> None:
    quotas = Quotas(replace(LIMITS, subscriptions=3, instances=7))
    with pytest.raises(SubscriptionsExceeded) as caught:
        quotas.admit(Quota.SUBSCRIPTIONS, "dc", 3, 3)
    assert caught.value.sentence == (
        "this session of dc has as many subscriptions as this node allows: 3 a session and 12 an agent "
        "(limits.subscriptions); unsubscribe from some"
    )
    with pytest.raises(InstancesExceeded) as instances:
        quotas.admit(Quota.INSTANCES, "dc", 1, 7)
    assert instances.value.sentence == (
        "dc has as many instances as this node allows: 7 (limits.instances); use one of them again, or wait until some "
        "are forgotten (delivery.instance_grace)"
    )


def test_an_agent_may_have_so_many_times_what_a_session_may() -> None:
    quotas = Quotas(LIMITS)
    assert quotas.most(Quota.CALLS) == (LIMITS.calls, PER_AGENT * LIMITS.calls)
    assert quotas.most(Quota.INSTANCES) == (SESSION_INSTANCES, LIMITS.instances)
    with pytest.raises(CallsExceeded):
        quotas.admit(Quota.CALLS, "dc", 0, PER_AGENT * LIMITS.calls)
