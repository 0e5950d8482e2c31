-- Schema version 6: the newest word on the bus's mode is found without reading the journal; see bus_mode.py.

-- Of the few records of that kind alone, so that it costs the others next to nothing.
CREATE INDEX mode_record ON journal (position) WHERE kind = 'mode';
