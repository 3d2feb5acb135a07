"""Convolutions by fewer multiplications: F(2,3) and F(4,3), for floats and for levels."""
