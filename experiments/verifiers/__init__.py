"""Which verifier of backward passes finds which planted fault."""
