"""What operators use, against real nodes: starting, endpoints, alerts, the page in a browser, nginx, rolling out."""
