"""The metrics of a node, in the form that Prometheus reads.

Nothing is measured here: the services count while they work, in plain numbers, and what is here reads them when
somebody asks. :mod:`.families` has every name, kind and help text, and the reference page is made of them;
:mod:`.figures` and :mod:`.mailboxes` read a node; :mod:`.exposition` puts what they read under its names and writes it
out; :mod:`.scrape` does that at most once a second, whoever asks.
"""
