"""The engine on this machine: extends a picture from its own texture, with no model, no key and no network."""
