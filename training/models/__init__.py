"""The networks: CAVSR for clips, two for pictures, and the named configurations of them."""
