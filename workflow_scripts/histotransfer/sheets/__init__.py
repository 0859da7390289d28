"""Sample sheets, and third-party tables that sheets are made of."""
