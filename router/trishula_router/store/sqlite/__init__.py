"""The store on SQLite: a node's messages and journal in one file."""
