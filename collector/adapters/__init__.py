"""How the world is reached: each adapter implements a port."""
