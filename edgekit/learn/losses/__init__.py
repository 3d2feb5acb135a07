"""Loss primitives: the mathematics that methods are composed of."""
