"""The parts of the engine bindings."""
