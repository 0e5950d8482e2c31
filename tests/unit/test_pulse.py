"""When a peer is pinged, and when it is given up."""

from __future__ import annotations

from trishula.session.pulse import Pulse, PulseStep


def looks(pulse: Pulse, now_s: float, until_s: float) -> list[tuple[float, PulseStep]]:
    """What is to be done when, up to an instant, if it looks when it was told to."""
    found: list[tuple[float, PulseStep]] = []
    while now_s < until_s:
        step, again_s = pulse.look(now_s)
        if step is not PulseStep.NOTHING:
            found.append((round(now_s, 3), step))
        if step is PulseStep.DEAD:
            break
        now_s += again_s
    return found


def test_silence_is_asked_about_and_ends() -> None:
    assert looks(Pulse(1.5, 2.0, 0.0), 0.0, 10.0) == [(1.5, PulseStep.PING), (3.6, PulseStep.DEAD)]


def test_whoever_is_heard_is_not_pinged() -> None:
    pulse = Pulse(1.5, 2.0, 0.0)
    for tenth in range(1, 50):
        pulse.heard_s = tenth / 10
        assert pulse.look(tenth / 10 + 0.05)[0] is PulseStep.NOTHING


def test_any_byte_is_an_answer() -> None:
    pulse = Pulse(1.5, 2.0, 0.0)
    assert pulse.look(1.5)[0] is PulseStep.PING
    pulse.heard_s = 3.4
    assert looks(pulse, 3.5, 6.0) == [(4.9, PulseStep.PING)]


def test_a_process_that_stood_still_looks_twice_before_it_blames_its_peer() -> None:
    pulse = Pulse(1.5, 2.0, 0.0)
    assert pulse.look(1.5)[0] is PulseStep.PING
    # It was stopped for a minute; timers fire before anything is read.
    step, again_s = pulse.look(61.5)
    assert step is PulseStep.NOTHING
    assert again_s > 0
    pulse.heard_s = 61.5
    assert pulse.look(61.5 + again_s)[0] is PulseStep.NOTHING
    assert pulse.look(63.0)[0] is PulseStep.PING


def test_a_peer_that_is_yet_to_serve_us_may_be_silent() -> None:
    pulse = Pulse(1.5, 2.0, 0.0)
    pulse.begin(10.0)
    assert looks(pulse, 0.0, 12.0) == [(11.5, PulseStep.PING)]
    pulse.begin(0.0)
    assert pulse.look(13.6)[0] is PulseStep.NOTHING
    assert pulse.look(13.8)[0] is PulseStep.DEAD


def test_a_peer_that_serves_us_at_last_is_not_looked_at_too_late() -> None:
    # Seen: cut off right after it had joined, a client noticed it after 13 s.
    pulse = Pulse(1.5, 2.0, 0.0)
    pulse.begin(10.0)
    step, again_s = pulse.look(0.0)
    assert step is PulseStep.NOTHING
    pulse.begin(0.0)
    pulse.heard_s = 0.5
    assert looks(pulse, again_s, 20.0) == [(2.0, PulseStep.PING), (4.1, PulseStep.DEAD)]
