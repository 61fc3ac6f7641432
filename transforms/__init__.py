"""Pure functions of pixels, bitstreams and an explicit generator: no Beam, no torch, no files."""
