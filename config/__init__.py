"""The node configurations that ship with TRISHULA: plain Crossbar.io JSON, see "Configuring a node" in README.rst."""
