"""HTTP gateway: the REST API, server-sent events and webhooks; needs `blipline[gateway]`."""
