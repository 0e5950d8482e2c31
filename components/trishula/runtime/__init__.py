"""What the rest runs on: answers that are not here yet, the reactor or event loop, clocks and timers."""
