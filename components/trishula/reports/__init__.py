"""Reports on a span of time, for people: figures and plots, made from the journal."""
