"""The gateway: Blipline over HTTP; it needs the extra `blipline[gateway]`."""
